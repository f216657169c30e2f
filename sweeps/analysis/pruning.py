"""Balance of pruning: the training that stopping trials early saved, and what it may have cost.

A sentinel is a trial that the rule would have stopped but that went on. Sentinels are drawn by lot. So the share of
sentinels that ended among the best estimates the same share of stopped trials, with the exact interval of a proportion
(Clopper and Pearson 1934, Biometrika 26). The rule's own expectation is the sum of the stopped trials' chances of
ending among the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from sweeps.analysis.finals import Final
from sweeps.analysis.noise import CONFIDENCE
from sweeps.pruning.law import Floats
from sweeps.pruning.rule import BEST_SHARE, Rule
from sweeps.store.records import Outcome, Pruning, Results, Run
from sweeps.study.sections import PlateauPruning
from sweeps.study.study import Study

_PRUNABLE = (Outcome.COMPLETE, Outcome.PRUNED, Outcome.DIVERGED)
"""outcomes of trials that could have been pruned"""


_MARGIN = 1.5
"""default margin in a study of branches, in units of min_effect: the ratio that the defaults have from scratch"""


@dataclass(frozen=True, kw_only=True)
class Sentinel:
    """A trial that would have been stopped, went on, and ended."""

    run: Run
    pruning: Pruning
    final: float
    """final loss, nats per token; infinite if the trial diverged"""
    among_best: bool
    """whether stopping the trial would have been a mistake; see `ended_among_best`"""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Savings and cost of pruning over the sampler's trials that have ended. Other trials are never stopped."""

    trials: int
    stopped: tuple[Run, ...]
    sentinels: tuple[Sentinel, ...]
    saved: float
    """share of the training that all of these trials would have needed to reach the horizon, 0 to 1"""
    expected: float | None
    """stopped trials that would have ended among the best, by the rule's chances; None: the rule gives no chances"""

    @property
    def mistakes(self) -> int:
        """Number of sentinels that ended among the best."""
        return sum(sentinel.among_best for sentinel in self.sentinels)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the share of mistakes. None: no sentinel has ended."""
        return exact_interval(self.mistakes, len(self.sentinels)) if self.sentinels else None


def _margin(study: Study) -> float:
    return Rule.margin if study.origin is None else _MARGIN * study.min_effect


def rule_of(study: Study) -> Rule | None:
    """Return the rule of the study's plateau pruner. None: the study has another pruner, which predicts nothing."""
    pruner = study.pruner
    if not isinstance(pruner, PlateauPruning):
        return None
    return Rule(
        epsilon=pruner.epsilon,
        margin=_margin(study) if pruner.margin is None else pruner.margin,
        looks=pruner.looks,
        min_completed=pruner.min_completed,
        trials=1 + study.trials,  # the baseline counts as a trial
    )


def balance(results: Results, finals: Sequence[Final], rule: Rule | None) -> Balance:
    """Return what pruning has saved and cost in this study so far. `rule`: that of its plateau pruner."""
    trials = [run for run in results.search_runs if run.origin == "sampler" and run.outcome in _PRUNABLE]
    stopped = tuple(run for run in trials if run.outcome == Outcome.PRUNED)
    chances = [run.pruning.chance for run in stopped if run.pruning is not None and run.pruning.chance is not None]
    return Balance(
        trials=len(trials),
        stopped=stopped,
        sentinels=() if rule is None else tuple(_sentinels(trials, finals, rule)),
        saved=sum(1 - trained(run) for run in stopped) / max(1, len(trials)),
        expected=sum(chances) if chances else None,
    )


def trained(run: Run) -> float:
    """Return the share of the horizon's iterations that a run has done, 0 to 1."""
    return run.points[-1].step / run.config.max_iters if run.points else 0.0


def _sentinels(trials: Sequence[Run], finals: Sequence[Final], rule: Rule) -> Iterator[Sentinel]:
    losses = np.array([final.loss for final in finals])
    for run in trials:
        if run.pruning is None or not run.pruning.sentinel:
            continue
        final = math.inf if run.val_loss is None else run.val_loss
        among_best = ended_among_best(final, best_then=run.pruning.best, margin=rule.margin, losses=losses)
        yield Sentinel(run=run, pruning=run.pruning, final=final, among_best=among_best)


def ended_among_best(final: float, *, best_then: float | None, margin: float, losses: Floats) -> bool:
    """Whether a sentinel's final loss makes stopping it a mistake.

    It does if the loss is within `margin` of the best loss of the time when the trial would have been stopped, or if it
    is in the best tenth of the final `losses` of all trials, (n,). Losses are in nats per token.
    """
    within_margin = best_then is not None and final < best_then + margin
    in_best_tenth = math.isfinite(final) and int((losses < final).sum()) < BEST_SHARE * len(losses)
    return within_margin or in_best_tenth


def exact_interval(successes: float, n: int) -> tuple[float, float]:
    """Return Clopper and Pearson's 95 % interval of the proportion `successes` / n. `successes` may be a fraction."""
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if successes <= 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes >= n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high
