"""A study's trials in Optuna: asking, reporting, telling, and resuming after a crash.

One store holds two Optuna studies. `<name>` is the search: its sampler, its pruner and the dashboard's best value see
only its trials. `<name>-confirm` holds what they must not see: the baseline on other seeds, candidates that the space
can't express, and the runs of the confirm phase.

The search itself has no pruner. With Hyperband set on the study, Optuna would show TPE the trials of one bracket only,
which are too few in 40 trials.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from sweeps.engine.sampler import make_sampler, no_experimental_warnings
from sweeps.store.records import Outcome
from sweeps.store.store import optuna_trial
from sweeps.study import space
from sweeps.study.proposals import Proposal, present_name
from sweeps.study.study import CONFIRM, Study

_KEY, _PARAMS = "key", "params"
"""user attributes of a trial that runs a proposal: the proposal's key, and the names of the parameters that it gives"""
_RESTING = RandomSampler(seed=0)
"""for trials that leave nothing to choose"""


@dataclass
class Asked:
    """A running Optuna trial of this study."""

    optuna_study: str
    number: int
    key: str | None
    """key of its proposal; None: the sampler proposed it"""
    params: Mapping[str, Any]
    trial: optuna.Trial
    reported: set[int] = field(default_factory=set)
    """indices of the evaluations that Optuna has"""


class OptunaTrials:
    """The trials of a study in Optuna, through Optuna's public interface."""

    def __init__(self, study: Study, storage: optuna.storages.RDBStorage) -> None:
        self._study, self._storage = study, storage
        self._space = space.distributions(study)
        self._search, self._confirm = (
            optuna.create_study(
                storage=storage,
                study_name=name,
                direction="minimize",
                load_if_exists=True,
                sampler=_RESTING,
                pruner=optuna.pruners.NopPruner(),
            )
            for name in (study.name, study.name + CONFIRM)
        )

    # asking

    def unfinished(self) -> list[Asked]:
        """Return the running trials of earlier sessions. A proposal that was queued but not asked is asked first."""
        studies = (self._search, self._confirm)
        for study in studies:
            while any(_KEY in trial.user_attrs for trial in _in_state(study, TrialState.WAITING)):
                study.ask()
        running = [(study, trial.number) for study in studies for trial in _in_state(study, TrialState.RUNNING)]
        return [self._with_all_params(study, number) for study, number in running]

    def counts(self) -> dict[str, int]:
        """Return how many trials Optuna has in each of its studies, by their names."""
        return {study.study_name: len(study.get_trials(deepcopy=False)) for study in (self._search, self._confirm)}

    def queued(self) -> bool:
        """Whether the user has put a trial into the search (Study.enqueue_trial) that has not begun."""
        return bool(_in_state(self._search, TrialState.WAITING))

    def ask(self, proposal: Proposal | None = None) -> Asked:
        """Begin a trial: the proposal's, or without one the next of the user's queue, or else the sampler's."""
        study = self._search
        if proposal is not None:
            if proposal.params is None or proposal.seed != self._study.seed:
                study = self._confirm
            params = dict(proposal.params or {})
            study.enqueue_trial(params, user_attrs={_KEY: proposal.key, _PARAMS: sorted(params)})
        return self._with_all_params(study, study.ask().number)

    def _with_all_params(self, study: optuna.Study, number: int) -> Asked:
        """Return an existing trial with all its parameters; missing ones get the values of an uninterrupted sweep."""
        frozen = study.get_trials(deepcopy=False)[number]
        stored = frozen.user_attrs.get(_KEY)
        key = None if stored is None else present_name(stored)
        names: Collection[str] = self._space
        if study is self._confirm:
            names = frozen.user_attrs.get(_PARAMS, frozen.params)
        with no_experimental_warnings():
            if key is None and not self._space.keys() <= frozen.params.keys():
                study.sampler = make_sampler(self._study, trial_number=number)
            trial = optuna_trial(self._storage, study, number)
            for name, distribution in self._space.items():
                if name in names:
                    _suggest(trial, name, distribution)
            study.sampler = _RESTING
        return Asked(
            optuna_study=study.study_name,
            number=number,
            key=key,
            params=dict(trial.params),
            trial=trial,
            reported=set(frozen.intermediate_values),
        )

    # reporting

    def report(self, asked: Asked, *, index: int, value: float) -> None:
        """Report the loss at evaluation `index`, unless Optuna has it already."""
        if index not in asked.reported:
            asked.trial.report(value, step=index)
            asked.reported.add(index)

    # telling

    def tell(
        self,
        asked: Asked,
        *,
        outcome: Outcome,
        reason: str,
        val_loss: float | None,
        index: int,
        attrs: Mapping[str, Any],
    ) -> None:
        """End the trial. Only a complete trial has a value; only a failed one is FAIL, which samplers ignore.

        `index`: the evaluation at or before which it ended.
        """
        study = self._search if asked.optuna_study == self._study.name else self._confirm
        # attributes first: a finished trial takes no more
        for name, value in {"outcome": outcome, "reason": reason, **attrs}.items():
            asked.trial.set_user_attr(name, value)
        if outcome == Outcome.INFEASIBLE and not asked.trial.constraints:
            # On infeasible trials only: TPE takes a trial without constraints as feasible, and GP would fit a model
            # to a constraint that all its trials meet.
            asked.trial.set_constraint("fits_memory", 1.0)
        if outcome == Outcome.DIVERGED:
            # TPE ranks it behind every trial that reached this evaluation
            self.report(asked, index=index, value=math.nan)
        if outcome == Outcome.COMPLETE:
            state, value = TrialState.COMPLETE, val_loss
        elif outcome == Outcome.FAILED:
            state, value = TrialState.FAIL, None
        else:
            state, value = TrialState.PRUNED, None
        with no_experimental_warnings():
            study.tell(asked.number, value, state=state)


def _in_state(study: optuna.Study, state: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(state,))


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> None:
    """Suggest a parameter from its distribution; a value that the trial already has stays."""
    match distribution:
        case FloatDistribution():
            trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
        case IntDistribution():
            trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
        case optuna.distributions.CategoricalDistribution():
            trial.suggest_categorical(name, distribution.choices)
        case _:
            raise AssertionError(f"{name}: the space has no {type(distribution).__name__}")
