"""The law of a curve: its schedule against sums over iterations, its fit against known curves and least squares."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sweeps.pruning import law
from sweeps.pruning.law import ALPHAS, Law, Prior, Schedule, fit
from tests.helpers.curves import cosine, curve
from trainer.config import TrainConfig
from trainer.schedule import lr_at

FLAT = Prior(mean=np.zeros(2), precision=np.zeros((2, 2)))


def summed(config: TrainConfig) -> tuple[list[float], list[float]]:
    """Return x and z after each iteration, by the definition's sums over iterations."""
    rates = [lr_at(step, config) for step in range(config.max_iters + 1)]
    s1 = [math.fsum(rates[:t]) for t in range(len(rates))]
    z = []
    for t in range(len(rates)):
        terms = (
            max(rates[k - 1] - rates[k], 0.0) * -math.expm1(-(s1[t] - s1[k]) / (0.05 * s1[-1])) for k in range(1, t + 1)
        )
        z.append(math.fsum(terms) / max(rates))
    return [spent / s1[-1] for spent in s1], z


@pytest.mark.parametrize(("warmup", "least", "warm"), [(0, 0.0, 0), (20, 1e-4, 2), (37, 0.0, 4), (80, 5e-4, 8)])
def test_a_schedule_is_that_summed_iteration_by_iteration(warmup: int, least: float, warm: int) -> None:
    config = TrainConfig(
        learning_rate=1e-3, min_lr=least, warmup_iters=warmup, max_iters=400, lr_decay_iters=400, eval_interval=10
    )
    x, z = summed(config)
    schedule = Schedule.of([lr_at(step, config) for step in range(0, 401, 10)])
    assert schedule.progress == pytest.approx(x[::10], abs=0.003)
    assert schedule.annealing == pytest.approx(z[::10], abs=0.001)
    assert (schedule.warm, schedule.known, schedule.end) == (warm, True, 40)
    assert (schedule.progress[0], schedule.progress[-1]) == (0, 1)


def test_only_falls_count_each_half_before_and_half_after() -> None:
    schedule = Schedule.of([1, 2, 2, 0])
    half = (1 - math.exp(-(1 / 4.5) / 0.05)) / 2
    assert schedule.progress == pytest.approx([0, 1.5 / 4.5, 3.5 / 4.5, 1])
    assert schedule.annealing == pytest.approx([0, 0, 0, half])
    assert schedule.total == pytest.approx(4.5)


@pytest.mark.parametrize(
    ("rates", "warm"), [([1, 1, 1], 0), ([0, 1, 1], 1), ([0.3, 0.6, 0.9, 1.0, 0.9], 3), ([5], 0), ([0, 0, 2, 0], 2)]
)
def test_the_warm_up_is_over_at_the_first_peak(rates: list[float], warm: int) -> None:
    assert Schedule.of(rates).warm == warm


def test_a_constant_rate_is_assumed_where_none_is_known() -> None:
    assumed, constant = Schedule.constant(8), Schedule.of([3e-4] * 9)
    assert assumed.progress == pytest.approx(constant.progress)
    assert not assumed.annealing.any()
    assert not constant.annealing.any()
    assert (assumed.warm, assumed.known, constant.known) == (0, False, True)
    assert Schedule.constant(0).end == 0


@pytest.mark.parametrize("rates", [[], [0, 0], [1, -1], [1, math.nan], [math.inf], [[1, 2]]])
def test_invalid_schedules_are_refused(rates: list[float]) -> None:
    with pytest.raises(ValueError, match="learning rates"):
        Schedule.of(rates)


def test_negative_evaluations_are_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        Schedule.constant(-1)


@pytest.mark.parametrize("index", range(len(ALPHAS)))
def test_a_curve_of_the_law_is_fitted_back(index: int) -> None:
    schedule = cosine()
    losses = curve(schedule, alpha=ALPHAS[index], floor=3.1, height=0.4, gain=0.25)
    fitted = fit([losses[:29]], [schedule])
    assert fitted.weights[0].argmax() == index
    assert fitted.coefficients[0, index] == pytest.approx([3.1, 0.4, 0.25], abs=1e-4)
    forecast = fitted.forecast()
    assert forecast.mean == pytest.approx(losses[-1:], abs=1e-4)
    assert forecast.low < losses[-1] < forecast.high
    assert fitted.forecast(at=33).mean == pytest.approx(losses[33:34], abs=1e-4)


def test_without_a_prior_it_is_weighted_least_squares() -> None:
    schedule = cosine()
    losses = curve(schedule) + np.random.default_rng(1).normal(0, 0.02, 41)
    fitted = fit([losses[:31]], [schedule], prior=FLAT)
    used = slice(max(schedule.warm, 1), 31)
    x, z = schedule.progress[used], schedule.annealing[used]
    squares = []
    for index, alpha in enumerate(ALPHAS):
        rows = np.stack([np.ones_like(x), x**-alpha - 1, -z], axis=1)
        exact = np.linalg.lstsq(x[:, None] * rows, x * losses[used])[0]  # a count of x**2 is a factor x in the row
        assert fitted.coefficients[0, index] == pytest.approx(exact, rel=1e-6)
        squares.append((x**2 * (losses[used] - rows @ exact) ** 2).sum())
    assert fitted.seen.tolist() == [len(x)]
    error = math.sqrt(min(squares) / (x**2).sum() * len(x) / (len(x) - 3))
    assert fitted.error == pytest.approx([error], rel=1e-6)
    assert np.argsort(-fitted.weights[0]).tolist() == np.argsort(squares).tolist()


def test_a_sure_prior_decides() -> None:
    schedule = cosine()
    sure = fit([curve(schedule)[:20]], [schedule], prior=Prior.of([0.9, 0.7], 1e-14 * np.eye(2)))
    assert sure.coefficients[0, :, 1] == pytest.approx(0.9, abs=1e-3)
    assert sure.coefficients[0, :, 2] == pytest.approx(0.7, abs=1e-3)


def test_an_expected_sum_is_that_of_draws_of_the_law() -> None:
    """Mean and sd against draws of alpha, then of coefficients, put into the law's formula."""
    schedule = cosine()
    losses = curve(schedule) + np.random.default_rng(2).normal(0, 0.03, 41)
    fitted = fit([losses[:25]], [schedule])
    rng = np.random.default_rng(3)
    drawn = []
    for index in rng.choice(len(ALPHAS), 20_000, p=fitted.weights[0]):
        spread = np.linalg.cholesky(fitted.covariance[0, index])
        floor, height, gain = fitted.coefficients[0, index] + spread @ rng.normal(size=3)
        x, z = schedule.progress[[30, 40]], schedule.annealing[[30, 40]]
        at = floor + height * (x ** -ALPHAS[index] - 1) - gain * z
        drawn.append(at[0] - at[1])
    shares = np.zeros((1, 41))
    shares[0, [30, 40]] = 1, -1
    mean, sd = fitted.expected(shares)
    assert mean == pytest.approx([np.mean(drawn)], abs=3 * np.std(drawn) / 100)
    assert sd == pytest.approx([np.std(drawn)], rel=0.03)


@pytest.mark.parametrize(
    ("kind", "seen", "least", "most"), [("law", 29, 0.88, 1.0), ("law", 37, 0.85, 0.97), ("waits", 29, 0.8, 1.0)]
)
def test_forecasts_cover_about_as_they_say(kind: str, seen: int, least: float, most: float) -> None:
    """90 % intervals on 200 curves of the law, and on curves that wait at the start, which the law can't express."""
    rng = np.random.default_rng(7)
    schedules = [cosine(warm=warm, ratio=ratio) for warm, ratio in zip(*rng.uniform(0.01, 0.2, (2, 200)), strict=True)]
    losses = np.stack(
        [curve(schedule, alpha=rng.uniform(0.3, 0.7), height=rng.uniform(0.1, 1)) for schedule in schedules]
    )
    if kind == "waits":
        losses = np.minimum(losses, losses[:, 5:12].min(axis=1, keepdims=True))
    losses += rng.normal(0, 0.01, losses.shape)
    forecast = fit(list(losses[:, :seen]), schedules).forecast()
    covered = (forecast.low < losses[:, -1]) & (losses[:, -1] < forecast.high)
    assert least <= covered.mean() <= most


def test_many_curves_are_fitted_as_each_alone() -> None:
    rng = np.random.default_rng(4)
    schedules = [cosine(), cosine(evaluations=25, warm=0.2), Schedule.constant(60), cosine()]
    lengths = (41, 20, 33, 3)
    losses = [
        (curve(schedule) + rng.normal(0, 0.01, schedule.end + 1))[:length]
        for schedule, length in zip(schedules, lengths, strict=True)
    ]
    together = fit(losses, schedules).forecast()
    for index, (seen, schedule) in enumerate(zip(losses, schedules, strict=True)):
        alone = fit([seen], [schedule]).forecast()
        for name in ("mean", "low", "high"):
            assert getattr(together, name)[index] == pytest.approx(getattr(alone, name)[0], nan_ok=True)
    assert np.isnan(together.mean).tolist() == [False, False, False, True]


@given(shift=st.floats(-50, 50), seed=st.integers(0, 20))
def test_a_constant_added_moves_the_forecast_by_it_alone(shift: float, seed: int) -> None:
    schedule = cosine()
    losses = (curve(schedule) + np.random.default_rng(seed).normal(0, 0.01, 41))[:30]
    before, after = fit([losses], [schedule]).forecast(), fit([losses + shift], [schedule]).forecast()
    for name in ("mean", "low", "high"):
        assert getattr(after, name) - shift == pytest.approx(getattr(before, name), abs=1e-8)


def test_gaps_the_start_and_the_warm_up_are_left_out() -> None:
    schedule = cosine(warm=0.1)
    clean = curve(schedule)[:30]
    assert schedule.warm == 4
    odd = clean.copy()
    odd[:4] = 1e3
    assert same(fit([odd], [schedule]), fit([clean], [schedule]))
    gaps = clean.copy()
    gaps[[9, 17, 29]] = math.nan, math.inf, -1e30
    holes = clean.copy()
    holes[[9, 17, 29]] = math.nan
    assert same(fit([gaps], [schedule]), fit([holes], [schedule]))
    assert fit([gaps], [schedule]).seen.tolist() == [23]


def same(first: Law, second: Law) -> bool:
    fields = (field.name for field in dataclasses.fields(Law))
    return all(np.array_equal(getattr(first, name), getattr(second, name), equal_nan=True) for name in fields)


@pytest.mark.parametrize("losses", [[], [4.0], [4.0] * 4, [math.nan] * 41, [5, 4, 3, math.inf]])
def test_too_little_to_fit_is_no_number(losses: list[float]) -> None:
    fitted = fit([losses], [Schedule.constant(40)])
    assert not fitted.fitted.any()
    forecast = fitted.forecast()
    assert np.isnan([forecast.mean, forecast.low, forecast.high]).all()


def test_no_curves_are_no_error() -> None:
    assert fit([], []).forecast().mean.shape == (0,)


def test_a_curve_longer_than_its_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="5 evaluations"):
        fit([np.zeros(6)], [Schedule.constant(4)])
    with pytest.raises(ValueError, match="argument"):
        fit([np.zeros(3)], [])


def test_gaps_become_nan() -> None:
    losses: NDArray[np.float64] = law.finite([1, math.inf, -math.inf, math.nan, 1e12])
    assert np.array_equal(losses, [1, math.nan, math.nan, math.nan, math.nan], equal_nan=True)
