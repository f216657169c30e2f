"""How much each knob matters over the search space, with intervals, beside a knob that does not matter at all.

What is shown is what the trials' luck leaves: everything is worked out again for trials drawn anew with replacement
(Efron 1979), each time with other prediction errors for the trials that were stopped, and other values of the dummy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution

from sweeps import space
from sweeps.finals import Final, drawn, finals, without_final
from sweeps.law import Floats
from sweeps.results import Results
from sweeps.words import count

if TYPE_CHECKING:
    from optuna.importance import BaseImportanceEvaluator

FANOVA_TRIALS, PED_ANOVA_TRIALS = 20, 50
"""complete trials below which fANOVA's forest says nothing reliable; trials with a final loss, imputed or not, below
which PED-ANOVA's best tenth is under five"""
LEVEL = 0.9
"""of the intervals"""
_RESAMPLES, _TREES = 32, 6
"""trees: of a resample's forest"""
_DUMMY = "(dummy)"


@dataclass(frozen=True, kw_only=True)
class Share:
    """A knob's share over the resamples: median and 90 % interval."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What one method says of every knob."""

    method: str
    """fANOVA or PED-ANOVA"""
    shares: Mapping[str, Share]
    """by Optuna parameter, largest first"""
    zero_line: float
    """upper end of the dummy's interval: what a knob without any effect may get from as many trials"""

    @property
    def clear(self) -> tuple[str, ...]:
        """Parameters whose whole interval is above the zero line."""
        return tuple(name for name, share in self.shares.items() if share.low > self.zero_line)


@dataclass(frozen=True, kw_only=True)
class Importances:
    """What each method says that has enough trials."""

    methods: tuple[Importance, ...]
    complete: int
    """trials of the search that count with the loss they were told"""
    imputed: int
    """those that were stopped early and count with their prediction"""
    diverged: int
    """those that count as the worst of the others"""
    left_out: int
    """those that ended without anything that could stand for a final loss"""
    reasons: tuple[str, ...]
    """why a method is missing"""


def importances(results: Results) -> Importances:
    """fANOVA (Hutter et al. 2014) and PED-ANOVA (Watanabe et al. 2023) over the search's trials.

    fANOVA's shares are of the loss's variance over the whole space that a knob explains by itself; PED-ANOVA's are of
    what sets the best tenth of trials apart from all of them, and sum to 1. Every trial counts once: those that were
    stopped are there, with imputed losses, so the sentinels stand for themselves alone and need no weights (as they do
    where they stand for the stopped ones, in sweeps.pruning).
    """
    ranges = space.distributions(results.study)
    every = finals(results)
    known = [final for final in every if ranges.keys() <= final.run.params.keys()]
    diverged = sum(final.diverged for final in known)
    imputed = sum(final.imputed for final in known)
    complete = len(known) - imputed - diverged
    methods, reasons = [], []
    for method, least, there, what in (
        ("fANOVA", FANOVA_TRIALS, complete, "complete trials"),
        ("PED-ANOVA", PED_ANOVA_TRIALS, len(known) if complete >= FANOVA_TRIALS else complete, "trials"),
    ):
        if there < least:
            reasons.append(f"{method} needs at least {least} {what} of the search, and there are {there}")
        elif len({final.loss for final in known}) == 1:
            reasons.append(f"{method} finds nothing to explain: all {there} {what} ended alike")
        else:
            methods.append(_importance(method, known, ranges))
    return Importances(
        methods=tuple(methods),
        complete=complete,
        imputed=imputed,
        diverged=diverged,
        left_out=len(without_final(results, every)) + len(every) - len(known),
        reasons=tuple(reasons),
    )


def _importance(method: str, known: Sequence[Final], ranges: Mapping[str, BaseDistribution]) -> Importance:
    rng = np.random.default_rng(0)  # the same results give the same page
    names = [*ranges, _DUMMY]
    found = np.array([_resampled(method, known, ranges, names, rng) for _ in range(_RESAMPLES)])
    low, middle, high = np.quantile(found, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], axis=0).tolist()
    shares = [Share(middle=m, low=lo, high=hi) for m, lo, hi in zip(middle, low, high, strict=True)]
    *own, dummy = zip(names, shares, strict=True)
    ordered = dict(sorted(own, key=lambda item: -item[1].middle))
    return Importance(method=method, shares=ordered, zero_line=dummy[1].high)


def _resampled(
    method: str,
    known: Sequence[Final],
    ranges: Mapping[str, BaseDistribution],
    names: Sequence[str],
    rng: np.random.Generator,
) -> list[float]:
    """The shares of `names` in one resample."""
    losses, dummies = drawn(known, rng), rng.random(len(known))
    chosen = rng.integers(len(known), size=len(known))
    if np.ptp(losses[chosen]) == 0:
        return [0.0] * len(names)
    study = _study(known, ranges, losses, dummies, chosen)
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator  # load scikit-learn: seconds

    if method == "PED-ANOVA":
        found = PedAnovaImportanceEvaluator().evaluate(study, params=list(names))
        whole = sum(found.values())
    else:
        seed = int(rng.integers(2**31))
        found, whole = FanovaImportanceEvaluator(n_trees=_TREES, seed=seed).evaluate(study, params=list(names)), 1.0
    return [found[name] / whole if whole else 0.0 for name in names]
