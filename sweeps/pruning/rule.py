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

import numpy as np
from scipy.special import betainc, gammaln, softmax

from sweeps.pruning.forecast import Curve, diverged, forecast
from sweeps.pruning.gaussian_process import Array, Prediction
from sweeps.pruning.law import Schedule
from sweeps.pruning.plateau import CurveState, verdict

BEST_SHARE = 0.1
"""the best tenth: those that the attribution and the exports rest on"""


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
    stuck = prune and verdict(curve.losses, curve.schedule).word is CurveState.PLATEAU
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


@functools.lru_cache(maxsize=8)
def _ends(others: tuple[Curve, ...]) -> tuple[Array, Array]:
    """Final losses, nats: of the complete ones alone, and with those that pruned ones were predicted."""
    complete = [other.final for other in others if other.final is not None]
    pruned = [other.predicted for other in others if other.final is None and other.predicted is not None]
    return np.array(complete), np.array(complete + pruned)
