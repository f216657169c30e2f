"""Scores of protocols: what a branch, a race or a squeezed trial says of a change, against the whole run retrained.

Effects are nats by which a change lowers the loss. They are paired by seed where both sides have the seed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

MOST_SEEDS = 10_000
POWER, LEVEL = 0.8, 0.05
"""of `seeds_to_decide`"""
_PLACES = (np.arange(4000) + 0.5) / 4000


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Differences of one change, a seed each, in nats."""

    differences: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean; NaN without any."""
        return statistics.fmean(self.differences) if self.differences else math.nan

    @property
    def sd(self) -> float:
        """Their standard deviation; NaN with under two."""
        return statistics.stdev(self.differences) if len(self.differences) > 1 else math.nan

    @property
    def sign(self) -> int:
        """The sign that all seeds share; 0: they don't agree."""
        signs = {math.copysign(1, difference) for difference in self.differences}
        return int(signs.pop()) if len(signs) == 1 else 0


def effect_of(baseline: Mapping[int, float], changed: Mapping[int, float]) -> Effect:
    """Return the effect of a change from final losses by seed. Seeds on which either diverged (is infinite) are out."""
    seeds = [seed for seed in baseline if seed in changed]
    differences = (baseline[seed] - changed[seed] for seed in seeds)
    return Effect(differences=tuple(difference for difference in differences if math.isfinite(difference)))


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One change in a short protocol and in the whole run."""

    name: str
    kind: str
    short: Effect
    whole: Effect

    @property
    def tells(self) -> bool:
        """Whether the whole runs agree on a sign, so that the short protocol can be right or wrong about it."""
        return self.whole.sign != 0

    @property
    def right(self) -> bool:
        """Whether the short protocol's mean has the whole run's sign."""
        return self.short.mean * self.whole.sign > 0


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far a short protocol agrees with whole retrainings, over some changes."""

    kind: str
    n: int
    right: int
    """changes whose sign is right"""
    told: int
    """changes whose sign the whole runs agree on"""
    rank: float | None
    """Spearman's correlation of the effects; None: under three changes"""
    ratio: float | None
    """median of short / whole effect over the changes whose sign the whole runs agree on"""


def agreement(kind: str, compared: Sequence[Compared]) -> Agreement:
    """Return the agreement over all given changes."""
    told = [change for change in compared if change.tells]
    short, whole = ([getattr(change, side).mean for change in compared] for side in ("short", "whole"))
    return Agreement(
        kind=kind,
        n=len(compared),
        right=sum(change.right for change in told),
        told=len(told),
        rank=float(stats.spearmanr(short, whole).statistic) if len(compared) > 2 else None,
        ratio=statistics.median(change.short.mean / change.whole.mean for change in told) if told else None,
    )


def by_kind(compared: Sequence[Compared]) -> list[Agreement]:
    """Return the agreement of each kind of knob, and that of all."""
    kinds = dict.fromkeys(change.kind for change in compared)
    each = [agreement(kind, [change for change in compared if change.kind == kind]) for kind in kinds]
    return [*each, agreement("all", compared)] if len(each) > 1 else each


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """How the gap of a race predicts the whole run's: end = slope * gap, by least squares."""

    share: float
    """length of the race, of the whole run"""
    n: int
    slope: float
    error: float
    """root mean square of what is left, nats"""
    rank: float
    """Spearman's correlation"""


def prediction(share: float, compared: Sequence[Compared]) -> Prediction:
    """Return how the gaps of at least two races predict the ends."""
    pairs = [(change.short.mean, change.whole.mean) for change in compared]
    slope = math.fsum(gap * end for gap, end in pairs) / math.fsum(gap**2 for gap, _ in pairs)
    left = [end - slope * gap for gap, end in pairs]
    return Prediction(
        share=share,
        n=len(pairs),
        slope=slope,
        error=math.sqrt(statistics.fmean(value**2 for value in left)),
        rank=float(stats.spearmanr(*zip(*pairs, strict=True)).statistic),
    )


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The noise of paired differences in one protocol at one length."""

    protocol: str
    iters: int
    sd: float
    """pooled over the changes, nats"""
    seeds: int
    """to show a difference; see `seeds_to_decide`"""
    compute: float
    """tokens times parameters of both arms on these seeds"""


def noise_of(protocol: str, iters: int, effects: Iterable[Effect], *, compute_per_seed: float, nats: float) -> Noise:
    """Return the noise of a protocol from several changes, and what it costs to show a difference of `nats`."""
    sd = pooled_sd(effects)
    seeds = seeds_to_decide(sd, nats=nats)
    return Noise(protocol=protocol, iters=iters, sd=sd, seeds=seeds, compute=seeds * compute_per_seed)


def pooled_sd(effects: Iterable[Effect]) -> float:
    """Return the standard deviation pooled over changes, weighted by their degrees of freedom; NaN without any."""
    several = [effect for effect in effects if len(effect.differences) > 1]
    degrees = sum(len(effect.differences) - 1 for effect in several)
    squares = math.fsum(effect.sd**2 * (len(effect.differences) - 1) for effect in several)
    return math.sqrt(squares / degrees) if degrees else math.nan


def seeds_to_decide(sd: float, *, nats: float) -> int:
    """Return the fewest seeds, at least 2, with which Student's paired test shows a difference of `nats`.

    Two-sided at the 5 % level, with a power of 80 %. At most MOST_SEEDS.
    """
    low, high = 2, 2
    while power(high, sd, nats=nats) < POWER and high < MOST_SEEDS:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if power(middle, sd, nats=nats) < POWER else (low, middle)
    return low


def power(n: int, sd: float, *, nats: float) -> float:
    """Return the chance that `n` seeds show a difference of `nats`, two-sided.

    It is the mean of P(|z + d| > c * s) over the distribution of s, the relative error of a standard deviation of n - 1
    degrees of freedom, with d = nats * sqrt(n) / sd and Student's critical value c. scipy's noncentral t distribution
    returns NaN for many such n and d.
    """
    if sd == 0:
        return 1.0
    critical, away = float(stats.t.ppf(1 - LEVEL / 2, n - 1)), nats * math.sqrt(n) / sd
    limits = critical * np.sqrt(stats.chi2.ppf(_PLACES, n - 1) / (n - 1))
    return float(np.mean(stats.norm.sf(limits - away) + stats.norm.cdf(-limits - away)))
