"""Optuna's storage as the one who writes it has it: every write goes to SQLite at once, what is read is in memory.

Optuna's own cache reads all trials that run anew whenever it is asked for trials, for another process may have written
to them. Here nobody else does: a trial that this process has begun, or has written to, is its own until it ends. All
others that haven't ended are still read anew, and trials that somebody has queued are found by their count.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import _CachedStorage
from optuna.storages._cached_storage import _StudyInfo
from optuna.trial import FrozenTrial, TrialState

from sweeps.store.optuna_storage import Storage


class Mirror(_CachedStorage):
    """A cache of `backend` that holds what it would read from there, its own trials that run included.

    A trial that has been handed out stays as it is: a write puts another in its place.
    """

    _backend: Storage

    def __init__(self, backend: Storage) -> None:
        super().__init__(backend)
        self._own: set[int] = set()
        """ids of trials that only this process writes to and that haven't ended"""

    # reading

    def _get_cached_trial(self, trial_id: int) -> FrozenTrial | None:
        if trial_id in self._own:
            study_id, number = self._trial_id_to_study_id_and_number[trial_id]
            return self._studies[study_id].trials[number]
        return super()._get_cached_trial(trial_id)

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        with self._lock:
            study = self._studies.setdefault(study_id, _StudyInfo())
            others = study.unfinished_trial_ids - self._own
            if not others and self._backend.count(study_id) == len(study.trials):
                return
            known = {trial._trial_id for trial in study.trials.values()}
            missing = self._backend.ids(study_id) - known
            trials = self._backend._get_trials(
                study_id,
                states=None,
                included_trial_ids=others,
                trial_id_greater_than=min(missing) - 1 if missing else max(known, default=-1),
            )
            trials = [trial for trial in trials if trial._trial_id in missing | others]
            self._add_trials_to_cache(study_id, trials)
            for trial in trials:
                if trial.state.is_finished():
                    study.unfinished_trial_ids.discard(trial._trial_id)
                else:
                    study.unfinished_trial_ids.add(trial._trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        self._read_trials_from_remote_storage(study_id)
        with self._lock:
            study = self._studies[study_id]
            numbers: Iterable[int] = range(len(study.trials))
            if states is not None and not any(state in states for state in TrialState if state.is_finished()):
                places = (self._trial_id_to_study_id_and_number[each] for each in study.unfinished_trial_ids)
                numbers = sorted(number for _, number in places)
            trials = [study.trials[number] for number in numbers]
        if states is not None:
            wanted = {id(state) for state in TrialState if state in states}  # which is found sooner than a number
            trials = [trial for trial in trials if id(trial.state) in wanted]
        return copy.deepcopy(trials) if deepcopy else trials

    # writing: first where it lasts

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = super().create_new_trial(study_id, template_trial)
        with self._lock:
            _, number = self._trial_id_to_study_id_and_number[trial_id]
            trial = self._studies[study_id].trials[number]
            if template_trial is not None:  # as it can be read: what was given may have other types
                trial = self._backend.get_trial(trial_id)
                self._add_trials_to_cache(study_id, [trial])
            if not trial.state.is_finished():
                self._studies[study_id].unfinished_trial_ids.add(trial_id)
            if trial.state is TrialState.RUNNING:
                self._own.add(trial_id)
        return trial_id

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

        def change(trial: FrozenTrial) -> None:
            if param_name not in trial.params:  # the first value stays
                value = distribution.to_external_repr(param_value_internal)
                trial.params = {**trial.params, param_name: value}
                trial.distributions = {**trial.distributions, param_name: distribution}

        self._written(trial_id, change)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)

        def change(trial: FrozenTrial) -> None:
            trial.intermediate_values = {**trial.intermediate_values, step: float(intermediate_value)}

        self._written(trial_id, change)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_user_attr(trial_id, key, value)

        def change(trial: FrozenTrial) -> None:
            trial.user_attrs = {**trial.user_attrs, key: json.loads(json.dumps(value))}

        self._written(trial_id, change)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_system_attr(trial_id, key, value)

        def change(trial: FrozenTrial) -> None:
            trial.system_attrs = {**trial.system_attrs, key: json.loads(json.dumps(value))}

        self._written(trial_id, change)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        ended = self._backend.end(trial_id, state, values) if state.is_finished() else None
        if ended is None:
            done = False
            try:
                done = super().set_trial_state_values(trial_id, state, values)
            finally:
                with self._lock:
                    self._own.discard(trial_id)
                    self._read(trial_id, own=done)
            return done

        def change(trial: FrozenTrial) -> None:
            trial.state, trial.datetime_complete = state, ended
            trial.values = None if values is None else [float(value) for value in values]

        self._written(trial_id, change)
        with self._lock:
            self._own.discard(trial_id)
            if (place := self._trial_id_to_study_id_and_number.get(trial_id)) is not None:
                self._studies[place[0]].unfinished_trial_ids.discard(trial_id)
        return True

    def _written(self, trial_id: int, change: Callable[[FrozenTrial], None]) -> None:
        """Have what has just been written to the trial here too. From now on it is this process's own."""
        with self._lock:
            if trial_id not in self._own:
                self._read(trial_id, own=True)
                return
            study_id, number = self._trial_id_to_study_id_and_number[trial_id]
            trial = copy.copy(self._studies[study_id].trials[number])
            change(trial)
            self._studies[study_id].trials[number] = trial

    def _read(self, trial_id: int, *, own: bool) -> None:
        """Have the trial as the backend does; `own`: if it runs, it is this process's."""
        if (place := self._trial_id_to_study_id_and_number.get(trial_id)) is None:
            return  # its study has not been read
        trial, study = self._backend.get_trial(trial_id), self._studies[place[0]]
        self._add_trials_to_cache(place[0], [trial])
        if trial.state.is_finished():
            study.unfinished_trial_ids.discard(trial_id)
        else:
            study.unfinished_trial_ids.add(trial_id)
        if own and trial.state is TrialState.RUNNING:
            self._own.add(trial_id)
