"""The plateau test: whether a curve is stuck, or only as slow as its schedule makes it.

The law is fitted to the curve before a window. It predicts the drop across the window, from its first 4 evaluations to
its last 4. The observed drop is the difference of their medians, which a spike doesn't move.

- **Plateau**: the drop is surely less than half of the expected drop.
- **Improving**: it is surely more than half.
- **Undetermined**: neither, which stops no trial.

"Surely" means one-sided 95 %: 1.645 standard errors, which combine the evaluations' noise with half of the law's
variance. On the families of curves in `benchmarks/pruning/plateau_test.py`, the whole variance cost up to a third of
the power, and none of it raised false alarms to 19 %.

The window is the last 10 evaluations. A plateau may also show in longer windows, unless the last 10 evaluations
improve. A law fitted to a curve that has long been flat expects no further drop, so a long plateau shows only in a
window that begins before it.
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
"""length of the shortest window, evaluations"""
_EDGE = 4
"""evaluations at either end of the window, whose medians are compared"""
_EDGE_NEEDED = 3
"""evaluations at an end that must not be gaps"""
_LONGER = 1.3
"""ratio of one window's length to the next"""
_MEDIAN_VARIANCE = np.array([np.nan, np.nan, np.nan, 0.4487, 0.2982])
"""variance of the median of 3 and of 4 normal values, relative to the variance of one value"""
_SURE = 1.645
"""standard errors of a one-sided 95 % bound"""
_ROUGH = 1.1
"""factor on noise that is estimated from a few evaluations"""
_LAW_SHARE = 0.5
"""share of the law's variance that counts"""
_LEAST = 1e-4
"""nats; the least standard error of a drop"""


class CurveState(StrEnum):
    """The three outcomes of the test."""

    PLATEAU = "plateau"
    IMPROVING = "improving"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, kw_only=True)
class CurveVerdict:
    """The outcome of the test with its numbers: nats, None where nothing could be tested."""

    word: CurveState
    since: int | None
    """for a plateau, the first evaluation of the window that shows it most clearly; else None"""
    expected: float | None
    """expected drop across the window: from `since` on for a plateau, else the last 10 evaluations"""
    expected_se: float | None
    """its standard error"""
    observed: float | None
    """observed drop"""
    se: float | None
    """its standard error, from the evaluations' noise alone"""
    low: float | None
    """lower end of the 90 % interval of the observed drop"""
    high: float | None
    """upper end"""
    schedule_known: bool
    """False if a constant rate was assumed; the slow middle of a cosine decay may then be taken for a plateau"""
    reason: str
    """why the outcome is undetermined; else empty"""


@dataclass(frozen=True, kw_only=True)
class Slope:
    """Slope of a loss curve with its interval, nats per 1000 iterations; negative where the loss falls."""

    value: float
    low: float
    high: float


@overload
def evaluation_noise(losses: Sequence[float]) -> float: ...
@overload
def evaluation_noise(losses: Floats) -> float | Floats: ...
def evaluation_noise(losses: Sequence[float] | Floats) -> float | Floats:
    """Return the standard deviation of one evaluation's noise along the last axis, nats; NaN without 3 in a row.

    It is `1.4826 * median(|second differences|) / sqrt(6)`. A smooth curve has second differences near 0, noise of
    variance v gives them a variance of 6 v, and the median ignores a few steps. NaN and infinite losses are gaps.
    """
    values = law.finite(losses)
    sigma = 1.4826 / np.sqrt(6) * _median(np.abs(np.diff(values, n=2, axis=-1)))
    return float(sigma) if values.ndim == 1 else sigma


def _median(values: Floats) -> Floats:
    """Return the median along the last axis, ignoring NaN; NaN where all values are."""
    if values.shape[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    count = np.isfinite(values).sum(axis=-1, keepdims=True)
    middle = np.concatenate([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[-1] - 1)], axis=-1)
    median: Floats = np.take_along_axis(np.sort(values, axis=-1), middle, axis=-1).mean(axis=-1)  # NaN sort last
    return median


def verdict(losses: ArrayLike, schedule: Schedule) -> CurveVerdict:
    """Test one curve, given as losses at evaluations 0 to now, nats. Raises ValueError like `law.fit`."""
    return verdicts([losses], [schedule])[0]


def verdicts(losses: Sequence[ArrayLike], schedules: Sequence[Schedule]) -> list[CurveVerdict]:
    """Test many curves, each by itself. Raises ValueError like `law.fit`."""
    table = law.table(losses, schedules)
    now = np.array([np.size(curve) for curve in losses], dtype=np.int64)
    tests = _test(table, schedules, now)
    bounds = np.searchsorted(tests.curve, np.arange(len(now) + 1))
    return [
        _tested(tests, slice(bounds[index], bounds[index + 1]), schedule)
        if bounds[index] < bounds[index + 1]
        else _untested(schedule, evaluations=int(now[index]), usable=int(np.isfinite(table[index]).sum()))
        for index, schedule in enumerate(schedules)
    ]


@dataclass(frozen=True, kw_only=True)
class _Tests:
    """R windows, grouped by curve, shortest first. All fields are (R,); drops and standard errors in nats."""

    curve: NDArray[np.int64]
    start: NDArray[np.int64]
    observed: Floats
    se: Floats
    expected: Floats
    expected_se: Floats


def _test(table: Floats, schedules: Sequence[Schedule], now: NDArray[np.int64]) -> _Tests:
    """Measure the windows that have enough evaluations in and before them; none of a curve whose shortest doesn't.

    `table` (K, N) is as of `law.table`; `now` (K,) are the evaluations so far, gaps included.
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


def _windows(present: NDArray[np.bool_], now: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the curve and first evaluation of each testable window. Lengths grow by a factor of 1.3."""
    width = present.shape[1]
    number = max(int(math.log(max(width, WINDOW) / WINDOW) / math.log(_LONGER)), 0) + 1
    lengths = np.round(WINDOW * _LONGER ** np.arange(number)).astype(np.int64)
    curve, length = np.repeat(np.arange(len(now)), number), np.tile(lengths, len(now))
    start = now[curve] - length
    seen = np.concatenate([np.zeros((len(present), 1), dtype=np.int64), present.cumsum(axis=1)], axis=1)

    def count(begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the evaluations from `begin` to before `end` that are not gaps; negative positions hold none."""
        counted: NDArray[np.int64] = seen[curve, np.maximum(end, 0)] - seen[curve, np.maximum(begin, 0)]
        return counted

    testable = count(0 * start, start) >= law.NEEDED
    for begin in (start, now[curve] - _EDGE):
        testable &= count(begin, begin + _EDGE) >= _EDGE_NEEDED
    testable &= np.isin(curve, curve[testable & (length == WINDOW)])
    return curve[testable], start[testable]


def _tested(tests: _Tests, rows: slice, schedule: Schedule) -> CurveVerdict:
    """Return the verdict on a curve from its windows, shortest first."""
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


def _untested(schedule: Schedule, *, evaluations: int, usable: int) -> CurveVerdict:
    """Return the verdict on a curve without a testable window."""
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


def slope(
    losses: ArrayLike, *, iterations: float | Floats, window: int = WINDOW, confidence: float = 0.9
) -> Slope | None:
    """Return the slope of a straight line through the last `window` evaluations, with a Student's t interval.

    Evaluations lie `iterations` apart, or at these steps if it is an array (N,). Returns None if fewer than 3 of them
    are not gaps. Raises ValueError if `iterations` is not above 0, or the steps don't rise.
    """
    recent = law.finite(losses)[-window:]
    steps = np.asarray(iterations, dtype=float)
    if not (np.diff(steps) > 0 if steps.ndim else steps > 0).all():
        raise ValueError(f"iterations={iterations} between evaluations must be above 0")
    steps = steps[-window:] if steps.ndim else np.arange(len(recent)) * steps
    present = np.isfinite(recent)
    n = int(present.sum())
    if n < 3:
        return None
    time = steps[present] / 1000
    time -= time.mean()
    loss = recent[present] - recent[present].mean()
    width = float(time @ time)
    value = float(time @ loss) / width
    residual = loss - value * time
    error = math.sqrt(float(residual @ residual) / (n - 2) / width)
    reach = float(special.stdtrit(n - 2, 0.5 + confidence / 2)) * error
    return Slope(value=value, low=value - reach, high=value + reach)
