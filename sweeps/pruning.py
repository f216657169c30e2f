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

from sweeps import space
from sweeps.chosen import search_runs
from sweeps.finals import Final, finals
from sweeps.noise import CONFIDENCE
from sweeps.prospects import BEST_SHARE, Rule
from sweeps.pruner import PlateauPruner
from sweeps.results import Pruning, Results, Run
from sweeps.study import Study
from sweeps.words import count

_PRUNABLE = ("complete", "pruned", "diverged")
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
    pruner = space.make_pruner(study)
    return pruner.rule if isinstance(pruner, PlateauPruner) else None


def balance(results: Results) -> Balance:
    """What pruning saved and cost in this study so far."""
    trials = [run for run in search_runs(results) if run.origin == "sampler" and run.outcome in _PRUNABLE]
    stopped = tuple(run for run in trials if run.outcome == "pruned")
    chances = [run.pruning.chance for run in stopped if run.pruning is not None and run.pruning.chance is not None]
    rule = rule_of(results.study)
    return Balance(
        trials=len(trials),
        stopped=stopped,
        sentinels=() if rule is None else tuple(_sentinels(trials, finals(results), rule)),
        saved=sum(1 - trained(run) for run in stopped) / max(1, len(trials)),
        expected=sum(chances) if chances else None,
    )


def trained(run: Run) -> float:
    """Share of the horizon's iterations that a run has done, 0 to 1."""
    return run.points[-1].step / run.config.max_iters if run.points else 0.0


def _sentinels(trials: Sequence[Run], known: Sequence[Final], rule: Rule) -> Iterator[Sentinel]:
    losses = np.array([final.loss for final in known])
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


def sentence(results: Results) -> str:
    """The balance in words; empty where the study stops nothing or no trial of the sampler has ended."""
    found = balance(results)
    if results.study.pruner.type == "none" or not found.trials:
        return ""
    of = f"of {count(found.trials, 'sampled trial')}"
    were = "was" if len(found.stopped) == 1 else "were"
    text = f"None {of} was stopped early."
    if found.stopped:
        text = f"{len(found.stopped)} {of} {were} stopped early, which saved {rounded(found.saved)} of their training."
    if found.expected is not None:
        text += f" The rule expects that {found.expected:.2g} of those stopped would have ended among the best."
    if found.interval is not None:
        low, high = map(rounded, found.interval)
        sentinels = count(len(found.sentinels), "sentinel")
        text += f" Of {sentinels}, which went on, {found.mistakes or 'none'} did (95 % interval: {low} to {high})."
    elif found.stopped:
        text += " None that was to be stopped went on to its end: not enough evidence of what stopping cost."
    return text


def rounded(share: float) -> str:
    """A share in whole per cent, 31 %; a small one with a digit more, 3.1 %."""
    return f"{100 * share:.{1 if 0 < share < 0.0995 else 0}f} %"
