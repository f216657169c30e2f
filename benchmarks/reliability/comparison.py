"""What a disturbed sweep lost, made twice, left behind or made otherwise, beside an undisturbed one."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from sweeps.store.records import Results, Run


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Counts; all but `trials` are 0 where nothing was lost."""

    trials: int
    """runs of the undisturbed sweep"""
    lost: int
    """runs that the disturbed one lacks, or has not ended"""
    twice: int
    """runs and trials of the disturbed one beside those of the undisturbed one"""
    orphans: int
    """trials of Optuna's that have not ended, or have no run"""
    differing: int
    """runs with another outcome, another config, other parameters or other losses, to the last bit"""

    def __add__(self, other: Comparison) -> Comparison:
        names = [field.name for field in dataclasses.fields(self)]
        return Comparison(**{name: getattr(self, name) + getattr(other, name) for name in names})


NOTHING = Comparison(trials=0, lost=0, twice=0, orphans=0, differing=0)


def compare(whole: Results, disturbed: Results, trials: dict[str, Sequence[FrozenTrial]]) -> Comparison:
    """Compare two sweeps of one study. `trials` are Optuna's of the disturbed one, by the names of Optuna's studies."""
    expected = Counter(run.key for run in whole.runs)
    ended = Counter(run.key for run in disturbed.runs if not run.unfinished)
    numbers = {(run.optuna_study, run.trial) for run in disturbed.runs}
    held = {(name, trial.number) for name, several in trials.items() for trial in several}
    orphans = held - numbers
    open_ = {
        (name, trial.number)
        for name, several in trials.items()
        for trial in several
        if trial.state in (TrialState.RUNNING, TrialState.WAITING)
    }
    first = {run.key: run for run in reversed(whole.runs)}
    return Comparison(
        trials=len(whole.runs),
        lost=(expected - ended).total() + len(numbers - held),
        twice=(Counter(run.key for run in disturbed.runs) - expected).total(),
        orphans=len(orphans | open_),
        differing=sum(run.key in first and result_of(run) != result_of(first[run.key]) for run in disturbed.runs),
    )


def result_of(run: Run) -> tuple[object, ...]:
    """Return what a run's config and seed determine. A loss that isn't a number is told by its name.

    The origin of a branch is known by its file's digest, and the file holds the folder in which it was written.
    """
    config = {name: value for name, value in run.config.as_dict().items() if name != "origin"}
    losses = [(point.step, repr(point.train_loss), repr(point.val_loss)) for point in run.points]
    return run.outcome, run.trial, config, dict(run.params), repr(run.val_loss), repr(run.val_se), losses
