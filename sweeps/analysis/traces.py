"""Traces: curves of runs by tokens, as far as it takes to put two side by side, and the slopes at their ends.

Places along a curve are iterations of the run that it is compared with, so that batches of another size still line up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeps.store.records import Run

Floats = NDArray[np.float64]

END = 1 / 3
"""share of a curve whose slope says where it is going"""
_ROUNDING = 1e-6
"""iterations"""
_FEWEST = 3
"""evaluations of a slope"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """Validation losses of one run on its small set of windows, in the order of training. Finite ones only."""

    places: Floats
    """(N,) tokens trained on, in iterations of the run that it is compared with"""
    losses: Floats
    """(N,) nats per token"""

    @property
    def fall(self) -> float:
        """What the loss fell from the first evaluation to the last, nats."""
        return float(self.losses[0] - self.losses[-1])

    def at(self, place: float) -> float:
        """Return the loss at a place, linear between evaluations, and constant beyond the ends."""
        return float(np.interp(place, self.places, self.losses))

    def slope(self, *, until: float) -> float | None:
        """Return the least-squares slope of the last third of the curve up to `until`, nats per 100 iterations.

        None: there are fewer than 3 evaluations there.
        """
        kept = at_the_end(self.places, until=until)
        return slope(self.places[kept], self.losses[kept])


def trace_of(run: Run, *, tokens_per_iter: int) -> Trace:
    """Return a run's curve. `tokens_per_iter`: of the run that it is compared with."""
    points = [point for point in run.points if math.isfinite(point.val_loss)]
    return Trace(
        places=np.array([point.tokens / tokens_per_iter for point in points]),
        losses=np.array([point.val_loss for point in points]),
    )


def at_the_end(places: Floats, *, until: float) -> NDArray[np.bool_]:
    """Return which places lie in the last third of what is before `until`, both ends included."""
    return (places >= (1 - END) * until - _ROUNDING) & (places <= until + _ROUNDING)


def slope(places: Floats, losses: Floats) -> float | None:
    """Return the least-squares slope, nats per 100 iterations. None: there are fewer than 3 evaluations."""
    if len(places) < _FEWEST:
        return None
    centred = places - places.mean()
    return 100 * float(centred @ losses) / float(centred @ centred)


def slope_variance(places: Floats, *, sigma: float) -> float:
    """Return the variance of that slope for evaluations with independent noise of sd `sigma`, nats."""
    centred = places - places.mean()
    return (100 * sigma) ** 2 / float(centred @ centred)
