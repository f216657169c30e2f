"""A grid of evaluations: which steps it has, and what a curve with other steps loses on it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.pruning.grid import MOST, Grid

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("curves", "steps"),
    [
        ([], ()),
        ([[]], ()),
        ([[0, 250, 500]], (0, 250, 500)),
        ([[500, 0, 250]], (0, 250, 500)),
        ([[0, 250, 500], [0, 1000]], (0, 1000)),  # it went further
        ([[0, 500], [0, 250, 500], [0, 125, 500]], (0, 250, 500)),  # as far, and first with the most reports
        ([range(0, 10_000_000_001, 500_000_000)], tuple(range(0, 10_000_000_001, 500_000_000))),
        ([range(2 * MOST + 1)], tuple(range(0, 2 * MOST + 1, 2))),  # too many
    ],
)
def test_the_steps_of_a_grid_are_those_of_the_longest_curve(curves: list[list[int]], steps: tuple[int, ...]) -> None:
    assert Grid.of(curves).steps == steps


@pytest.mark.parametrize(
    ("reports", "losses"),
    [
        ({}, []),
        ({0: 4.0, 100: 3.0, 200: 2.0, 1000: 1.0}, [4.0, 3.0, 2.0, 1.0]),
        ({0: 4.0, 200: 2.0}, [4.0, 3.0, 2.0]),  # half as often
        ({0: 4.0, 50: 9.0, 100: 3.0, 150: 9.0}, [4.0, 3.0]),  # twice as often: what lies between is passed over
        ({100: 3.0}, [NAN, 3.0]),
        ({99: 3.0}, [NAN]),
        ({200: 2.0, 600: 1.5, 2000: 0.1}, [NAN, NAN, 2.0, 1.1]),  # beyond the end
        ({0: 4.0, 100: NAN, 200: 2.0}, [4.0, INF, 2.0]),  # a spike stays one
        ({0: 4.0, 200: NAN}, [4.0, INF, INF]),
        ({0: 4.0, 200: -INF, 1000: 1.0}, [4.0, -INF, -INF, 1.0]),
    ],
)
def test_losses_are_interpolated_between_reports(reports: dict[int, float], losses: list[float]) -> None:
    assert Grid((0, 100, 200, 1000)).losses(reports) == pytest.approx(losses, nan_ok=True)


@given(
    st.lists(st.integers(0, 10**11), min_size=1, max_size=200, unique=True),
    st.lists(st.integers(0, 10**11), max_size=9),
)
def test_a_rank_counts_the_steps_before(steps: list[int], places: list[int]) -> None:
    grid = Grid.of([steps])
    assert len(grid.steps) <= MOST + 1
    assert (grid.steps[0], grid.steps[-1]) == (min(steps), max(steps))
    assert set(grid.steps) <= set(steps)
    assert list(grid.steps) == sorted(set(grid.steps))
    for place in places:
        assert grid.rank(place) == sum(step <= place for step in grid.steps) - 1
    assert grid.losses({step: float(step) for step in steps}) == pytest.approx(grid.steps)


def test_rates_of_another_number_are_those_at_equal_distances() -> None:
    grid = Grid((0, 10, 20, 80))
    assert np.array_equal(grid.rates((4.0, 3.0, 2.0, 1.0)), [4.0, 3.0, 2.0, 1.0])
    assert grid.rates((8.0, 0.0)) == pytest.approx([8.0, 7.0, 6.0, 0.0])
    assert grid.shares == pytest.approx([0, 1 / 8, 1 / 4, 1])
    assert grid.distances == pytest.approx([0, 3 / 8, 6 / 8, 3])
