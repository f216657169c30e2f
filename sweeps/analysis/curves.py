"""A study's runs as the laws and rules of curves see them: losses by evaluation, schedule, scaled knobs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sweeps.pruning.forecast import Curve, diverged
from sweeps.pruning.law import Floats, Schedule
from sweeps.pruning.pruner import places
from sweeps.store.records import Outcome, Run
from sweeps.study import space
from sweeps.study.study import Study
from trainer.config import TrainConfig
from trainer.schedule import evaluation_of, learning_rates


def schedule_of(config: TrainConfig) -> Schedule:
    """A run's schedule as the laws of curves take it."""
    return Schedule.of(learning_rates(config))


def losses_of(run: Run) -> Floats:
    """(k+1,) validation losses at evaluations 0 to k, nats; NaN where one is missing, infinite where it was no number.

    k is the evaluation of the last point; empty without points.
    """
    losses = np.full(max((evaluation_of(point.step, run.config) for point in run.points), default=-1) + 1, math.nan)
    for point in run.points:
        losses[evaluation_of(point.step, run.config)] = math.inf if math.isnan(point.val_loss) else point.val_loss
    return losses


def curve_of(run: Run, ranges: space.Space) -> Curve:
    """A run as the pruning rule sees it: its final loss if it has one, else what was predicted when it was stopped.

    A run that diverged has an infinite final loss. `ranges`: of the parameters that stand for its knobs; the run has
    them all.
    """
    losses, final, predicted = losses_of(run), run.val_loss, None
    if run.pruning is not None and run.outcome == Outcome.PRUNED:
        predicted = run.pruning.predicted
    if run.outcome == Outcome.DIVERGED or (run.outcome == Outcome.PRUNED and predicted is None and diverged(losses)):
        final = math.inf
    return Curve(
        losses=losses,
        schedule=schedule_of(run.config),
        knobs=np.array([place for name in sorted(ranges) for place in places(run.params[name], ranges[name])]),
        final=final,
        predicted=predicted,
    )


def histories(runs: Sequence[Run], study: Study) -> list[Curve]:
    """The runs as the pruning rule sees them. Their knobs are those that all of the runs have as parameters."""
    ranges = space.distributions(study)
    shared = {name: ranges[name] for name in ranges if all(name in run.params for run in runs)}
    return [curve_of(run, shared) for run in runs]
