"""The curve that races are compared with: the origin's own runs, or a log of the run that another program made."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import stdtr, stdtrit

from sweeps.analysis.contrasts import LEVEL, Contrast
from sweeps.analysis.traces import Floats, at_the_end, slope, slope_variance
from sweeps.pruning.plateau import evaluation_noise


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceCurve:
    """Validation losses that a log tells of the origin's run. They are noisy, and of one unknown seed."""

    steps: Floats
    """(N,) ascending"""
    losses: Floats
    """(N,) nats per token, finite, on a race's evaluation windows: the log's losses + the offset"""
    offset_se: float
    """standard error of that offset, nats"""

    @classmethod
    def of(cls, printed: Iterable[tuple[int, float]], *, offset: float, offset_se: float) -> Self:
        """Return the curve of a log that printed these (iteration, loss in nats), moved by the offset."""
        known = sorted((step, loss) for step, loss in printed if math.isfinite(loss))
        return cls(
            steps=np.array([step for step, _ in known], dtype=np.float64),
            losses=np.array([loss + offset for _, loss in known], dtype=np.float64),
            offset_se=offset_se,
        )

    @property
    def noise(self) -> float:
        """Standard deviation of one evaluation's noise, nats, from the curve itself; NaN without 3 evaluations."""
        losses: list[float] = self.losses.tolist()
        return evaluation_noise(losses)

    def covers(self, step: float) -> bool:
        """Whether a step lies between the first evaluation and the last."""
        return bool(len(self.steps)) and bool(self.steps[0] <= step <= self.steps[-1])

    def at(self, step: float) -> float:
        """Return the loss at a step that the curve covers, linear between evaluations."""
        return float(np.interp(step, self.steps, self.losses))

    def gap(self, race: Mapping[int, float], others: Sequence[Mapping[int, float]], *, step: int) -> Contrast:
        """Return the curve's loss - a race's, at a step. `race`: losses by seed; `others`: those of other changes."""
        variance = self.noise**2 + self.offset_se**2
        return against_one_run(self.at(step), race, others, variance=variance)

    def slope_gap(
        self, race: Mapping[int, float], others: Sequence[Mapping[int, float]], *, until: int
    ) -> Contrast | None:
        """Return the curve's slope - a race's, over the last third up to a step. None: under 3 evaluations there.

        `race` and `others` are slopes by seed, in nats per 100 iterations.
        """
        kept = at_the_end(self.steps, until=until)
        own = slope(self.steps[kept], self.losses[kept])
        if own is None or not race:
            return None
        return against_one_run(own, race, others, variance=slope_variance(self.steps[kept], sigma=self.noise))


def against_one_run(
    own: float, race: Mapping[int, float], others: Sequence[Mapping[int, float]], *, variance: float
) -> Contrast:
    """Return one run's value - the mean of a race over its seeds, with the noise of both.

    The one run is a draw of a seed, too. The variance of seeds is pooled over all changes that have several seeds, so
    the variance of the gap is `v * (1/n + 1) + variance`, where `variance` is what else is noisy about the one run
    (known well). It has Student's t with Welch's degrees. Without a second seed anywhere there is no interval.
    """
    tables = [list(by_seed.values()) for by_seed in (race, *others)]
    degrees = sum(len(table) - 1 for table in tables if table)
    mean = own - statistics.fmean(race.values())
    unknown = Contrast(
        differences={seed: own - value for seed, value in race.items()},
        mean=mean,
        se=None,
        degrees=None,
        low=None,
        high=None,
        lower=None,
        upper=None,
        threshold=0.0,
        p=None,
        method="unpaired",
    )
    squares = math.fsum((value - statistics.fmean(table)) ** 2 for table in tables if table for value in table)
    of_seeds = (1 / len(race) + 1) * squares / degrees if degrees else math.nan
    total = of_seeds + variance
    if not math.isfinite(total) or total <= 0:
        return unknown
    welch = degrees * (total / of_seeds) ** 2 if of_seeds else math.inf
    se = math.sqrt(total)
    two_sided, one_sided = (se * float(stdtrit(welch, 1 - tail)) for tail in (LEVEL / 2, LEVEL))
    return Contrast(
        differences=unknown.differences,
        mean=mean,
        se=se,
        degrees=welch,
        low=mean - two_sided,
        high=mean + two_sided,
        lower=mean - one_sided,
        upper=mean + one_sided,
        threshold=0.0,
        p=float(stdtr(welch, -mean / se)),
        method="unpaired",
    )
