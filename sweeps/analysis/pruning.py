"""What stopping trials early did for a study: the training it saved, and what it may have cost.

A sentinel is a trial that the rule would have stopped and that went on all the same. Which trials do is decided by lot,
so the share of sentinels that ended among the best after all estimates the same share of those that were stopped, with
the exact interval of a proportion (Clopper and Pearson 1934, Biometrika 26). Beside it stands what the rule itself
expected: the sum of the chances it stopped trials at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from sweeps.analysis.finals import Final
from sweeps.analysis.noise import CONFIDENCE
from sweeps.pruning.rule import BEST_SHARE, Rule
from sweeps.store.records import Outcome, Pruning, Results, Run
from sweeps.study.sections import PlateauPruning
from sweeps.study.study import Study

_PRUNABLE = (Outcome.COMPLETE, Outcome.PRUNED, Outcome.DIVERGED)
"""outcomes of trials that pruning could have had a say in"""


@dataclass(frozen=True, kw_only=True)
class Sentinel:
    """A trial that would have been stopped, went on, and has ended."""

    run: Run
    pruning: Pruning
    final: float
    """nats; infinite where it diverged"""
    among_best: bool
    """stopping it would have been a mistake: it ended within the rule's margin of the best final loss there was when
    it would have been stopped, or belongs to the best tenth of all trials by now"""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Pruning's two sides, over the trials of the sampler that have ended (the others are never stopped)."""

    trials: int
    stopped: tuple[Run, ...]
    sentinels: tuple[Sentinel, ...]
    saved: float
    """share of the training that all of these trials would have taken to the horizon, 0 to 1"""
    expected: float | None
    """stopped trials that would have ended among the best, by the chances they were stopped at; None: the rule gives
    none"""

    @property
    def mistakes(self) -> int:
        """Sentinels that ended among the best."""
        return sum(sentinel.among_best for sentinel in self.sentinels)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the share of mistakes; None: no sentinel has ended."""
        return exact_interval(self.mistakes, len(self.sentinels)) if self.sentinels else None


def rule_of(study: Study) -> Rule | None:
    """The rule of the study's plateau pruner; None: another pruner, which predicts nothing."""
    pruner = study.pruner
    if not isinstance(pruner, PlateauPruning):
        return None
    return Rule(
        epsilon=pruner.epsilon,
        margin=pruner.margin,
        looks=pruner.looks,
        min_completed=pruner.min_completed,
        trials=1 + study.trials,  # the baseline is one of them
    )


def balance(results: Results, finals: Sequence[Final], rule: Rule | None) -> Balance:
    """What pruning saved and cost in this study so far; `rule` is that of its plateau pruner."""
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
    """Share of the horizon's iterations that a run has done, 0 to 1."""
    return run.points[-1].step / run.config.max_iters if run.points else 0.0


def _sentinels(trials: Sequence[Run], finals: Sequence[Final], rule: Rule) -> Iterator[Sentinel]:
    losses = np.array([final.loss for final in finals])
    for run in trials:
        if run.pruning is None or not run.pruning.sentinel:
            continue
        final = math.inf if run.val_loss is None else run.val_loss
        near = run.pruning.best is not None and final < run.pruning.best + rule.margin
        tenth = math.isfinite(final) and int((losses < final).sum()) < BEST_SHARE * len(losses)
        yield Sentinel(run=run, pruning=run.pruning, final=final, among_best=near or tenth)


def exact_interval(successes: float, n: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a proportion, `successes` of n; they may be a mean, no whole number."""
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if successes <= 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes >= n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high
