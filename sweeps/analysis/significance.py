"""Significance of contrasts: shown, harmful or negligible, corrections of p-values, and the seeds that would decide."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from scipy.special import stdtr, stdtrit

from sweeps.analysis.contrasts import LEVEL, ROUNDING, Contrast, p_of_two_modes

P_MULTIPLIER = 2.5
"""Factor on every p-value. Adding seeds until a result is significant inflates errors, and 2.5 is Pocock's factor for
four looks at 0.05. `benchmarks/verdict/confirm_phases.py` measures how many false claims remain."""
ALPHA_BEST = 0.8
"""Share of the error that the test of the best config's whole gain may take. Its knobs get the rest until that gain is
shown, and all of the error then. So a knob can be shown although the best is not (the fallback procedure of
Wiens 2003, "A fixed sequence Bonferroni procedure for testing multiple endpoints", Pharmaceutical Statistics 2)."""
MAX_SEEDS_TO_DECIDE = 64
"""further seeds that are worth naming"""


def shown(contrast: Contrast | None) -> bool:
    """Whether the mean is shown to exceed the contrast's threshold. None: no runs, nothing shown."""
    return contrast is not None and contrast.p is not None and contrast.p <= LEVEL


def negligible(contrast: Contrast | None, min_effect: float) -> bool:
    """Whether the two-sided interval lies inside ±min_effect. None: no runs, no interval."""
    if contrast is None or contrast.low is None or contrast.high is None:
        return False
    return -min_effect < contrast.low and contrast.high < min_effect


def harmful(contrast: Contrast, min_effect: float) -> bool:
    """Whether the mean is shown to be below -min_effect."""
    return contrast.upper is not None and contrast.upper < -min_effect


def harmful_among(contrasts: Sequence[Contrast | None], min_effect: float) -> list[bool]:
    """Return which contrasts of a family are shown to have a mean below -min_effect, by Holm's method."""
    adjusted = holm([None if contrast is None else p_of_harm(contrast, min_effect) for contrast in contrasts])
    return [p is not None and p <= LEVEL for p in adjusted]


def p_of_harm(contrast: Contrast, min_effect: float) -> float | None:
    """Return the one-sided p of a true mean of at least -min_effect, over all looks. None: the noise is unknown."""
    if contrast.se is None or contrast.degrees is None:
        return None
    if not contrast.se:
        return float(contrast.mean >= -min_effect - ROUNDING)
    students = min(1.0, contrast.looks * float(stdtr(contrast.degrees, (contrast.mean + min_effect) / contrast.se)))
    if not contrast.bimodal:
        return students
    mirrored = {seed: -difference for seed, difference in contrast.differences.items()}
    return p_of_two_modes(students, mirrored, threshold=min_effect, looks=contrast.looks)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Return Holm's adjusted p-values (1979, Scand. J. Statist. 6), in the order of `p`.

    None stands for a comparison that has no p yet. It stays None and counts in the family as the least significant.
    So the p-values of others can only fall when it gets a p.
    """
    adjusted: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, index) in enumerate(sorted((value, index) for index, value in enumerate(p) if value is not None)):
        highest = max(highest, min(1.0, (len(p) - rank) * value))
        adjusted[index] = highest
    return adjusted


def seeds_to_decide(contrast: Contrast, *, min_effect: float) -> int | None:
    """Return how many further seeds would decide, if mean and noise stay. None: over 64, or the noise is unknown.

    Decided is a mean that is shown to exceed min_effect, or is negligible or harmful. A p that was adjusted within a
    family stays as much larger than the contrast's own p as it is now.
    """
    if not contrast.se or contrast.degrees is None or contrast.p is None:
        return None
    for more in range(1, MAX_SEEDS_TO_DECIDE + 1):
        seeds = contrast.n + more
        future = _at_seeds(contrast, seeds, contrast.se, contrast.degrees, threshold=min_effect)
        if shown(future) or negligible(future, min_effect) or harmful(future, min_effect):
            return more
    return None


def _at_seeds(contrast: Contrast, seeds: int, se: float, degrees: float, *, threshold: float) -> Contrast:
    """Return the contrast's intervals and its p as they would be at another number of seeds, by Student's t.

    `se` and `degrees` are the contrast's, which are known. The mean stays.
    """
    multiplier = _p_multiplier(contrast, se, degrees)
    mean, looks = contrast.mean, contrast.looks
    se = se * math.sqrt(contrast.n / seeds)
    degrees = degrees * (seeds - 1) / max(1, contrast.n - 1)
    two_sided, one_sided = (se * float(stdtrit(degrees, 1 - tail)) for tail in (LEVEL / 2, LEVEL / looks))
    return dataclasses.replace(
        contrast,
        se=se,
        degrees=degrees,
        low=mean - two_sided,
        high=mean + two_sided,
        lower=mean - one_sided,
        upper=mean + one_sided,
        threshold=threshold,
        p=float(stdtr(degrees, (threshold - mean) / se)) * multiplier,
    )


def _p_multiplier(contrast: Contrast, se: float, degrees: float) -> float:
    """Return the factor between Student's p and the contrast's: its looks, or more if p was adjusted in a family."""
    students = float(stdtr(degrees, (contrast.threshold - contrast.mean) / se))
    if contrast.p is None or not students:
        return contrast.looks
    return max(contrast.looks, contrast.p / students)
