"""What a logged curve says: a plateau or not, since when, its slope and noise, and its offset to other windows.

The plateau test is that of `sweeps/pruning/plateau.py`. nanoGPT evaluates on fresh random batches, so a log's curve has
more noise than a study's, and the test says "undetermined" more often. A validation loss that surely rises while the
training loss doesn't is a plateau as well, since its lowest: the law expects no drop of such a curve, so that the test
alone leaves it undetermined.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sweeps.diagnose.curve import Curve, curve_of, from_zero, grouped, schedule_of
from sweeps.diagnose.run import LoggedRun
from sweeps.errors import LogError
from sweeps.pruning.law import Floats
from sweeps.pruning.plateau import WINDOW, CurveState, CurveVerdict, Slope, slope, verdict
from trainer.nanogpt import Value

_FITS = ((1, 10), (1, 8), (1, 6), (1, 5), (2, 9), (2, 7), (1, 4))
"""degree and evaluations of the local fits of `offset`; those with more evaluations for a degree have less noise"""
_AGREES = 0.9
"""quantile of chi-squared up to which a local fit's residuals count as noise"""
_AFTER = 4
"""evaluations after the lowest that show a rise"""
_BEYOND = 1.0
"""distances between evaluations that a checkpoint may lie outside of the log"""


@dataclass(frozen=True, kw_only=True)
class CurveReading:
    """What a run's curve of validation losses says."""

    word: CurveState
    since: int | None
    """for a plateau, the step of the evaluation at which it begins; else None"""
    slope: Slope | None
    """over the last 10 losses tested or their last quarter, nats per 1000 iterations, with its 90 % interval; None
    without 3 evaluations"""
    noise: float | None
    """standard deviation of one evaluation, nats; None without 3 evaluations"""
    unit: str
    """what all nats here are per: "nats per token", or "nats per byte" of a log in bits per byte"""
    evaluations: int
    """evaluations with a finite loss"""
    averaged: int
    """evaluations per group whose means were tested"""
    schedule_known: bool
    """False if a constant rate was assumed; the slow middle of a decay may then be taken for a plateau"""
    diverged_at: int | None
    """step from which on every printed loss is NaN or infinite; None if the last ones are finite"""
    test: CurveVerdict | None
    """the plateau test with its numbers; None with fewer than 2 evaluations. Its evaluations are the groups, with one
    at step 0."""
    reason: str
    """why the outcome is undetermined; else empty"""
    notes: tuple[str, ...]
    """what was assumed, in sentences"""


@dataclass(frozen=True, kw_only=True)
class Offset:
    """The difference between a measured loss and a log's curve at a checkpoint."""

    nats: float
    """to be added to the log's curve"""
    se: float
    """its standard error, nats, from the evaluations' noise and the measured loss's own standard error"""


def plateau_of(run: LoggedRun, *, settings: Mapping[str, Value] | None = None) -> CurveReading:
    """Read a run's curve. `settings` are the run's, by nanoGPT's names, in place of those that its log printed."""
    curve = curve_of(run)
    diverged = diverged_at(run)
    if len(curve.steps) < 2:
        return _nothing(curve, diverged)
    tested = grouped(curve)
    steps, losses = from_zero(tested)  # the law drops the first evaluation, which is that of the untrained model
    schedule, unknown = schedule_of(run, steps, settings=settings)
    test = verdict(losses, schedule)
    word, reason = test.word, test.reason
    if schedule.known and schedule.warm >= len(steps) - 1:
        reason = "still in the warm-up"
    since = None if test.since is None else int(curve.steps[np.abs(curve.steps - steps[test.since]).argmin()])
    recent = max(WINDOW, math.ceil(len(tested.steps) / 4))
    falls = slope(tested.losses, iterations=tested.steps, window=recent)
    lowest = _rising(curve) if word is not CurveState.IMPROVING else None
    if lowest is not None and _rises(*_train(run), since=lowest):
        word, since, reason = CurveState.UNDETERMINED, None, "the training loss rises as well"
    elif lowest is not None:
        word, since, reason = CurveState.PLATEAU, lowest, ""
    if diverged is not None:
        word, since, reason = CurveState.UNDETERMINED, None, f"every loss from step {diverged} on is NaN or infinite"
    notes = [] if not unknown else [f"A constant learning rate was assumed: {unknown}."]
    if tested.averaged > 1:
        notes.append(f"Groups of {tested.averaged} evaluations were averaged.")
    return CurveReading(
        word=word,
        since=since,
        slope=falls,
        noise=noise_of(curve),
        unit=curve.unit,
        evaluations=len(curve.steps),
        averaged=tested.averaged,
        schedule_known=schedule.known,
        diverged_at=diverged,
        test=test,
        reason=reason,
        notes=tuple(notes),
    )


def _nothing(curve: Curve, diverged: int | None) -> CurveReading:
    reason = "no evaluation with a validation loss" if not len(curve.steps) else "a single evaluation"
    return CurveReading(
        word=CurveState.UNDETERMINED,
        since=None,
        slope=None,
        noise=None,
        unit=curve.unit,
        evaluations=len(curve.steps),
        averaged=1,
        schedule_known=False,
        diverged_at=diverged,
        test=None,
        reason=reason if diverged is None else f"every loss from step {diverged} on is NaN or infinite",
        notes=(),
    )


def _rising(curve: Curve) -> int | None:
    """Return the step of the lowest loss if the losses after it surely rise, else None."""
    lowest = int(curve.steps[curve.losses.argmin()])
    return lowest if _rises(curve.steps, curve.losses, since=lowest) else None


def _rises(steps: Floats, losses: Floats, *, since: int) -> bool:
    """Return whether at least 4 losses after a step surely rise: one-sided 99 %."""
    after = steps > since
    if after.sum() < _AFTER:
        return False
    rise = slope(losses[after], iterations=steps[after], window=len(losses), confidence=0.98)
    return rise is not None and rise.low > 0


def _train(run: LoggedRun) -> tuple[Floats, Floats]:
    """Return the steps and training losses of a run's evaluations."""
    pairs = [(point.step, point.train_loss) for point in run.points if point.train_loss is not None]
    table = np.array(pairs, dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def diverged_at(run: LoggedRun) -> int | None:
    """Return the first step from which on no printed loss is finite; None if the last one is."""
    values = [(entry.step, entry.loss) for entry in run.iters]
    values += [
        (point.step, loss) for point in run.points for loss in (point.train_loss, point.val_loss) if loss is not None
    ]
    values += [(entry.step, entry.val_bits) for entry in run.bits]
    finite = max((step for step, loss in values if math.isfinite(loss)), default=-1)
    return min((step for step, loss in values if step > finite), default=None)


def noise_of(curve: Curve) -> float | None:
    """Return the standard deviation of one evaluation's noise, nats; None with fewer than 3 evaluations.

    An evaluation lies off the chord between its neighbours by noise of variance `1 + w**2 + (1 - w)**2` where w is its
    place on the chord. The median of these distances ignores steps and the steep beginning. At equal distances this is
    `plateau.evaluation_noise`.
    """
    steps, losses = curve.steps, curve.losses
    if len(steps) < 3:
        return None
    place = (steps[1:-1] - steps[:-2]) / (steps[2:] - steps[:-2])
    off = losses[1:-1] - (1 - place) * losses[:-2] - place * losses[2:]
    return float(1.4826 * np.median(np.abs(off) / np.sqrt(1 + place**2 + (1 - place) ** 2)))


def offset(run: LoggedRun, *, step: int, val_loss: float, val_se: float = 0.0) -> Offset:
    """Return `val_loss`, measured on other windows at a checkpoint of `step`, minus the log's curve there, nats.

    The curve is a local polynomial through the evaluations nearest to the step: the one with the least noise whose
    residuals are no larger than the noise, so that a straight line isn't laid through a bend. Where none is, as in the
    steep beginning, it is the chord of the two evaluations around the step. Raises LogError if the log has fewer than 4
    finite losses in nats per token, or ends or begins more than an evaluation away from the step.
    """
    curve = curve_of(run)
    if curve.unit != "nats per token":
        raise LogError(f"{run.name} has losses in bits per byte, which can't be compared with nats per token")
    steps = curve.steps
    if len(steps) < 4:
        raise LogError(f"{run.name} has {len(steps)} evaluations with a finite loss; a curve needs at least 4")
    reach = _BEYOND * float(np.median(np.diff(steps)))
    if not steps[0] - reach <= step <= steps[-1] + reach:
        raise LogError(
            f"{run.name} has evaluations from step {steps[0]:.0f} to {steps[-1]:.0f} and the checkpoint is of step "
            f"{step}; give the log of the run that wrote the checkpoint"
        )
    noise = noise_of(curve) or 0.0
    fits = [_local(curve, step, degree=degree, count=count) for degree, count in _FITS if count <= len(steps)]
    agreeing = [fit for fit in fits if fit.residual <= noise**2 * float(special.chdtri(fit.free, 1 - _AGREES))]
    if agreeing:
        best = min(agreeing, key=lambda fit: fit.variance)
        value, se = best.value, noise * math.sqrt(best.variance)
    else:
        value, se = _chord(curve, step, noise=noise)
    return Offset(nats=val_loss - value, se=math.hypot(se, val_se))


def _chord(curve: Curve, step: int, *, noise: float) -> tuple[float, float]:
    """Return the straight line through the two evaluations around a step, and its standard error, nats.

    The error combines the noise with the bend: a parabola lies off its chord by half of its second derivative times the
    distances from both ends. The larger of the second derivatives on either side counts.
    """
    steps, losses = curve.steps, curve.losses
    after = int(np.clip(np.searchsorted(steps, step), 1, len(steps) - 1))
    begin, end = steps[after - 1], steps[after]
    share = float((step - begin) / (end - begin))
    slopes = np.diff(losses) / np.diff(steps)
    bends = np.abs(np.diff(slopes)) * 2 / (steps[2:] - steps[:-2])
    bend = float(bends[max(after - 2, 0) : after].max()) / 2 * abs(float((step - begin) * (end - step)))
    value = float((1 - share) * losses[after - 1] + share * losses[after])
    return value, math.hypot(noise * math.hypot(share, 1 - share), bend)


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """A local polynomial: its value at a step, that value's variance per noise variance, its squared residuals."""

    value: float
    variance: float
    residual: float
    free: int
    """evaluations more than coefficients"""


def _local(curve: Curve, step: int, *, degree: int, count: int) -> _Fit:
    near = np.sort(np.argsort(np.abs(curve.steps - step), kind="stable")[:count])
    time: Floats = curve.steps[near] - step
    scale = float(np.abs(time).max())
    design: NDArray[np.float64] = np.vander(time / scale, degree + 1, increasing=True)
    inverse = np.linalg.pinv(design)
    coefficients = inverse @ curve.losses[near]
    off = curve.losses[near] - design @ coefficients
    return _Fit(
        value=float(coefficients[0]),
        variance=float(inverse[0] @ inverse[0]),
        residual=float(off @ off),
        free=count - degree - 1,
    )
