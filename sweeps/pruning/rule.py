"""The pruning rule: whether a trial can still end among the best. A pure function from curves to a decision.

A trial's final loss is predicted from its own curve and from how the study's other trials continued. The remaining drop
is regressed on the level, the slope, the rest of the schedule, and the trial's knobs, so trials of similar width or
learning rate inform each other. The study itself thus shows how far a prediction can be trusted: where early ranks
settle late, early looks stop only hopeless trials.

A trial is stopped if its chance of ending among the best tenth of the study's trials is below epsilon, and so is its
chance of ending within `margin` of the best trial. If j of m other trials end lower, the number of future trials that
end lower is beta-binomial (order statistics of a uniform sample). The trial belongs to the best tenth if both numbers
together are small enough. That probability is averaged over the prediction. It is conditional on all that is known, so
repeated looks don't inflate it.
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
"""the best tenth, on which attribution and export rest"""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Settings of the rule: when to look at a trial, and when to stop it."""

    epsilon: float = 0.02
    """a trial is stopped when its chance of ending among the best is below this"""
    margin: float = 0.03
    """nats: ending within this distance of the best trial counts as ending among the best"""
    looks: tuple[float, float] = (0.1, 0.8)
    """shares of the horizon; every evaluation between them is a look"""
    min_completed: int = 5
    """complete trials needed before any trial is stopped"""
    trials: int | None = None
    """trials that the study will have, a tenth of which are the best; None: unknown"""

    def looks_at(self, schedule: Schedule) -> range:
        """Return the evaluations at which a trial may be stopped: none in its warm-up or at the end."""
        first, last = (share * schedule.end for share in self.looks)
        return range(max(math.ceil(first), schedule.warm, 1), min(math.floor(last), schedule.end - 1) + 1)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The decision on a trial at one evaluation, with its numbers."""

    evaluation: int
    prune: bool = False
    reason: str = ""
    """diverged, dominated, plateau-and-dominated or behind-control; empty if the trial goes on"""
    prediction: Prediction | None = None
    """predicted final loss, nats; None if there is nothing to predict from, or this evaluation is no look"""
    low: float | None = None
    """the final loss is lower than this with probability epsilon"""
    high: float | None = None
    """the final loss is higher than this with probability epsilon"""
    chance: float | None = None
    """chance of ending among the best"""
    best: float | None = None
    """lowest final loss of complete trials, nats"""
    completed: int = 0
    """complete trials with a finite loss"""


def decide(rule: Rule, curve: Curve, others: Sequence[Curve], *, control: float | None = None) -> Decision:
    """Decide whether to stop the trial of `curve` at its last evaluation, given the other trials in any order.

    `control`: final loss, nats, of the run with nothing changed. A trial whose chance of ending below it is under
    epsilon is stopped as well, whatever the others do. None: there is no such run.
    """
    if diverged(curve.losses):
        return Decision(evaluation=len(curve.losses) - 1, prune=True, reason="diverged")
    return compare(rule, curve, others, control=control)


def compare(rule: Rule, curve: Curve, others: Sequence[Curve], *, control: float | None = None) -> Decision:
    """Decide like `decide` on a trial that hasn't diverged."""
    k = len(curve.losses) - 1
    if k not in rule.looks_at(curve.schedule) or not math.isfinite(curve.losses[k]):
        return Decision(evaluation=k)
    others = tuple(others)
    prediction = forecast(curve, others, min_completed=rule.min_completed)
    if prediction is None:
        return Decision(evaluation=k)
    complete, finals = _final_losses(others)
    best = float(complete.min())
    chance = chance_among_best(prediction, finals, best=best, margin=rule.margin, trials=rule.trials)
    passes = 1.0 if control is None else float(prediction.below(np.array(control)))
    dominated = chance < rule.epsilon
    prune = dominated or passes < rule.epsilon
    stuck = dominated and verdict(curve.losses, curve.schedule).word is CurveState.PLATEAU
    return Decision(
        evaluation=k,
        prune=prune,
        reason=_reason(prune=prune, dominated=dominated, stuck=stuck),
        prediction=prediction,
        low=prediction.bound(rule.epsilon),
        high=prediction.bound(1 - rule.epsilon),
        chance=chance,
        best=best,
        completed=int(np.isfinite(complete).sum()),
    )


def _reason(*, prune: bool, dominated: bool, stuck: bool) -> str:
    if not prune:
        return ""
    if not dominated:
        return "behind-control"
    return "plateau-and-dominated" if stuck else "dominated"


def chance_among_best(
    prediction: Prediction, finals: Array, *, best: float, margin: float, trials: int | None = None
) -> float:
    """Return the chance of belonging to the best tenth, or of ending within `margin` of `best` if that is larger.

    finals (m,) are the final losses of the other trials: predicted for pruned trials, infinite for diverged ones.
    """
    ranks = np.diff(np.concatenate([[0.0], prediction.below(np.sort(finals)), [1.0]]))  # by number of better trials
    belongs = float(ranks @ _belongs(len(finals), trials))
    return max(belongs, float(prediction.below(np.array(best + margin))))


@functools.lru_cache(maxsize=4096)
def _belongs(others: int, trials: int | None) -> Array:
    """Return (m + 1,): the probability of belonging to the best tenth of all trials with 0 to m of m others better.

    The known trials are a draw from all ranks. With b of them better, more than b of the drawn ranks must be among the
    best. If the number of all trials is unknown, the ranks are uniform places.
    """
    if trials is None:
        better = np.arange(others + 1)
        return np.asarray(betainc(better + 1, others - better + 1, BEST_SHARE))
    total = max(trials, others + 1)
    best, among = math.ceil(BEST_SHARE * total), np.arange(others + 2.0)
    drawn: Array = softmax(_log_choose(best, among) + _log_choose(total - best, others + 1 - among))  # hypergeometric
    return np.cumsum(drawn[:0:-1])[::-1]


def _log_choose(n: int, k: Array) -> Array:
    """Return the logarithm of the binomial coefficient, minus infinity outside of 0 <= k <= n.

    scipy.stats would take a second to import.
    """
    logs: Array = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return logs


@functools.lru_cache(maxsize=8)
def _final_losses(others: tuple[Curve, ...]) -> tuple[Array, Array]:
    """Return the final losses, nats: those of complete trials, and those with the predictions of pruned trials."""
    complete = [curve.final for curve in others if curve.final is not None]
    pruned = [curve.predicted for curve in others if curve.final is None and curve.predicted is not None]
    return np.array(complete), np.array(complete + pruned)
