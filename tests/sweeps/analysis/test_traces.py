"""Traces: losses at equal tokens, falls, and slopes at the end."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweeps.analysis.traces import Trace, slope, slope_variance, trace_of
from tests.helpers import synthetic

RNG = np.random.default_rng(5)


def test_a_slope_is_that_of_a_regression_line_per_100_iterations() -> None:
    places, losses = np.sort(RNG.uniform(0, 500, 9)), RNG.normal(3, 0.1, 9)
    assert slope(places, losses) == pytest.approx(100 * stats.linregress(places, losses).slope)


def test_a_slope_takes_three_evaluations() -> None:
    assert slope(np.array([0.0, 10.0]), np.array([3.0, 2.9])) is None
    assert slope(np.array([0.0, 10.0, 20.0]), np.array([3.0, 2.9, 2.8])) == pytest.approx(-1.0)


def test_the_variance_of_a_slope_is_that_of_slopes_through_noise() -> None:
    places = np.array([10.0, 20.0, 40.0, 80.0])
    slopes = [slope(places, 3 + RNG.normal(0, 0.01, 4)) for _ in range(20_000)]
    assert slope_variance(places, sigma=0.01) == pytest.approx(np.var(slopes), rel=0.05)


@given(st.floats(-10, 10), st.floats(-0.01, 0.01))
def test_a_straight_line_has_its_slope_wherever_it_is_cut(height: float, per_iteration: float) -> None:
    places = np.arange(0.0, 310, 10)
    trace = Trace(places=places, losses=height + per_iteration * places)
    for until in (90, 200, 300):
        assert trace.slope(until=until) == pytest.approx(100 * per_iteration, abs=1e-9)
    assert trace.fall == pytest.approx(-300 * per_iteration, abs=1e-9)
    assert trace.at(155) == pytest.approx(height + 155 * per_iteration, abs=1e-9)


def test_only_the_last_third_counts() -> None:
    places = np.arange(0.0, 310, 10)
    trace = Trace(places=places, losses=np.where(places < 200, 4.0, 4.0 - 0.002 * (places - 200)))
    assert trace.slope(until=300) == pytest.approx(-0.2)
    assert trace.slope(until=180) == pytest.approx(0)
    assert trace.slope(until=20) is None


def test_places_are_iterations_of_the_run_that_it_is_compared_with() -> None:
    config = synthetic.BASELINE.replace(batch_size=32)
    run = synthetic.run(0, config=config, points=synthetic.points(config, 3.5))
    trace = trace_of(run, tokens_per_iter=synthetic.BASELINE.tokens_per_iter)
    assert trace.places.tolist() == [2.0 * point.step for point in run.points]


def test_losses_that_are_no_numbers_are_left_out() -> None:
    points = synthetic.points(synthetic.BASELINE, 3.5)
    broken = [dataclasses.replace(points[3], val_loss=loss) for loss in (math.nan, math.inf)]
    run = synthetic.run(0, points=(*points[:3], *broken, *points[4:]))
    trace = trace_of(run, tokens_per_iter=synthetic.BASELINE.tokens_per_iter)
    assert trace.losses.tolist() == [point.val_loss for point in points if point is not points[3]]
