"""Readings of logged curves: verdicts on known curves, noise and offsets by simulation, and experts' readings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sweeps.diagnose.curve import Curve, curve_of, grouped, schedule_of
from sweeps.diagnose.log import read_log
from sweeps.diagnose.reading import noise_of, offset, plateau_of
from sweeps.diagnose.run import LoggedRun
from sweeps.errors import LogError
from sweeps.pruning.plateau import CurveState, evaluation_noise
from tests.helpers.curves import cosine, curve, held
from tests.helpers.training_logs import FINEWEB, FINEWEB_SETTINGS, OVERFITTED, iter_line, step_line, text_of

COSINE = {"learning_rate": 1e-3, "min_lr": 1e-4, "warmup_iters": 200, "lr_decay_iters": 4000, "max_iters": 4000}
"""the schedule of tests.helpers.curves.cosine with 100 iterations between evaluations"""
PLATEAU, IMPROVING, UNDETERMINED = CurveState.PLATEAU, CurveState.IMPROVING, CurveState.UNDETERMINED


def logged(steps: Sequence[int] | NDArray[Any], losses: Any, *, more: Sequence[str] = ()) -> LoggedRun:
    lines = [step_line(int(step), float(loss)) for step, loss in zip(steps, losses, strict=True)]
    (run,) = read_log(text_of([*lines, *more]), name="run.log")
    return run


def noisy(losses: Any, sigma: float, seed: int = 0) -> NDArray[np.float64]:
    return np.asarray(losses, float) + np.random.default_rng(seed).normal(0, sigma, len(losses))


def fine(steps: NDArray[Any], losses: NDArray[np.float64], per: float) -> NDArray[np.float64]:
    """Return a curve given every `per` iterations at other steps; linear in the logarithm of the step."""
    known = np.log(np.maximum(np.arange(len(losses)) * per, 1.0))
    found: NDArray[np.float64] = np.interp(np.log(np.maximum(steps, 1.0)), known, losses)
    return found


EVEN = np.arange(0, 4001, 100)
UNEVEN = np.sort(np.random.default_rng(5).choice(np.arange(0, 4001, 20), 40, replace=False))
DENSE = np.arange(0, 4001, 10)
CLEAN = curve(cosine())
STUCK = held(CLEAN, 18)


@pytest.mark.parametrize("settings", [COSINE, None])
@pytest.mark.parametrize("steps", [EVEN, UNEVEN, DENSE], ids=["even", "uneven", "dense"])
def test_a_curve_that_is_stuck_and_one_that_is_not(steps: NDArray[Any], settings: dict[str, Any] | None) -> None:
    stuck = plateau_of(logged(steps, noisy(fine(steps, STUCK, 100), 0.003)), settings=settings)
    assert stuck.word is PLATEAU
    assert stuck.since is not None
    assert 1200 <= stuck.since <= 3000
    falling = plateau_of(logged(steps, noisy(fine(steps, CLEAN, 100), 0.003)), settings=settings)
    assert falling.word is IMPROVING if settings else falling.word is not PLATEAU
    assert falling.slope is not None
    assert falling.slope.high < 0
    assert stuck.schedule_known is falling.schedule_known is (settings is not None)
    assert any("constant learning rate was assumed" in note for note in falling.notes) is (settings is None)


@pytest.mark.parametrize("steps", [UNEVEN, DENSE], ids=["uneven", "dense"])
def test_curves_of_the_law_are_seldom_taken_for_a_plateau(steps: NDArray[Any]) -> None:
    """The test's own rate of false alarms is 5 %; of 60 curves, 8 or more have a probability of 0.01."""
    truth = fine(steps, CLEAN, 100)[: -len(steps) // 4]
    words = [
        plateau_of(logged(steps[: len(truth)], noisy(truth, 0.02, seed)), settings=COSINE).word for seed in range(60)
    ]
    assert words.count(PLATEAU) < 8


def test_since_is_a_step_of_the_log() -> None:
    reading = plateau_of(logged(UNEVEN, noisy(fine(UNEVEN, STUCK, 100), 0.003)), settings=COSINE)
    assert reading.since in UNEVEN


def test_the_settings_at_the_logs_head_or_its_printed_rates_give_the_schedule() -> None:
    head = ["Overriding config with c.py:", *(f"{key} = {value}" for key, value in COSINE.items())]
    lines = [step_line(int(step), loss) for step, loss in zip(EVEN, noisy(CLEAN, 0.003), strict=True)]
    (run,) = read_log(text_of([*head, "tokens per iteration will be: 8", *lines]), name="run.log")
    assert plateau_of(run).schedule_known
    rates = [f"iter {step}: loss 4.0, lr {1e-3 if step else 0.0}, time 9ms" for step in (0, 200, 4000)]
    both = [line for pair in zip(lines, [*rates, *[""] * 40], strict=False) for line in pair]
    (run,) = read_log(text_of([*both[:2], *lines[1:3], rates[1], *lines[3:], rates[2]]), name="run.log")
    reading = plateau_of(run)
    assert reading.schedule_known
    assert reading.notes == ()


def test_settings_that_are_no_schedule_are_said_and_not_used() -> None:
    reading = plateau_of(logged(EVEN, CLEAN), settings={**COSINE, "min_lr": 1e4})
    assert not reading.schedule_known
    assert "min_lr=10000 is above learning_rate=0.001" in reading.notes[0]


def test_a_warm_up_that_never_ends_is_no_plateau() -> None:
    slow = {"learning_rate": 3e-3, "warmup_iters": 20000, "lr_decay_iters": 600000, "max_iters": 1000}
    steps = np.arange(0, 1001, 50)
    reading = plateau_of(logged(steps, 4.4 - 0.002 * steps), settings=slow)
    assert (reading.word, reading.reason) == (UNDETERMINED, "still in the warm-up")
    assert reading.slope is not None
    assert reading.slope.value == pytest.approx(-2.0)


def test_the_slope_is_that_of_a_line_per_1000_iterations() -> None:
    steps = np.array([0, 90, 220, 300, 430, 480, 610, 700, 790, 930, 980, 1100, 1210, 1290, 1400])
    reading = plateau_of(logged(steps, 5.0 - 0.25 * steps / 1000))
    assert reading.slope is not None
    assert reading.slope.value == pytest.approx(-0.25, abs=1e-3)


def test_a_public_run_that_still_improves_slowly() -> None:
    """Its reader says: still improving, 0.012 nats per 1000 iterations."""
    run = logged(range(0, 15000, 500), FINEWEB)
    for settings in (None, FINEWEB_SETTINGS):
        reading = plateau_of(run, settings=settings)
        assert reading.word is not PLATEAU
        assert reading.slope is not None
        assert reading.slope.low <= -0.012 <= reading.slope.high < 0
        assert (reading.evaluations, reading.averaged, reading.diverged_at) == (30, 1, None)


def test_a_validation_loss_that_rises_is_a_plateau_since_its_lowest() -> None:
    lines = [step_line(step, val, train) for step, train, val in OVERFITTED]
    (run,) = read_log(text_of(lines), name="run.log")
    reading = plateau_of(run)
    assert (reading.word, reading.since, reading.reason) == (PLATEAU, 4500, "")


def test_losses_that_rise_together_are_no_plateau() -> None:
    steps = np.arange(0, 800, 50)
    reading = plateau_of(logged(steps, np.where(steps < 200, 4.0 - steps / 200, 3.0 + (steps - 200) / 100)))
    assert (reading.word, reading.reason) == (UNDETERMINED, "the training loss rises as well")


def test_a_run_that_ended_in_nan_is_no_plateau() -> None:
    nan = [iter_line(4000, math.nan), iter_line(4010, math.nan)]
    reading = plateau_of(logged(EVEN[:-1], noisy(STUCK[:-1], 0.003), more=nan), settings=COSINE)
    assert (reading.word, reading.since, reading.diverged_at) == (UNDETERMINED, None, 4000)
    assert reading.reason == "every loss from step 4000 on is NaN or infinite"
    gone = plateau_of(logged([0, 100], [4.0, math.inf], more=[iter_line(110, math.nan)]))
    assert (gone.word, gone.diverged_at) == (UNDETERMINED, 100)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([iter_line(0, 4.0)], "no evaluation with a validation loss"),
        ([step_line(0, 4.0)], "a single evaluation"),
        ([step_line(step, 4.0 - step / 900) for step in range(0, 201, 50)], "too few evaluations"),
    ],
)
def test_too_little_to_test(lines: list[str], reason: str) -> None:
    (run,) = read_log(text_of(lines), name="run.log")
    reading = plateau_of(run)
    assert (reading.word, reading.reason) == (UNDETERMINED, reason)


def test_bits_per_byte_are_read_as_nats_per_byte() -> None:
    lines = [
        f"Step {step:05d} | Validation bpb: {loss:.6f}" for step, loss in zip(EVEN, noisy(CLEAN, 0.003), strict=True)
    ]
    (run,) = read_log(text_of(lines), name="run.log")
    reading = plateau_of(run, settings=COSINE)
    assert (reading.word, reading.unit) == (IMPROVING, "nats per byte")
    assert reading.noise == pytest.approx(evaluation_noise(noisy(CLEAN, 0.003)) * math.log(2), rel=1e-3)
    with pytest.raises(LogError, match="bits per byte"):
        offset(run, step=4000, val_loss=1.0)


def test_noise_at_equal_distances_is_that_of_the_plateau_test_and_at_others_close_to_the_truth() -> None:
    losses = noisy(CLEAN, 0.02)
    even = Curve(steps=EVEN.astype(float), losses=losses, unit="")
    assert noise_of(even) == pytest.approx(evaluation_noise(losses))
    found = []
    for seed in range(40):
        steps = np.sort(np.random.default_rng(seed).choice(5000, 60, replace=False)).astype(float)
        found.append(noise_of(Curve(steps=steps, losses=noisy(4 - steps / 1e5, 0.02, seed), unit="")))
    assert np.mean(found) == pytest.approx(0.02, rel=0.1)  # type: ignore[arg-type]


def test_a_dense_log_is_averaged_in_groups_that_end_at_its_last_evaluation() -> None:
    steps = np.arange(0, 1000, 10)
    averaged = grouped(curve_of(logged(steps, steps / 100)))
    assert averaged.averaged == 3
    assert averaged.steps.tolist() == list(range(20, 1000, 30))
    assert averaged.losses == pytest.approx(averaged.steps / 100)


def test_uneven_steps_keep_their_places_in_the_schedule() -> None:
    """The summed rate of a constant one is proportional to the step, wherever the evaluations are."""
    steps = np.array([0.0, 10.0, 300.0, 350.0, 1000.0])
    flat = {"learning_rate": 1e-3, "decay_lr": False, "max_iters": 2000}
    schedule, why = schedule_of(logged([0], [4.0]), steps, settings=flat)
    assert why == ""
    assert schedule.progress[:5] == pytest.approx(steps / 2000)
    assert schedule.progress[-1] == pytest.approx(1.0)
    assumed, why = schedule_of(logged([0], [4.0]), steps, settings=None)
    assert "neither settings nor learning rates" in why
    assert assumed.progress == pytest.approx(steps / 1000)


@pytest.mark.parametrize(("step", "steps"), [(4000, EVEN), (2500, EVEN), (2540, EVEN), (3990, UNEVEN), (150, EVEN)])
def test_an_offset_is_right_within_its_standard_error(step: int, steps: NDArray[Any]) -> None:
    """Over 200 logs with noise, the offset's error in standard errors has mean 0 and a standard deviation near 1.

    Between two evaluations of the steep beginning, the standard error is a bound of the bend and the error is smaller.
    """
    truth = 2.0 + 2.4 / np.sqrt(1 + steps / 100)
    measured = 2.0 + 2.4 / math.sqrt(1 + step / 100) + 0.05
    offsets = [offset(logged(steps, noisy(truth, 0.02, seed)), step=step, val_loss=measured) for seed in range(200)]
    scores = np.array([(found.nats - 0.05) / found.se for found in offsets])
    assert abs(scores.mean()) < (0.5 if step > 1000 else 1.0)
    assert scores.std() < 1.4
    if step > 1000:
        assert scores.std() > 0.6
        assert np.median([found.se for found in offsets]) < 0.8 * 0.02


def test_an_offset_in_the_steep_beginning_is_taken_from_the_evaluation_itself() -> None:
    found = offset(logged(range(0, 15000, 500), FINEWEB), step=500, val_loss=5.6)
    assert found.nats == pytest.approx(5.6 - 5.5328, abs=1e-9)
    assert found.se < 0.02


def test_the_measured_losses_own_error_counts() -> None:
    run = logged(EVEN, noisy(CLEAN, 0.003))
    alone, more = offset(run, step=3000, val_loss=3.0), offset(run, step=3000, val_loss=3.0, val_se=0.01)
    assert more.se == pytest.approx(math.hypot(alone.se, 0.01))


def test_offsets_that_cannot_be_told() -> None:
    run = logged(range(0, 1001, 100), range(11))
    with pytest.raises(LogError, match="from step 0 to 1000 and the checkpoint is of step 1200"):
        offset(run, step=1200, val_loss=4.0)
    with pytest.raises(LogError, match="2 evaluations with a finite loss"):
        offset(logged([0, 100, 200], [4.0, 3.9, math.nan]), step=100, val_loss=4.0)
