"""Is a curve stuck, or slow as its schedule has it? A test of the last evaluations against the law of the curve.

The law is fitted to what came before a window and says what drop to expect across it, from the window's first 4
evaluations to its last 4; what was seen is the difference of their medians, which a spike doesn't move. **Plateau**:
the drop is surely less than half of the expected one; **improving**: surely more; else **undetermined**, which stops
nothing. "Surely" is a one-sided 95 %: 1.645 standard errors, of the evaluations' noise and half of the law's variance.
On the families of curves in `benchmarks/pruning/plateau_test.py`, all of that cost up to a third of the power, and
none of it made false alarms up to 19 %.

The window is the last 10 evaluations; for a plateau also longer ones, unless the last 10 improve. To a law fitted
shortly before, a curve that has long been flat has simply arrived; over a longer window more of the drop is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sweeps.pruning import law
from sweeps.pruning.law import Floats, Schedule

WINDOW = 10
"""evaluations that the test looks at, at least"""
_EDGE = 4
"""evaluations whose medians are compared, at either end of the window"""
_EDGE_NEEDED = 3
"""of these, those that must be there"""
_LONGER = 1.3
"""ratio of one window's length to the next"""
_MEDIAN_VARIANCE = np.array([np.nan, np.nan, np.nan, 0.4487, 0.2982])
"""of the median of 3 and of 4 normal values, as a share of the variance of one"""
_SURE = 1.645
_ROUGH = 1.1
"""what noise estimated from a few evaluations asks for on top"""
_LAW_SHARE = 0.5
"""of the law's variance"""
_LEAST = 1e-4
"""nats; no drop is known better than to this"""


class CurveState(StrEnum):
    """What the test finds."""

    PLATEAU = "plateau"
    IMPROVING = "improving"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, kw_only=True)
class CurveVerdict:
    """What the test finds, with its numbers: nats, None where nothing could be tested."""

    word: CurveState
    since: int | None
    """plateau: first evaluation of the window that shows it most clearly; else None"""
    expected: float | None
    """the drop that the law expects across the window (that from `since` on for a plateau, else the last 10)"""
    expected_se: float | None
    """its standard error"""
    observed: float | None
    """the drop seen"""
    se: float | None
    """its standard error, of the evaluations' noise alone"""
    low: float | None
    """90 % interval of the drop seen"""
    high: float | None
    schedule_known: bool
    """False: a constant rate was assumed, and a slow middle of a cosine decay can pass for a plateau"""
    reason: str
    """why undetermined; empty otherwise"""


@dataclass(frozen=True, kw_only=True)
class Slope:
    """How fast the loss moves, nats per 1000 iterations; below 0 it falls."""

    value: float
    low: float
    high: float


@overload
def evaluation_noise(losses: Sequence[float]) -> float: ...
@overload
def evaluation_noise(losses: Floats) -> float | Floats: ...
def evaluation_noise(losses: Sequence[float] | Floats) -> float | Floats:
    """Standard deviation of one evaluation's noise, nats, along the last axis; NaN with fewer than 3 in a row.

    `1.4826 * median(|second differences|) / sqrt(6)`: a smooth curve has next to none of them, noise of variance v
    gives them 6 v, and the median is blind to a few steps. NaN and infinite losses are gaps.
    """
    values = law.finite(losses)
    sigma = 1.4826 / np.sqrt(6) * _median(np.abs(np.diff(values, n=2, axis=-1)))
    return float(sigma) if values.ndim == 1 else sigma


def _median(values: Floats) -> Floats:
    """Along the last axis, of what isn't NaN; NaN where nothing is."""
    if values.shape[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    count = np.isfinite(values).sum(axis=-1, keepdims=True)
    middle = np.concatenate([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[-1] - 1)], axis=-1)
    median: Floats = np.take_along_axis(np.sort(values, axis=-1), middle, axis=-1).mean(axis=-1)  # NaN come last
    return median


def verdict(losses: ArrayLike, schedule: Schedule) -> CurveVerdict:
    """The test on one curve: its losses at evaluations 0 to now, nats. ValueError: as `law.fit`."""
    return verdicts([losses], [schedule])[0]


def verdicts(losses: Sequence[ArrayLike], schedules: Sequence[Schedule]) -> list[CurveVerdict]:
    """The test on many curves, each by itself. ValueError: as `law.fit`."""
    table = law.table(losses, schedules)
    now = np.array([np.size(curve) for curve in losses], dtype=np.int64)
    tests = _test(table, schedules, now)
    bounds = np.searchsorted(tests.curve, np.arange(len(now) + 1))
    return [
        _found(tests, slice(bounds[index], bounds[index + 1]), schedule)
        if bounds[index] < bounds[index + 1]
        else _nothing(schedule, evaluations=int(now[index]), usable=int(np.isfinite(table[index]).sum()))
        for index, schedule in enumerate(schedules)
    ]


@dataclass(frozen=True, kw_only=True)
class _Tests:
    """R windows of curves, those of one curve together, its shortest first; (R,) each, drops and errors in nats."""

    curve: NDArray[np.int64]
    start: NDArray[np.int64]
    observed: Floats
    se: Floats
    expected: Floats
    expected_se: Floats


def _test(table: Floats, schedules: Sequence[Schedule], now: NDArray[np.int64]) -> _Tests:
    """Test the windows of each curve that have enough evaluations in and before them; none if the last 10 haven't.

    `table` (K, N) as of `law.table`; `now` (K,) evaluations so far, gaps too.
    """
    sigma = np.asarray(evaluation_noise(table))
    curve, start = _windows(np.isfinite(table), now)
    keep = np.isfinite(sigma[curve])
    curve, start = curve[keep], start[keep]
    losses = table[curve]
    shares = np.zeros_like(losses)
    observed, variance = np.zeros(len(curve)), np.zeros(len(curve))
    for sign, begin in ((1, start), (-1, now[curve] - _EDGE)):
        edge = begin[:, None] + np.arange(_EDGE)
        values = np.take_along_axis(losses, edge, axis=1)
        count = np.isfinite(values).sum(axis=1)
        np.put_along_axis(shares, edge, sign * np.isfinite(values) / count[:, None], axis=1)
        observed += sign * _median(values)
        variance += _MEDIAN_VARIANCE[count]
    past = np.where(np.arange(table.shape[1]) < start[:, None], losses, np.nan)
    expected, expected_se = law.fit_table(past, [schedules[k] for k in curve.tolist()]).expected(shares)
    return _Tests(
        curve=curve,
        start=start,
        observed=observed,
        se=np.maximum(_ROUGH * sigma[curve] * np.sqrt(variance), _LEAST),
        expected=expected,
        expected_se=expected_se,
    )


def _windows(there: NDArray[np.bool_], now: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Curve and first evaluation of each window that can be tested. Each is 1.3 times as long as the one before."""
    width = there.shape[1]
    number = max(int(math.log(max(width, WINDOW) / WINDOW) / math.log(_LONGER)), 0) + 1
    lengths = np.round(WINDOW * _LONGER ** np.arange(number)).astype(np.int64)
    curve, length = np.repeat(np.arange(len(now)), number), np.tile(lengths, len(now))
    start = now[curve] - length
    seen = np.concatenate([np.zeros((len(there), 1), dtype=np.int64), there.cumsum(axis=1)], axis=1)

    def count(begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
        """Evaluations there from `begin` to before `end`; before the first there is none."""
        counted: NDArray[np.int64] = seen[curve, np.maximum(end, 0)] - seen[curve, np.maximum(begin, 0)]
        return counted

    fair = count(0 * start, start) >= law.NEEDED
    for begin in (start, now[curve] - _EDGE):
        fair &= count(begin, begin + _EDGE) >= _EDGE_NEEDED
    fair &= np.isin(curve, curve[fair & (length == WINDOW)])
    return curve[fair], start[fair]


def _found(tests: _Tests, rows: slice, schedule: Schedule) -> CurveVerdict:
    """The verdict on a curve from its windows, the shortest first."""
    observed, expected, se = tests.observed[rows], tests.expected[rows], tests.se[rows]
    expected_se, start = tests.expected_se[rows], tests.start[rows]
    spread = np.hypot(se, np.sqrt(_LAW_SHARE) / 2 * expected_se)
    half = expected / 2
    missing = (half - observed) / spread
    expects = expected > _SURE * np.hypot(se, np.sqrt(_LAW_SHARE) * expected_se)
    stuck = np.where(expects & (missing > _SURE), missing, -np.inf)
    shown = 0
    word, since, reason = CurveState.UNDETERMINED, None, ""
    if observed[0] - _SURE * spread[0] > max(half[0], 0.0):
        word = CurveState.IMPROVING
    elif stuck.max() > 0:
        shown = int(stuck.argmax())
        word, since = CurveState.PLATEAU, int(start[shown])
    else:
        reason = "too close to call" if expects.any() else "no drop to expect beyond the noise"
    return CurveVerdict(
        word=word,
        since=since,
        expected=float(expected[shown]),
        expected_se=float(expected_se[shown]),
        observed=float(observed[shown]),
        se=float(se[shown]),
        low=float(observed[shown] - _SURE * se[shown]),
        high=float(observed[shown] + _SURE * se[shown]),
        schedule_known=schedule.known,
        reason=reason,
    )


def _nothing(schedule: Schedule, *, evaluations: int, usable: int) -> CurveVerdict:
    """The verdict where no window could be tested."""
    if 0 < evaluations <= schedule.warm:
        reason = "still in the warm-up"
    else:
        reason = "too few evaluations" if usable < law.NEEDED + WINDOW else "too many gaps"
    return CurveVerdict(
        word=CurveState.UNDETERMINED,
        since=None,
        expected=None,
        expected_se=None,
        observed=None,
        se=None,
        low=None,
        high=None,
        schedule_known=schedule.known,
        reason=reason,
    )


def slope(losses: ArrayLike, *, iterations: float, window: int = WINDOW, confidence: float = 0.9) -> Slope | None:
    """Slope of a straight line through the last `window` evaluations, `iterations` apart, with Student's t interval.

    None where fewer than 3 of them are there. ValueError: `iterations` is not above 0.
    """
    if not iterations > 0:
        raise ValueError(f"evaluations lie more than 0 iterations apart, not {iterations}")
    recent = law.finite(losses)[-window:]
    there = np.isfinite(recent)
    n = int(there.sum())
    if n < 3:
        return None
    time = np.flatnonzero(there) * (iterations / 1000)
    time -= time.mean()
    loss = recent[there] - recent[there].mean()
    width = float(time @ time)
    value = float(time @ loss) / width
    residual = loss - value * time
    error = math.sqrt(float(residual @ residual) / (n - 2) / width)
    reach = float(special.stdtrit(n - 2, 0.5 + confidence / 2)) * error
    return Slope(value=value, low=value - reach, high=value + reach)
