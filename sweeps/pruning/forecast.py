"""Forecast of a trial's final loss, from its own curve and from how the study's other trials continued."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from sweeps.pruning.gaussian_process import Array, Prediction, predict
from sweeps.pruning.law import Schedule

EXPLODED = 1.0
"""nats above a curve's first evaluation; two evaluations in a row beyond it count as diverged"""
MOST = 64
"""nearest trials that a prediction uses; its cost grows with the cube of their number"""
_FLOOR = 0.02
"""added to the spread by which features are divided: nats, or for shares about the same number"""
_RELATIVE_SCALE = 0.2
"""prior spread of the remaining drop between trials, as a share of its median"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """A trial's curve so far. It informs forecasts of other trials if it is complete, or was pruned with a prediction.

    Curves are compared by identity, so results for the same curves can be cached. Their arrays must not change.
    """

    losses: Array
    """(k+1,) validation losses at evaluations 0 to k, nats; NaN is a gap, infinity a loss that was not a number"""
    schedule: Schedule
    """learning-rate schedule of the whole horizon, evaluations 0 to E"""
    knobs: Array
    """(d,) the trial's parameters, as shares of their ranges"""
    final: float | None = None
    """final loss of a complete trial, nats; infinite for a diverged trial, complete or not"""
    predicted: float | None = None
    """of a pruned trial: the mean of its final loss as predicted when it was stopped"""

    @classmethod
    def of(
        cls,
        losses: Array,
        *,
        schedule: Schedule,
        knobs: Array,
        final: float | None = None,
        predicted: float | None = None,
        stopped: bool = False,
    ) -> Self:
        """Build a trial's curve from its losses (`losses_by_evaluation`).

        A trial that was stopped without a prediction has an infinite final loss if it diverged.
        """
        if stopped and predicted is None and len(losses) and (not math.isfinite(losses[-1]) or diverged(losses)):
            final = math.inf
        return cls(losses=losses, schedule=schedule, knobs=knobs, final=final, predicted=predicted)


def losses_by_evaluation(losses: Mapping[int, float]) -> Array:
    """Return (k+1,) losses at evaluations 0 to k, the last one with a loss; empty without losses.

    A missing evaluation is NaN, and a loss that was not a number is infinite.
    """
    row = np.full(max(losses, default=-1) + 1, math.nan)
    for evaluation, loss in losses.items():
        row[evaluation] = math.inf if math.isnan(loss) else loss
    return row


def forecast(curve: Curve, others: Sequence[Curve], *, min_completed: int) -> Prediction | None:
    """Predict the final loss of `curve`, nats; None if fewer than `min_completed` complete trials inform it.

    At least one must. A complete trial informs it if it has the same number of evaluations and a loss at the last
    evaluation of `curve`.
    """
    k, end = len(curve.losses) - 1, curve.schedule.end
    known = _complete(tuple(others), end)
    useful = np.isfinite(known.losses[:, k])
    count = int(useful.sum())
    if k < 1 or count < max(min_completed, 1):
        return None
    query = _Table.of([curve], end)
    features = np.concatenate([_features(known, k)[useful], _features(query, k)])
    spread = features[:-1].std(axis=0) + _FLOOR
    features = (features - features[:-1].mean(axis=0)) / spread / math.sqrt(features.shape[1])
    places = np.concatenate([known.knobs[useful], query.knobs])
    targets = (known.losses[:, k] - known.finals)[useful]
    if count > MOST:
        distance = ((features - features[-1]) ** 2).sum(1) + ((places - places[-1]) ** 2).sum(1)
        nearest = np.sort(np.argsort(distance[:-1], kind="stable")[:MOST])
        kept = np.append(nearest, count)
        features, places, targets = features[kept], places[kept], targets[nearest]
    remaining = predict(
        features[:-1],
        places[:-1],
        targets,
        feature=features[-1],
        place=places[-1],
        relative_scale=_RELATIVE_SCALE,
    )
    return Prediction(mean=float(curve.losses[k]) - remaining.mean, scale=remaining.scale, degrees=remaining.degrees)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """n trials with the same E + 1 evaluations."""

    losses: Array
    """(n, E+1) nats; NaN or infinite where there is none"""
    whole: Array
    """(n, E+1) losses with gaps interpolated linearly"""
    spent: Array
    """(n, E+1) share of the summed learning rate that is spent"""
    total: Array
    """(n,) the summed learning rate"""
    knobs: Array
    """(n, d)"""
    finals: Array
    """(n,) nats; NaN for a trial that isn't complete"""

    @classmethod
    def of(cls, curves: Sequence[Curve], end: int) -> Self:
        """Return the table of curves whose schedules all end at evaluation `end`."""
        losses = np.full((len(curves), end + 1), math.nan)
        for row, curve in zip(losses, curves, strict=True):
            seen = curve.losses[: end + 1]
            row[: len(seen)] = seen
        return cls(
            losses=losses,
            whole=_whole(losses),
            spent=np.array([curve.schedule.progress for curve in curves]).reshape(losses.shape),
            total=np.array([curve.schedule.total for curve in curves]),
            knobs=np.array([curve.knobs for curve in curves]),
            finals=np.array([curve.final for curve in curves], dtype=float),
        )


@functools.lru_cache(maxsize=8)
def _complete(others: tuple[Curve, ...], end: int) -> _Table:
    """Return the curves that ended with a loss after `end` evaluations. They stay the same until another trial ends.

    They are sorted, so that the last digits of sums don't depend on the order of `others`.
    """
    complete = [
        curve
        for curve in others
        if curve.final is not None and math.isfinite(curve.final) and curve.schedule.end == end
    ]
    complete.sort(key=lambda curve: (curve.final, curve.losses.tobytes(), curve.knobs.tobytes()))
    return _Table.of(complete, end)


def _features(table: _Table, k: int) -> Array:
    """Return the features at evaluation k, (n, 5).

    They are the loss, its fall over the last third of the run so far and since the previous evaluation, all in nats;
    the share of the schedule that remains; and the log of the learning rate summed so far.
    """
    back = max(0, k - max(2, k // 3))
    now, spent = table.whole[:, k], table.spent[:, k]
    falls = table.whole[:, back] - now, table.whole[:, k - 1] - now
    return np.stack([now, *falls, 1 - spent, np.log(np.maximum(spent * table.total, 1e-300))], axis=1)


def _whole(losses: Array) -> Array:
    """Return (n, N) losses with gaps interpolated linearly, and constant at the ends. Rows of gaps alone stay NaN."""
    present = np.isfinite(losses)
    whole = np.where(present, losses, math.nan)
    for row in np.flatnonzero(present.any(axis=1) & ~present.all(axis=1)):
        evaluations = np.flatnonzero(present[row])
        whole[row] = np.interp(np.arange(losses.shape[1]), evaluations, losses[row, evaluations])
    return whole


def diverged(losses: Array) -> bool:
    """Whether the last two evaluations were not numbers or far above the first one. A single spike is not enough."""
    if len(losses) < 3 or np.isnan(losses[-2:]).any():
        return False
    first = losses[np.isfinite(losses)][:1]
    return bool((losses[-2:] > (first[0] if len(first) else math.inf) + EXPLODED).all() or np.isinf(losses[-2:]).all())
