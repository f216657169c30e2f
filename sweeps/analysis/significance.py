"""Significance of contrasts: what is shown, harmful or negligible, Holm's correction, seeds to decide."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import stdtr, stdtrit

from sweeps.analysis.contrasts import _EXACT, LEVEL, Contrast, _permuted

MAX_SEEDS_TO_DECIDE = 64
"""further seeds that are worth naming"""


def shown(contrast: Contrast) -> bool:
    """Whether the mean is shown to exceed the contrast's threshold."""
    return contrast.p is not None and contrast.p <= LEVEL


def negligible(contrast: Contrast, min_effect: float) -> bool:
    """Whether the interval lies inside ±min_effect."""
    low, high = contrast.low, contrast.high
    return low is not None and high is not None and -min_effect < low and high < min_effect


def harmful(contrast: Contrast, min_effect: float) -> bool:
    """Whether the mean is shown to be below -min_effect."""
    return contrast.upper is not None and contrast.upper < -min_effect


def harmful_among(contrasts: Sequence[Contrast | None], min_effect: float) -> list[bool]:
    """Which of a family of contrasts are shown, by Holm, to have a mean below -min_effect."""
    found = holm([None if each is None else p_of_harm(each, min_effect) for each in contrasts])
    return [p is not None and p <= LEVEL for p in found]


def p_of_harm(contrast: Contrast, min_effect: float) -> float | None:
    """One-sided, of a true mean of at least -min_effect, over all looks."""
    if contrast.method == "permutation":
        return _permuted({seed: -each for seed, each in contrast.differences.items()}, min_effect, contrast.looks).p
    if contrast.se is None or contrast.degrees is None:
        return None
    if not contrast.se:
        return float(contrast.mean >= -min_effect - _EXACT)
    return min(1.0, contrast.looks * float(stdtr(contrast.degrees, (contrast.mean + min_effect) / contrast.se)))


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values (1979, Scand. J. Statist. 6), in place.

    None, a comparison that has no p yet, stays None and counts in the family, as if it were the least significant: so
    p-values can only fall when it comes in with a low one, never rise because there are more of them.
    """
    adjusted: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, index) in enumerate(sorted((each, i) for i, each in enumerate(p) if each is not None)):
        highest = max(highest, min(1.0, (len(p) - rank) * value))
        adjusted[index] = highest
    return adjusted


def seeds_to_decide(contrast: Contrast, *, min_effect: float) -> int | None:
    """Further seeds with which the mean would be shown to exceed min_effect, to lie within ±min_effect or below
    -min_effect, were mean and noise to stay.

    An adjusted p counts as it stands to the contrast's own: in a family, more is needed. None: over 64, or the noise
    isn't known.
    """
    if not contrast.se or contrast.degrees is None or contrast.p is None:
        return None
    n, looks = contrast.n, contrast.looks
    raw = float(stdtr(contrast.degrees, (contrast.threshold - contrast.mean) / contrast.se))
    family = max(looks, contrast.p / raw) if raw and contrast.method != "permutation" else looks
    for more in range(1, MAX_SEEDS_TO_DECIDE + 1):
        if contrast.method == "permutation" and 2.0 ** -(n + more) > LEVEL / 2:
            continue
        se = contrast.se * math.sqrt(n / (n + more))
        degrees = contrast.degrees * (n + more - 1) / max(1, n - 1)
        p = float(stdtr(degrees, (min_effect - contrast.mean) / se))
        two, one = (se * float(stdtrit(degrees, 1 - tail)) for tail in (LEVEL / 2, LEVEL / looks))
        if p * family <= LEVEL or abs(contrast.mean) + two < min_effect or contrast.mean + one < -min_effect:
            return more
    return None
