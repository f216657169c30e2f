"""Contrasts: differences of final losses between arms, over seeds, with intervals.

A seed moves every loss. It moves arms of one shape alike, because they start from the same weights and see the same
batches. The noise of a contrast is what remains of that luck once arms are subtracted. How that noise is measured
depends on which arms are compared and how their losses scatter about their means, never on the means themselves.

- *layout*: the luck cancels (the weights sum to 0 over the arms of each shape), and other arms of the shape show the
  same noise. On two seeds, a contrast's sums by seed give Student's t one degree of freedom and an interval of 13
  standard errors. The residuals of the other arms' table by arm and seed measure such noise many times over. Arms need
  not be equally noisy, so the others weigh no more than their agreement with each other warrants. They weigh nothing if
  the contrast's own sums scatter more than theirs, or clearly less.
- *paired*: Student's t on the sums by seed alone. This is the method for a config that changes many knobs at once: it
  may react to a seed more or less than arms that change one knob, so their noise does not apply (`pooled`). It is also
  the method where no other arm's noise applies.
- *unpaired*: arms of different shapes share no luck (measured: pairing them by seed narrows nothing). Each shape's sums
  have a variance of their own, over all of its seeds, and Welch's formula adds the variances up. So it is where a seed
  ran on different kinds of device: the same seed, config and weights ended 0.04 nats apart on two cards.

Sums that fall into two modes (`modes`), because some seeds have broken through and others have not, count by
themselves: noise of arms that all got through, or all got stuck, does not describe them. Student's t is used all the
same, with the distance of the modes as its noise. The interval is at least as wide as Hartigan's typical values, and
under six seeds it reaches from the least seed to the largest. p is at least that of flips of the signs, unless all
seeds exceed the threshold. Then flips can't decide anything: on eight seeds their least p is 0.004, and 0.06 after six
knobs and four looks. The share of seeds that broke through has an interval of its own.

An arm with one run borrows its noise from the others. It has none if some arm of its shape, the baseline included, has
two modes or is louder than the others: nothing tells whether the run is of that kind, too.

`benchmarks/verdict/intervals.py` measures how often the intervals hold the truth.

Two-sided intervals are 95 % intervals for the runs at hand. Claims rest on p and on the one-sided bounds. The confirm
phase looks at these after every run, and adds seeds until a claim is made, which inflates errors. So p can be
multiplied by `looks`, and the one-sided bounds are widened to match (Pocock 1977, "Group sequential methods in the
design and analysis of clinical trials", Biometrika 64).
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from scipy.special import fdtrc, stdtr, stdtrit

from sweeps.analysis.modes import share_interval, sign_flip_p, two_modes, typical_values
from sweeps.analysis.residuals import of_one_kind, residual

LEVEL = 0.05
"""one minus the confidence of every interval and bound"""
ROUNDING = 1e-9
"""nats; smaller differences are rounding"""
_LOUDER, _QUIETER = 0.1, 0.01
"""Levels of the F tests for a contrast too loud, or too quiet, for the others' variance to apply to it. A contrast
falsely called quiet costs coverage; one falsely called loud costs only width."""
_MIN_DEGREES_QUIET = 4
"""degrees of freedom below which sums by seed may agree by chance, as where all seeds happened to break through"""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Final losses of one config under several seeds, nats per token."""

    losses: Mapping[int, float]
    """by seed"""
    shape: Hashable
    """at a seed, arms of one shape start from the same weights and see the same batches"""
    kinds: Mapping[int, str] = dataclasses.field(default_factory=dict)
    """kind of device by seed; arms of one shape share a seed's luck on one kind only. Missing seeds are of one kind"""

    @property
    def by_luck(self) -> dict[tuple[int, str], float]:
        """The losses by what decides their luck: the seed and the kind of device."""
        return {(seed, self.kinds.get(seed, "")): loss for seed, loss in self.losses.items()}

    def less(self, share: float, other: Sample) -> Sample:
        """Return these losses - a share of another sample's, at the seeds that both have."""
        shared = self.losses.keys() & other.losses.keys()
        both = {seed: (self.kinds.get(seed, ""), other.kinds.get(seed, "")) for seed in shared}
        return Sample(
            losses={seed: self.losses[seed] - share * other.losses[seed] for seed in shared},
            shape=self.shape,
            kinds={seed: mine if mine == theirs else f"{mine} / {theirs}" for seed, (mine, theirs) in both.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A weighted sum of arms' losses over the seeds that they share, nats. Above 0 is better."""

    differences: Mapping[int, float]
    """by seed; reports show them beside the mean"""
    mean: float
    """of the differences; method unpaired: from each arm's losses at all of its seeds"""
    se: float | None
    """standard error of the mean, nats; None: the noise is unknown (one seed, and no other arm's noise applies)"""
    degrees: float | None
    low: float | None
    """two-sided 95 % interval; None: the noise is unknown"""
    high: float | None
    lower: float | None
    """one-sided 95 % bounds over all looks; None: the noise is unknown"""
    upper: float | None
    threshold: float
    """what the mean is tested against, nats"""
    p: float | None
    """one-sided, of a true mean of at most `threshold`, over all looks"""
    method: str
    """layout, paired or unpaired"""
    looks: float = 1.0
    """factor on p"""
    bimodal: bool = False
    """whether the seeds fall into two modes"""
    kinds_differ: bool = False
    """whether arms of one shape are unpaired because a seed ran on different kinds of device"""

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.differences)

    @property
    def through(self) -> int:
        """Number of seeds whose own difference exceeds the threshold."""
        return sum(difference > self.threshold for difference in self.differences.values())

    @property
    def share(self) -> float:
        """Share of the seeds whose own difference exceeds the threshold."""
        return self.through / max(1, self.n)

    @property
    def share_interval(self) -> tuple[float, float]:
        """Two-sided 95 % interval of that share over all seeds that there could be."""
        return share_interval(self.through, self.n, level=LEVEL)


def contrast(
    weights: Mapping[K, float],
    samples: Mapping[K, Sample],
    *,
    threshold: float = 0.0,
    looks: float = 1.0,
    pooled: bool = True,
) -> Contrast | None:
    """Return the sum of arms' mean losses by `weights`, which sum to 0. None: no seed that all arms share.

    `samples` holds every arm of the study. The noise of those outside of the contrast counts if `pooled` is set.
    Arms of one shape count at the seeds that they share; the differences are those of the seeds that all arms share.
    """
    parts: dict[Hashable, dict[K, float]] = defaultdict(dict)
    for arm, weight in weights.items():
        if weight:
            parts[samples[arm].shape][arm] = weight
    apart = [shape for shape, part in parts.items() if _kinds_differ([samples[arm] for arm in part])]
    for shape in apart:
        parts |= {(shape, arm): {arm: weight} for arm, weight in parts.pop(shape).items()}
    sums = {shape: _sums(part, samples) for shape, part in parts.items()}
    shared = sorted(set.intersection(*(set(by_seed) for by_seed in sums.values())))
    if not shared:
        return None
    differences = {seed: math.fsum(by_seed[seed] for by_seed in sums.values()) for seed in shared}
    bimodal = any(two_modes([by_seed[seed] for seed in shared]) for by_seed in sums.values())
    noises = []
    for shape, part in parts.items():
        table = {arm: sample.by_luck for arm, sample in samples.items() if sample.shape == shape and sample.losses}
        values, pooling = list(sums[shape].values()), pooled and not bimodal
        if len(values) == 1 and not of_one_kind(list(table.values())):
            pooling = False
        others = [losses for arm, losses in table.items() if pooling and arm not in weights]
        noises.append(_noise(part.values(), values, others))
    mean = math.fsum(statistics.fmean(by_seed.values()) for by_seed in sums.values())
    result = _by_students_t(differences, mean, noises, threshold, looks)
    result = dataclasses.replace(result, kinds_differ=bool(apart))
    return _of_two_modes(result) if bimodal else result


def _kinds_differ(samples: Collection[Sample]) -> bool:
    """Whether a seed that all samples share has different kinds of device."""
    shared = set.intersection(*(set(sample.losses) for sample in samples))
    return any(len({sample.kinds.get(seed, "") for sample in samples}) > 1 for seed in shared)


def _sums(part: Mapping[K, float], samples: Mapping[K, Sample]) -> dict[int, float]:
    """Return weighted sums of losses at the seeds that the arms of a part share."""
    seeds = sorted(set.intersection(*(set(samples[arm].losses) for arm in part)))
    return {seed: math.fsum(weight * samples[arm].losses[seed] for arm, weight in part.items()) for seed in seeds}


@dataclass(frozen=True, kw_only=True)
class _PartNoise:
    """Noise of the mean of a contrast's part: what the arms of one shape contribute."""

    variance: float
    degrees: float
    pooled: bool
    """whether other arms' noise is in it"""


def _noise(
    weights: Collection[float], sums: Sequence[float], others: Sequence[Mapping[tuple[int, str], float]]
) -> _PartNoise | None:
    """Measure the noise of a part's mean. None: unknown.

    `sums` are the part's weighted sums by seed, `others` the losses of other arms of its shape by seed and kind.
    """
    n, degrees = len(sums), len(sums) - 1
    mean = math.fsum(sums) / n
    variance = math.fsum((value - mean) ** 2 for value in sums) / degrees if degrees else 0.0
    alone = _PartNoise(variance=variance / n, degrees=degrees, pooled=False) if degrees else None
    luck_cancels = abs(math.fsum(weights)) <= ROUNDING
    identical_runs = degrees > 0 and max(map(abs, sums)) < ROUNDING
    if not luck_cancels or identical_runs:
        return alone
    of_others = residual(others)
    size = math.fsum(weight**2 for weight in weights)  # variance of a sum of runs whose variance is 1
    if of_others is None:
        return alone
    if degrees and _too_loud_or_quiet(variance / size / of_others.variance, degrees, of_others.degrees):
        return alone
    total = degrees + of_others.weight
    pooled = (degrees * variance + of_others.weight * size * of_others.variance) / total
    return _PartNoise(variance=pooled / n, degrees=total, pooled=True)


def _too_loud_or_quiet(ratio: float, degrees: int, degrees_of_others: int) -> bool:
    """Whether a variance differs too much from the other arms' to be pooled with it. `ratio`: the variance / theirs."""
    p_louder = fdtrc(degrees, degrees_of_others, ratio)
    if p_louder < _LOUDER:
        return True
    return bool(degrees >= _MIN_DEGREES_QUIET and p_louder > 1 - _QUIETER)


def _of_two_modes(contrast: Contrast) -> Contrast:
    """Return a contrast by Student's t with what the seeds' own values add, where they fall into two modes."""
    if contrast.se is None:
        return dataclasses.replace(contrast, bimodal=True)
    assert contrast.low is not None
    assert contrast.high is not None
    assert contrast.lower is not None
    assert contrast.upper is not None
    values = list(contrast.differences.values())
    low, high = typical_values(values, LEVEL / 2)
    lower, upper = typical_values(values, LEVEL / contrast.looks)
    return dataclasses.replace(
        contrast,
        low=min(contrast.low, low),
        high=max(contrast.high, high),
        lower=min(contrast.lower, lower),
        upper=max(contrast.upper, upper),
        p=p_of_two_modes(contrast.p, contrast.differences, threshold=contrast.threshold, looks=contrast.looks),
        bimodal=True,
    )


def p_of_two_modes(
    students: float | None, differences: Mapping[int, float], *, threshold: float, looks: float
) -> float | None:
    """Return the one-sided p of differences that fall into two modes, from Student's (over all looks).

    Seeds on the wrong side of the threshold count by sign flips, which Student's t may underrate in the far tail.
    """
    if students is None:
        return None
    return max(students, min(1.0, looks * sign_flip_p(list(differences.values()), threshold)))


def _by_students_t(
    differences: Mapping[int, float], mean: float, noises: Sequence[_PartNoise | None], threshold: float, looks: float
) -> Contrast:
    """Return the contrast by Student's t. Runs that agree to the last digit make the mean certain."""
    known = [noise for noise in noises if noise is not None]
    unknown = Contrast(
        differences=differences,
        mean=mean,
        se=None,
        degrees=None,
        low=None,
        high=None,
        lower=None,
        upper=None,
        threshold=threshold,
        p=None,
        method=_method(noises),
        looks=looks,
    )
    if len(known) < len(noises):
        return unknown
    variance = math.fsum(noise.variance for noise in known)
    if variance > ROUNDING**2:
        # Welch and Satterthwaite; a single part keeps its degrees
        degrees = variance**2 / math.fsum(noise.variance**2 / noise.degrees for noise in known)
        se = math.sqrt(variance)
        two_sided, one_sided = (se * float(stdtrit(degrees, 1 - tail)) for tail in (LEVEL / 2, LEVEL / looks))
        p = min(1.0, looks * float(stdtr(degrees, (threshold - mean) / se)))
    else:
        degrees = math.fsum(noise.degrees for noise in known)
        se = two_sided = one_sided = 0.0
        p = float(mean <= threshold + ROUNDING)
    return dataclasses.replace(
        unknown,
        se=se,
        degrees=degrees,
        low=mean - two_sided,
        high=mean + two_sided,
        lower=mean - one_sided,
        upper=mean + one_sided,
        p=p,
    )


def _method(noises: Sequence[_PartNoise | None]) -> str:
    if all(noise is not None and noise.pooled for noise in noises):
        return "layout"
    return "paired" if len(noises) == 1 else "unpaired"
