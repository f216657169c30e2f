"""Can this trial still end among the best? The pruning rule, pure: curves in, a decision out.

A trial's final loss is predicted from its own curve and from how the study's other trials went on from where it is
now: what is left to fall is regressed on the level, the slope, what is left of the schedule, and the trial's knobs
(so trials of the same width or learning rate speak for each other). How far a prediction can be trusted is thus
learned from the study: where early ranks settle late, early looks prune only the hopeless.

It is stopped where its chance is below epsilon of ending among the best tenth of the study's trials, and that of
ending within `margin` of the best. If j of m others end lower, the number of those to come that will is
beta-binomial (order statistics of a uniform sample), and the trial belongs to the best tenth with the probability
that both together are few enough; this is averaged over the prediction. Being a probability given all that is known,
it may be looked at as often as there are evaluations.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import betainc, gammaln, softmax

from sweeps.gaussian_process import Array, Prediction, predict
from sweeps.law import Schedule
from sweeps.plateau import Word, verdict

BEST_SHARE = 0.1
"""the best tenth: those that the attribution and the exports rest on"""
EXPLODED = 1.0
"""nats above a curve's first evaluation at which two evaluations in a row count as diverged"""
MOST = 64
"""trials that a prediction takes into account, the nearest: the cost grows with their cube"""
_FLOOR = 0.02
"""of the spread that features are divided by: in nats, and about the same for the shares among them"""
_RELATIVE_SCALE = 0.2
"""what is left to fall differs between trials by about this share of its median, before any has been seen"""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When to look and when to stop a trial."""

    epsilon: float = 0.02
    """largest chance of ending among the best at which a trial is stopped"""
    margin: float = 0.03
    """nats: a trial that may end within this of the best counts as one that may be among them"""
    looks: tuple[float, float] = (0.1, 0.8)
    """shares of the horizon between which every evaluation is a look"""
    min_completed: int = 5
    """completed trials before any is stopped"""
    trials: int | None = None
    """that the study will have, if it is known: a tenth of them are the best; None: any number"""

    def looks_at(self, schedule: Schedule) -> range:
        """The evaluations at which a trial of this schedule may be stopped: none in the warm-up, nor at the end."""
        first, last = (share * schedule.end for share in self.looks)
        return range(max(math.ceil(first), schedule.warm, 1), min(math.floor(last), schedule.end - 1) + 1)


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


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a look found."""

    evaluation: int
    prune: bool = False
    reason: str = ""
    """diverged, dominated, plateau-and-dominated; empty: it goes on"""
    prediction: Prediction | None = None
    """of the final loss, nats; None: nothing to predict from, or this evaluation is no look"""
    low: float | None = None
    """the final loss is lower than this with probability epsilon, higher than `high` with epsilon"""
    high: float | None = None
    chance: float | None = None
    """of ending among the best"""
    best: float | None = None
    """lowest final loss so far, nats"""
    completed: int = 0
    """trials that the prediction is calibrated on"""


def decide(rule: Rule, curve: Curve, others: Sequence[Curve]) -> Decision:
    """Whether to stop the trial of `curve` at its last evaluation, given the study's other trials in any order."""
    k = len(curve.losses) - 1
    if diverged(curve.losses):
        return Decision(evaluation=k, prune=True, reason="diverged")
    if k not in rule.looks_at(curve.schedule) or not math.isfinite(curve.losses[k]):
        return Decision(evaluation=k)
    others = tuple(others)
    prediction = forecast(curve, others, min_completed=rule.min_completed)
    if prediction is None:
        return Decision(evaluation=k)
    complete, finals = _ends(others)
    best = float(complete.min())
    chance = chance_among_best(prediction, finals, best=best, margin=rule.margin, trials=rule.trials)
    prune = chance < rule.epsilon
    stuck = prune and verdict(curve.losses, curve.schedule).word is Word.PLATEAU
    return Decision(
        evaluation=k,
        prune=prune,
        reason="" if not prune else "plateau-and-dominated" if stuck else "dominated",
        prediction=prediction,
        low=prediction.bound(rule.epsilon),
        high=prediction.bound(1 - rule.epsilon),
        chance=chance,
        best=best,
        completed=int(np.isfinite(complete).sum()),
    )


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


def chance_among_best(
    prediction: Prediction, finals: Array, *, best: float, margin: float, trials: int | None = None
) -> float:
    """Probability that the trial belongs to the best tenth, or that it ends within `margin` of `best` if that is more.

    finals (m,): those of the other trials, predicted ones of pruned trials, infinite ones of diverged trials.
    """
    ranks = np.diff(np.concatenate([[0.0], prediction.below(np.sort(finals)), [1.0]]))  # of each number of better ones
    belongs = float(ranks @ _belongs(len(finals), trials))
    return max(belongs, float(prediction.below(np.array(best + margin))))


@functools.lru_cache(maxsize=4096)
def _belongs(others: int, trials: int | None) -> Array:
    """(m + 1,): probability that a trial with 0 to m of `m` others better belongs to the best tenth of all trials.

    These are a draw from all trials' ranks: with b better, more than b of the ranks drawn must be among the best.
    """
    if trials is None:
        better = np.arange(others + 1)
        return np.asarray(betainc(better + 1, others - better + 1, BEST_SHARE))
    total = max(trials, others + 1)
    best, among = math.ceil(BEST_SHARE * total), np.arange(others + 2.0)
    drawn: Array = softmax(_log_choose(best, among) + _log_choose(total - best, others + 1 - among))  # hypergeometric
    return np.cumsum(drawn[:0:-1])[::-1]


def _log_choose(n: int, k: Array) -> Array:
    """Logarithm of n over k; minus infinity where k is beyond 0 to n. (scipy.stats takes a second to import.)"""
    logs: Array = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return logs


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
def _ends(others: tuple[Curve, ...]) -> tuple[Array, Array]:
    """Final losses, nats: of the complete ones alone, and with those that pruned ones were predicted."""
    complete = [other.final for other in others if other.final is not None]
    pruned = [other.predicted for other in others if other.final is None and other.predicted is not None]
    return np.array(complete), np.array(complete + pruned)


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
