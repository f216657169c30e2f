"""A study's runs as the laws and rules of curves see them: losses by evaluation, schedule, scaled knobs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sweeps.pruning.forecast import Curve
from sweeps.pruning.law import Floats, Schedule
from sweeps.pruning.pruner import places
from sweeps.store.records import Run
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


def histories(runs: Sequence[Run], study: Study) -> list[Curve]:
    """The runs as the pruning rule sees them; a complete one with its final loss.

    Their knobs are the study's that all of the runs have as parameters.
    """
    ranges = space.distributions(study)
    shared = sorted(name for name in ranges if all(name in run.params for run in runs))
    return [
        Curve(
            losses=losses_of(run),
            schedule=schedule_of(run.config),
            knobs=np.array([place for name in shared for place in places(run.params[name], ranges[name])]),
            final=run.val_loss,
        )
        for run in runs
    ]
