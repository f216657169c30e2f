"""Noise of seeds: how far apart runs of one config end, and which differences exceed that.

A changed config is run once and compared with n runs of the baseline on different seeds. If the change does nothing,
its final loss is another draw from the baseline's losses. So the question is where further draws fall, and the answer
is a prediction interval: `mean ± factor * sd`.

Many changes are compared at once. A difference counts only outside the *simultaneous* interval, which holds all of
those draws with 95 % confidence (Hahn 1969, "Factors for Calculating Two-Sided Prediction Intervals for Samples from a
Normal Distribution", JASA 64). This interval is exact, unlike Bonferroni's, because the comparisons share one mean and
one sd. With 3 seeds and 12 changes it is half as wide.

Two assumptions: the noise of seeds is about normal, and it is the same for the changed config. Runs that share the
search's seed make the interval wider than necessary, never narrower.
"""

from __future__ import annotations

import bisect
import functools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from sweeps.analysis.contrasts import LEVEL
from sweeps.analysis.significance import ALPHA_BEST, P_MULTIPLIER

CONFIDENCE = 0.95
MAX_BASELINE_SEEDS = 32
CHANCE = 0.8
"""power: the probability with which an effect that counts as detectable is shown"""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Final losses of one config under several seeds, nats per token."""

    losses: tuple[float, ...]
    mean: float
    sd: float | None
    """sample standard deviation; None: unknown, with under 2 seeds or no difference between them"""

    @property
    def seeds(self) -> int:
        """Number of runs, each on its own seed."""
        return len(self.losses)

    def half_width(self, *, looks: int = 1) -> float | None:
        """Return half the width, in nats, of the interval that holds `looks` further runs. None: noise unknown."""
        return None if self.sd is None else self.sd * prediction_factor(self.seeds, looks=looks)


def noise_of(losses: Sequence[float]) -> Noise:
    """Return the noise of one config's final losses. `losses` must not be empty."""
    sd = statistics.stdev(losses) if len(losses) > 1 else 0.0
    return Noise(losses=tuple(losses), mean=statistics.fmean(losses), sd=sd or None)


def pooled_sd(groups: Iterable[Sequence[float]]) -> tuple[float | None, int]:
    """Return the standard deviation within groups, pooled, and its degrees of freedom. None, 0: no two values."""
    several = [group for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in several)
    squares = math.fsum((len(group) - 1) * statistics.variance(group) for group in several)
    return (math.sqrt(squares / degrees), degrees) if degrees else (None, 0)


@functools.cache
def prediction_factor(n: int, *, looks: int = 1, confidence: float = CONFIDENCE) -> float:
    """Return the `r` for which `mean ± r * sd` of n normal values holds all of `looks` further values.

    For one look, y and the mean are independent, with variances s2 and s2 / n. So `(mean - y) / (sd * sqrt(1 + 1/n))`
    has Student's t distribution with n - 1 degrees of freedom, and `r = t(0.5 + confidence/2, n - 1) * sqrt(1 + 1/n)`.
    For several looks see `_coverage`. Raises ValueError if n is below 2 or `looks` below 1.
    """
    if n < 2 or looks < 1:
        raise ValueError(f"a prediction needs at least 2 values and 1 look, not {n} and {looks}")

    def alone(level: float) -> float:
        return float(special.stdtrit(n - 1, 0.5 + level / 2)) * math.sqrt(1 + 1 / n)

    if looks == 1:
        return alone(confidence)
    bonferroni = alone(1 - (1 - confidence) / looks)
    return float(optimize.brentq(lambda r: _coverage(r, n, looks) - confidence, alone(confidence), bonferroni))


def _coverage(r: float, n: int, looks: int) -> float:
    """Return the probability that `mean ± r * sd` of n normal values holds `looks` further values.

    Given the mean's error z/sqrt(n) and the sd s, in units of the true sd, the further values are independent, so the
    probability is `[Phi(z/sqrt(n) + r s) - Phi(z/sqrt(n) - r s)]**looks`. It is averaged over z and s. z is normal, so
    Gauss-Hermite quadrature applies. (n-1) s**2 is chi-squared, so trapezoids in log s apply: there the density is
    smooth and vanishes at both ends.
    """
    z, z_weight = np.polynomial.hermite_e.hermegauss(40)
    df = n - 1
    log_s = np.linspace(-36 / df, 0.5 * math.log(80 / df + 4), 401)
    log_density = df * log_s - df / 2 * np.exp(2 * log_s) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)
    s_weight = 2 * np.exp(log_density) * (log_s[1] - log_s[0])
    reach = r * np.exp(log_s)[:, None]
    held = special.ndtr(z / math.sqrt(n) + reach) - special.ndtr(z / math.sqrt(n) - reach)
    return float(s_weight @ held**looks @ z_weight) / math.sqrt(2 * math.pi)


def seeds_to_show(effect: float, sd: float, *, looks: int) -> int | None:
    """Return the baseline seeds that would put one run's `effect` (nats) outside the noise, if the sd stays.

    None: over 32, or no number of baseline seeds would do, because the run itself is a single draw.
    """
    seeds = range(2, MAX_BASELINE_SEEDS + 1)
    index = bisect.bisect_left(seeds, True, key=lambda n: sd * prediction_factor(n, looks=looks) < abs(effect))
    return seeds[index] if index < len(seeds) else None


def detectable(
    sd: float,
    seeds: int,
    *,
    threshold: float = 0.0,
    looks: float = P_MULTIPLIER / ALPHA_BEST,
    chance: float = CHANCE,
) -> float:
    """Return the smallest true effect, nats, that `seeds` pairs of runs show to exceed `threshold` with this chance.

    The test is Student's, one-sided, on n = `seeds` differences by seed (significance.shown), with p multiplied by
    `looks`, by default as for the best config. A difference of two runs has the standard deviation `sqrt(2) * sd`: the
    luck of a seed that moves both alike would make it smaller. So the standard error is `sd * sqrt(2 / n)`, and an
    effect of `threshold + d * sd * sqrt(2 / n)` is shown with the probability that noncentral t with n - 1 degrees of
    freedom and noncentrality d exceeds `t(1 - 0.05 / looks, n - 1)`; d follows. `sd` is taken as the true one. Losses
    in two clusters, which are tested otherwise, are left aside. Raises ValueError if `seeds` is below 2.
    """
    if seeds < 2:
        raise ValueError(f"a test needs at least 2 seeds, not {seeds}")
    se = sd * math.sqrt(2 / seeds)
    return threshold + standard_errors_to_show(seeds - 1, looks=looks, chance=chance) * se


def standard_errors_to_show(degrees: int, *, looks: float, chance: float = CHANCE) -> float:
    """Return how many standard errors above its threshold a true mean must lie to be shown with this chance.

    The test is Student's, one-sided, with `degrees` of freedom and p multiplied by `looks`.
    """
    critical = float(special.stdtrit(degrees, 1 - LEVEL / looks))
    return float(special.nctdtrinc(degrees, 1 - chance, critical))
