"""Curves of a study's runs as the pruning rule takes them: losses by evaluation, schedule, scaled knobs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sweeps.pruning.forecast import Curve, losses_by_evaluation
from sweeps.pruning.law import Floats, Schedule
from sweeps.pruning.pruner import places
from sweeps.store.records import Outcome, Run
from sweeps.study import space
from sweeps.study.study import Study
from trainer.config import TrainConfig
from trainer.schedule import evaluation_of, learning_rates


def schedule_of(config: TrainConfig) -> Schedule:
    """Return a run's schedule as the pruning rule takes it."""
    return Schedule.of(learning_rates(config))


def losses_of(run: Run) -> Floats:
    """Return (k+1,) validation losses at evaluations 0 to k, nats per token, as `losses_by_evaluation` has them.

    k is the evaluation of the last point; without points the result is empty.
    """
    return losses_by_evaluation({evaluation_of(point.step, run.config): point.val_loss for point in run.points})


def curve_of(run: Run, ranges: space.Space) -> Curve:
    """Return a run's curve with its final loss, or with the loss predicted when the run was stopped.

    A run that diverged has an infinite final loss. `ranges` are those of the parameters that stand for the knobs; the
    run has every one of them.
    """
    stopped = run.outcome == Outcome.PRUNED
    return Curve.of(
        losses_of(run),
        schedule=schedule_of(run.config),
        knobs=np.array([place for name in sorted(ranges) for place in places(run.params[name], ranges[name])]),
        final=math.inf if run.outcome == Outcome.DIVERGED else run.val_loss,
        predicted=run.pruning.predicted if stopped and run.pruning is not None else None,
        stopped=stopped,
    )


def histories(runs: Sequence[Run], study: Study) -> list[Curve]:
    """Return the runs' curves. Their knobs are the parameters that all of the runs have."""
    ranges = space.distributions(study)
    shared = {name: ranges[name] for name in ranges if all(name in run.params for run in runs)}
    return [curve_of(run, shared) for run in runs]
