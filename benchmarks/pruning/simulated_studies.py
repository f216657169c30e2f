"""Simulated studies: Optuna with a sampler and a pruner on a landscape, until a given compute is spent."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from benchmarks.pruning.curve_banks import Floats
from benchmarks.pruning.surrogate import Params
from sweeps.engine.sampler import make_sampler
from sweeps.pruning.pruner import LR, PlateauPruner
from sweeps.study.study import Study

SPENT = (0.25, 0.5, 1.0)
"""shares of the compute at which incumbents are compared"""
SAMPLERS = ("tpe", "random")
NONE = "none"
PRUNERS: dict[str, Callable[[int], BasePruner]] = {
    NONE: lambda _: optuna.pruners.NopPruner(),
    "median": lambda _: optuna.pruners.MedianPruner(),
    "hyperband": lambda _: optuna.pruners.HyperbandPruner(),
    "sha": lambda _: optuna.pruners.SuccessiveHalvingPruner(),
    "plateau": lambda trials: PlateauPruner(trials=trials, sentinel=0),
}
"""by name; called with the study's number of trials"""


class Landscape(Protocol):
    """What a study optimises; Surrogate says what the methods return."""

    @property
    def space(self) -> Mapping[str, BaseDistribution]: ...
    @property
    def evaluations(self) -> int: ...
    def expected(self, params: Params, /) -> Floats: ...
    def curve(self, params: Params, /, *, seed: int) -> Floats: ...
    def rates(self, params: Params, /) -> Floats | None: ...


class Cell(NamedTuple):
    """One study to run."""

    sampler: str
    pruner: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class SimulatedTrial:
    """One trial that has ended."""

    evaluations: int
    """number that it ran"""
    found: float
    """final loss, nats per token; infinite where the trial was pruned"""
    expected: float
    """final loss without noise, nats per token"""


@dataclass(frozen=True, kw_only=True)
class StudyOutcome:
    """One study: its incumbents, and what they cost."""

    at_compute: tuple[SimulatedTrial, ...]
    """incumbent at each of `SPENT`"""
    at_trials: SimulatedTrial
    """incumbent among the first `trials`"""
    compute: float
    """of the first `trials`"""
    trials: int
    """number run until all compute was spent"""


def study_outcome(landscape: Landscape, settings: Study, cell: Cell, *, trials: int) -> StudyOutcome:
    """Run a study until the compute of `trials` unpruned trials is spent."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    whole = trials * landscape.evaluations
    sampled = settings.model_copy(
        update={"seed": cell.seed, "sampler": settings.sampler.model_copy(update={"type": cell.sampler})}
    )
    study = optuna.create_study(study_name=f"study-{cell.seed}", pruner=PRUNERS[cell.pruner](trials))
    ran: list[SimulatedTrial] = []
    while sum(trial.evaluations for trial in ran) < whole:
        study.sampler = make_sampler(sampled, trial_number=len(ran))
        ran.append(run_trial(landscape, study, seed=cell.seed))
    return StudyOutcome(
        at_compute=tuple(incumbent(within(ran, share * whole)) for share in SPENT),
        at_trials=incumbent(ran[:trials]),
        compute=sum(trial.evaluations for trial in ran[:trials]) / whole,
        trials=len(ran),
    )


def run_trial(landscape: Landscape, study: optuna.Study, *, seed: int) -> SimulatedTrial:
    """Ask for a trial, and run it until it ends or is pruned."""
    trial, end = study.ask(dict(landscape.space)), landscape.evaluations
    rates, losses = landscape.rates(trial.params), landscape.curve(trial.params, seed=seed).tolist()
    if rates is not None:
        trial.set_user_attr(LR, rates.tolist())
    expected = float(landscape.expected(trial.params)[-1])
    for evaluation, loss in enumerate(losses):
        trial.report(loss, evaluation)
        if 0 < evaluation < end and trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return SimulatedTrial(evaluations=evaluation, found=np.inf, expected=expected)
    study.tell(trial, losses[-1])
    return SimulatedTrial(evaluations=end, found=losses[-1], expected=expected)


def within(ran: Sequence[SimulatedTrial], evaluations: float) -> Sequence[SimulatedTrial]:
    """Return the trials that ended within a number of evaluations, in their order."""
    spent = np.cumsum([trial.evaluations for trial in ran])
    return ran[: int(np.searchsorted(spent, evaluations, side="right"))]


def incumbent(ran: Sequence[SimulatedTrial]) -> SimulatedTrial:
    """Return the trial with the lowest found loss. There is always one, because the first trial is never pruned."""
    return min(ran, key=lambda trial: trial.found)


def outcomes(
    landscape: Landscape, settings: Study, cells: Sequence[Cell], *, trials: int, jobs: int
) -> Iterator[StudyOutcome]:
    """Yield the outcomes in the order of the cells."""
    outcome_of = partial(study_outcome, landscape, settings, trials=trials)
    if jobs == 1:
        yield from map(outcome_of, cells)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(outcome_of, cells)
