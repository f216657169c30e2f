"""The forecast of a trial's final loss, from its own curve and from how the study's other trials went on."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from sweeps.pruning.gaussian_process import Array, Prediction, predict
from sweeps.pruning.law import Schedule

EXPLODED = 1.0
"""nats above a curve's first evaluation at which two evaluations in a row count as diverged"""
MOST = 64
"""trials that a prediction takes into account, the nearest: the cost grows with their cube"""
_FLOOR = 0.02
"""of the spread that features are divided by: in nats, and about the same for the shares among them"""
_RELATIVE_SCALE = 0.2
"""what is left to fall differs between trials by about this share of its median, before any has been seen"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """What a trial has shown so far. One neither complete nor pruned with a prediction is of no use to others.

    Each equals itself alone, so that what was worked out for the same ones can be kept: its arrays must not change.
    """

    losses: Array
    """(k+1,) validation losses at evaluations 0 to k, nats; NaN: there is none, infinite: it was no number"""
    schedule: Schedule
    """of the whole horizon, evaluations 0 to E"""
    knobs: Array
    """(d,) its parameters, each as a share of its range"""
    final: float | None = None
    """complete: the loss told; infinite for one that diverged, complete or not"""
    predicted: float | None = None
    """pruned: the mean of its final loss as predicted when it was stopped"""


def forecast(curve: Curve, others: Sequence[Curve], *, min_completed: int) -> Prediction | None:
    """The final loss of `curve`, nats; None: fewer than `min_completed` completed trials, or none, can speak for it.

    Those have the same number of evaluations, and a loss at this one.
    """
    k, end = len(curve.losses) - 1, curve.schedule.end
    known = _complete(tuple(others), end)
    useful = np.isfinite(known.losses[:, k])
    count = int(useful.sum())
    if k < 1 or count < max(min_completed, 1):
        return None
    own = _Table.of([curve], end)
    features = np.concatenate([_features(known, k)[useful], _features(own, k)])
    spread = features[:-1].std(axis=0) + _FLOOR
    features = (features - features[:-1].mean(axis=0)) / spread / math.sqrt(features.shape[1])
    places = np.concatenate([known.knobs[useful], own.knobs])
    targets = (known.losses[:, k] - known.finals)[useful]
    if count > MOST:
        distance = ((features - features[-1]) ** 2).sum(1) + ((places - places[-1]) ** 2).sum(1)
        nearest = np.sort(np.argsort(distance[:-1], kind="stable")[:MOST])
        kept = np.append(nearest, count)
        features, places, targets = features[kept], places[kept], targets[nearest]
    left = predict(
        features[:-1],
        places[:-1],
        targets,
        feature=features[-1],
        place=places[-1],
        relative_scale=_RELATIVE_SCALE,
    )
    return Prediction(mean=float(curve.losses[k]) - left.mean, scale=left.scale, degrees=left.degrees)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """n trials of the same E + 1 evaluations."""

    losses: Array
    """(n, E+1) nats; NaN or infinite: there is none"""
    whole: Array
    """(n, E+1) the same with gaps filled by straight lines"""
    spent: Array
    """(n, E+1) share of the summed learning rate"""
    total: Array
    """(n,) that sum"""
    knobs: Array
    """(n, d)"""
    finals: Array
    """(n,) nats; NaN where it isn't complete"""

    @classmethod
    def of(cls, curves: Sequence[Curve], end: int) -> Self:
        """These curves, whose schedules all end at evaluation `end`."""
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
    """Those that ended with a loss after `end` evaluations, the same ones for all looks until another ends.

    They stand in an order of their own: a sum's last digits must not depend on theirs.
    """
    complete = [
        other
        for other in others
        if other.final is not None and math.isfinite(other.final) and other.schedule.end == end
    ]
    complete.sort(key=lambda curve: (curve.final, curve.losses.tobytes(), curve.knobs.tobytes()))
    return _Table.of(complete, end)


def _features(table: _Table, k: int) -> Array:
    """(n, 5) at evaluation k: level, fall over the last third of the run so far and since the last evaluation (nats),
    what is left of the schedule, log of the summed learning rate."""
    back = max(0, k - max(2, k // 3))
    now, spent = table.whole[:, k], table.spent[:, k]
    falls = table.whole[:, back] - now, table.whole[:, k - 1] - now
    return np.stack([now, *falls, 1 - spent, np.log(np.maximum(spent * table.total, 1e-300))], axis=1)


def _whole(losses: Array) -> Array:
    """(n, N): gaps filled by straight lines, and levelly at the ends; NaN in rows that are nothing but gaps."""
    there = np.isfinite(losses)
    whole = np.where(there, losses, math.nan)
    for row in np.flatnonzero(there.any(axis=1) & ~there.all(axis=1)):
        at = np.flatnonzero(there[row])
        whole[row] = np.interp(np.arange(losses.shape[1]), at, losses[row, at])
    return whole


def diverged(losses: Array) -> bool:
    """Two evaluations in a row that were no numbers or far above the first one: one spike may pass."""
    if len(losses) < 3 or np.isnan(losses[-2:]).any():
        return False
    first = losses[np.isfinite(losses)][:1]
    return bool((losses[-2:] > (first[0] if len(first) else math.inf) + EXPLODED).all() or np.isinf(losses[-2:]).all())
