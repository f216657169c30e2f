"""A study's trials in Optuna: asked, reported, pruned, told, and taken up again after a crash.

Two Optuna studies in one store. `<name>` is the search: its sampler, its pruner and the dashboard's best value see
only its trials. `<name>-confirm` holds what they must not see: further seeds of the baseline, candidates that the space
can't express, and the runs of the confirm phase.

Pruning is decided on a copy of the histories in memory: Optuna's pruners read all trials at each decision, which
SQLite answers 36 times a second. The search itself has no pruner, so its sampler learns from all trials; Optuna would
give TPE those of one Hyperband bracket only, too few in 40 trials.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from sweeps.engine import sampler
from sweeps.engine.tpe import Past
from sweeps.pruning.pruner import LR, PRUNED, SENTINEL
from sweeps.store.mirror import Mirror
from sweeps.store.optuna_storage import Storage
from sweeps.store.records import Outcome, Pruning
from sweeps.study import space
from sweeps.study.proposals import Proposal
from sweeps.study.study import CONFIRM, Study

_KEY = "key"
_NO_SAMPLER = RandomSampler(seed=0)  # for trials that leave nothing to choose


@dataclass
class Asked:
    """A RUNNING trial of ours."""

    optuna_study: str
    number: int
    key: str | None
    """of the proposal it runs; None: the sampler's"""
    params: Mapping[str, Any]
    trial: optuna.Trial
    reported: set[int] = field(default_factory=set)
    """evaluation indices that Optuna has"""


class _Memory(InMemoryStorage):
    """Optuna's storage in memory, which picks the trials of some states once for all looks until one has another state.

    A pruner asks for those that have ended at every look, and to walk through a thousand takes longer than its own
    arithmetic. It must not change the list that it gets.
    """

    def __init__(self) -> None:
        super().__init__()
        self._picked: dict[tuple[int, tuple[TrialState, ...]], list[FrozenTrial]] = {}

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        self._picked.clear()
        return super().create_new_trial(study_id, template_trial)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        self._picked.clear()
        return super().set_trial_state_values(trial_id, state, values)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if deepcopy or not isinstance(states, tuple) or not all(state.is_finished() for state in states):
            # one that runs is another object after each report
            return super().get_all_trials(study_id, deepcopy, states)
        key = study_id, states
        if key not in self._picked:
            self._picked[key] = super().get_all_trials(study_id, deepcopy, states)
        return self._picked[key]


class OptunaTrials:
    """Optuna's side of a study."""

    def __init__(self, study: Study, storage: Storage) -> None:
        self._study, self._storage = study, storage
        mirror = Mirror(storage)
        self._space: dict[str, BaseDistribution] = space.distributions(study)
        self._search, self._confirm = (
            optuna.create_study(
                storage=mirror,
                study_name=name,
                direction="minimize",
                load_if_exists=True,
                sampler=_NO_SAMPLER,
                pruner=optuna.pruners.NopPruner(),
            )
            for name in (study.name, study.name + CONFIRM)
        )
        with _quiet():
            self._pruner = sampler.make_pruner(study)
        self._memory = _Memory()
        # Hyperband's brackets go by the study's name and the trial's number: both are the same in the copy
        self._copy = optuna.create_study(
            storage=self._memory, study_name=study.name, direction="minimize", pruner=self._pruner
        )
        self._copied = 0
        self._past = Past()

    # asking

    def keys(self) -> set[str]:
        """Keys of the proposals that have a trial, in whatever state."""
        trials = [*self._search.get_trials(deepcopy=False), *self._confirm.get_trials(deepcopy=False)]
        return {trial.user_attrs[_KEY] for trial in trials if _KEY in trial.user_attrs}

    def unfinished(self) -> list[Asked]:
        """What an earlier session left: RUNNING trials, and the one it had queued but not asked when it was killed."""
        studies = (self._search, self._confirm)
        for study in studies:
            while any(_KEY in trial.user_attrs for trial in _waiting(study)):
                study.ask()
        running = [(study, trial) for study in studies for trial in study.get_trials(states=(TrialState.RUNNING,))]
        taken_up = [self._taken_up(study, trial.number) for study, trial in running]
        self._copy_new()
        return taken_up

    def queued(self) -> bool:
        """Whether the search has a trial that the user has put there (Study.enqueue_trial), not begun yet."""
        return self._storage.waits(self._search._study_id)

    def ask(self, proposal: Proposal | None = None) -> Asked:
        """A new trial: the proposal's, else the next queued, else the sampler's."""
        study = self._search
        if proposal is not None:
            if proposal.params is None or proposal.seed != self._study.seed:
                study = self._confirm
            study.enqueue_trial(proposal.params or {}, user_attrs={_KEY: proposal.key})
        study.sampler = _NO_SAMPLER
        asked = self._taken_up(study, study.ask().number)
        if study is self._search:
            self._copy_new()
        return asked

    def _taken_up(self, study: optuna.Study, number: int) -> Asked:
        """The trial with all its parameters; those it lacks are proposed, as they were to be when it was killed."""
        frozen = study._storage.get_trial(
            study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        )
        fixed = frozen.system_attrs.get("fixed_params", {})
        names = self._space.keys() if study is self._search else self._space.keys() & fixed.keys()
        with _quiet():
            free = names - fixed.keys() - frozen.params.keys()
            study.sampler = _NO_SAMPLER
            if free:
                study.sampler = sampler.make_sampler(self._study, trial_number=number, past=self._past)
            trial = optuna.Trial(study, frozen._trial_id)
            for name in self._space:
                if name in names:
                    trial._suggest(name, self._space[name])
        return Asked(
            optuna_study=study.study_name,
            number=number,
            key=frozen.user_attrs.get(_KEY),
            params=dict(trial.params),
            trial=trial,
            reported=set(frozen.intermediate_values),
        )

    # reporting and pruning

    def begin(self, asked: Asked, *, rates: Sequence[float]) -> None:
        """Note the learning rates at the trial's evaluations, for the pruner, before anything is reported."""
        self._note(asked, LR, list(rates))

    def report(self, asked: Asked, *, index: int, value: float) -> None:
        """Note the loss at evaluation `index`; one that Optuna has already stays."""
        if index in asked.reported:
            return
        asked.trial.report(value, step=index)
        asked.reported.add(index)
        if asked.optuna_study == self._study.name:
            self._memory.set_trial_intermediate_value(self._copy_id(asked), index, value)

    def should_prune(self, asked: Asked, *, index: int, step: int) -> bool:
        """Whether the pruner ends this sampler's trial at the evaluation just reported.

        Asked again about the same evaluation it answers the same, also after a crash: the decision is written down
        before anything follows from it.
        """
        trial_id = self._copy_id(asked)
        before = self._memory.get_trial(trial_id)
        if PRUNED in before.user_attrs:
            return True
        if not math.isfinite(before.intermediate_values[index]):
            return False  # the trainer says what a loss that is no number means
        prune = bool(self._pruner.prune(self._copy, before))  # it may be numpy's
        after = self._memory.get_trial(trial_id)
        noted = {name: after.user_attrs[name] for name in after.user_attrs.keys() - before.user_attrs.keys()}
        if prune and not noted:
            noted = {PRUNED: self._numbers(before, after.system_attrs, index=index)}
        for name, numbers in noted.items():
            self._note(asked, name, {**numbers, "step": step})
        for name in after.system_attrs.keys() - before.system_attrs.keys():  # rungs, which must outlive the copy
            asked.trial.storage.set_trial_system_attr(asked.trial._trial_id, name, after.system_attrs[name])
        return prune

    def _numbers(self, frozen: FrozenTrial, attrs: Mapping[str, Any], *, index: int) -> dict[str, Any]:
        """What decided, for a pruner of Optuna's: this trial's loss and best so far, and those it was compared with."""
        new = sorted(attrs.keys() - frozen.system_attrs.keys())
        others = [trial for trial in self._copy.get_trials(deepcopy=False) if trial.number != frozen.number]
        complete = [trial for trial in others if trial.state is TrialState.COMPLETE]
        if new:
            peers = [trial.system_attrs[new[-1]] for trial in others if new[-1] in trial.system_attrs]
        else:
            peers = [trial.intermediate_values[index] for trial in complete if index in trial.intermediate_values]
        rule = self._study.pruner.type
        return {
            "rule": rule,
            "reason": rule,
            "evaluation": index,
            "val_loss": frozen.intermediate_values[index],
            "completed": len(peers),
            "best": min((trial.value for trial in complete if trial.value is not None), default=None),
            "best_so_far": min(loss for loss in frozen.intermediate_values.values() if math.isfinite(loss)),
            "peers_median": statistics.median(peers) if peers else None,
            "peers_best": min(peers) if peers else None,
        }

    def pruning(self, asked: Asked) -> Pruning | None:
        """Why the pruner has stopped this trial of the search, or would have; None: it has not decided against it."""
        attrs = self._memory.get_trial(self._copy_id(asked)).user_attrs
        name = next((name for name in (PRUNED, SENTINEL) if name in attrs), None)
        if name is None:
            return None
        numbers = dict(attrs[name])
        if predicted := numbers.pop("predicted", None):
            numbers |= {"predicted": predicted["mean"], "scale": predicted["scale"], "degrees": predicted["degrees"]}
        return Pruning(sentinel=name == SENTINEL, **numbers)

    def _note(self, asked: Asked, name: str, value: Any) -> None:
        """Set a user attribute of the trial, first where it lasts, then in the copy."""
        asked.trial.set_user_attr(name, value)
        if asked.optuna_study == self._study.name:
            self._memory.set_trial_user_attr(self._copy_id(asked), name, value)

    # telling

    def tell(
        self, asked: Asked, *, outcome: Outcome, reason: str, val_loss: float | None, index: int, attrs: Mapping[str, Any]
    ) -> None:
        """End the trial. Only a complete one has a value; only a failed one is FAIL, which samplers ignore.

        `index`: the evaluation at or before which it ended.
        """
        study = self._search if asked.optuna_study == self._study.name else self._confirm
        for name, value in {"outcome": outcome, "reason": reason, **attrs}.items():
            asked.trial.set_user_attr(name, value)  # before it is finished: then it takes no more
        if outcome == Outcome.INFEASIBLE and not asked.trial.constraints:
            # On infeasible trials only: TPE takes a trial without constraints as feasible, and GP would fit a model
            # to a constraint that all its trials meet.
            asked.trial.set_constraint("fits_memory", 1.0)
        if outcome == Outcome.DIVERGED:
            self.report(asked, index=index, value=math.nan)  # TPE ranks it behind all that got there
        if outcome == Outcome.COMPLETE:
            state, value = TrialState.COMPLETE, val_loss
        elif outcome == Outcome.FAILED:
            state, value = TrialState.FAIL, None
        else:
            state, value = TrialState.PRUNED, None
        with _quiet():
            study.tell(asked.number, value, state=state)
        if study is self._search:
            self._memory.set_trial_state_values(self._copy_id(asked), state, None if value is None else (value,))

    # the copy in memory

    def _copy_new(self) -> None:
        """Take trials that the copy lacks into it, in the order of their numbers, which they keep.

        Those that wait are left for later: they have no parameters yet, and are begun in their order.
        """
        trials = self._search.get_trials(deepcopy=False)[self._copied :]
        for trial in itertools.takewhile(lambda trial: trial.state is not TrialState.WAITING, trials):
            self._copy.add_trial(trial)
            self._copied += 1

    def _copy_id(self, asked: Asked) -> int:
        return self._memory.get_trial_id_from_study_id_trial_number(self._copy._study_id, asked.number)


def _waiting(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.WAITING,))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's warnings of experimental features, which are our choice and not the user's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
