"""A grid of evaluations: the steps at which the curves of a study are compared, in any unit and at any distances.

Optuna's step is any whole number: an evaluation, an iteration, a token. Only the order of steps and their shares of the
horizon count, so the rule works on ranks. The grid is the steps of one trial, the one that went furthest. Curves with
other steps are interpolated linearly between their reports, so trials that report twice as often, or at odd steps,
inform each other too. A grid has at most 129 steps: an evaluation at every iteration says no more, and its cost grows.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from sweeps.pruning.gaussian_process import Array

MOST = 128
"""largest rank on a grid"""


@dataclass(frozen=True)
class Grid:
    """Rising steps. The rank of a step is its place among them, from 0."""

    steps: tuple[int, ...]

    @classmethod
    def of(cls, curves: Iterable[Collection[int]]) -> Self:
        """Return the grid for curves, given as the steps of their reports: those of the curve with the last step.

        Of several, the one with the most reports. If those are more than a grid has, evenly spaced ranks of them.
        """
        longest: Collection[int] = max(curves, key=lambda steps: (max(steps, default=-1), len(steps)), default=())
        steps = sorted(longest)
        if len(steps) > MOST + 1:
            steps = [steps[round(rank * (len(steps) - 1) / MOST)] for rank in range(MOST + 1)]
        return cls(tuple(steps))

    def rank(self, step: int) -> int:
        """Return the rank of the grid's last step at or before `step`; -1 if there is none."""
        return bisect.bisect_right(self.steps, step) - 1

    def losses(self, reports: Mapping[int, float]) -> Array:
        """Return the losses at ranks 0 to that of the last report, interpolated linearly; empty without reports.

        NaN before the first report. A loss that was not a number is infinite, and so is what is interpolated from it.
        """
        steps = sorted(reports)
        values = [math.inf if math.isnan(reports[step]) else reports[step] for step in steps]
        if not steps:
            return np.empty(0)
        return np.interp(self._array[: self.rank(steps[-1]) + 1], steps, values, left=math.nan)

    @functools.cached_property
    def shares(self) -> Array:
        """The steps as shares of the last one. A single step at 0 is the start."""
        return self._array / max(self.steps[-1], 1)

    @property
    def distances(self) -> Array:
        """The steps in units of their mean distance."""
        return self._array / max((self.steps[-1] - self.steps[0]) / max(len(self.steps) - 1, 1), 1)

    def rates(self, rates: tuple[float, ...]) -> Array:
        """Return learning rates at the grid's steps, from those at all evaluations of a trial.

        If their number is that of the grid's steps, they belong to these, else to equally distant evaluations.
        """
        if len(rates) == len(self.steps):
            return np.array(rates)
        return np.interp(self.shares, np.linspace(0.0, 1.0, len(rates)), rates)

    @functools.cached_property
    def _array(self) -> Array:
        return np.array(self.steps, dtype=float)
