"""Noise of seeds: prediction factors against tables and an independent integration, and the seeds that would show."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sweeps.analysis.noise import noise_of, prediction_factor, seeds_to_show

# Student's t, two-sided 95 %, as printed in tables, by degrees of freedom
T_TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 7: 2.365, 9: 2.262, 29: 2.045}


@pytest.mark.parametrize(("df", "t"), T_TABLE.items())
def test_factor_of_one_prediction_is_students_t(df: int, t: float) -> None:
    n = df + 1
    assert prediction_factor(n) == pytest.approx(t * math.sqrt(1 + 1 / n), rel=2e-4)


@pytest.mark.parametrize(("n", "looks"), [(2, 3), (3, 2), (3, 12), (5, 6), (8, 12), (30, 4)])
def test_factor_of_several_predictions_is_the_multivariate_t(n: int, looks: int) -> None:
    """The differences share a mean, so their correlation is 1/(n + 1). scipy integrates this by another method."""
    shared = 1 / (n + 1)
    shape = np.full((looks, looks), shared) + (1 - shared) * np.eye(looks)
    limit = np.full(looks, prediction_factor(n, looks=looks) / math.sqrt(1 + 1 / n))
    held = stats.multivariate_t(shape=shape, df=n - 1, seed=1).cdf(limit, lower_limit=-limit)
    assert held == pytest.approx(0.95, abs=2e-4)


def test_a_prediction_needs_two_values() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        prediction_factor(1)


@pytest.mark.parametrize(
    ("losses", "sd"), [([3.5], None), ([3.5, 3.5], None), ([1.0, 2.0, 3.0], 1.0), ([3.0, 3.2], math.sqrt(0.02))]
)
def test_noise(losses: list[float], sd: float | None) -> None:
    noise = noise_of(losses)
    assert noise.sd == (None if sd is None else pytest.approx(sd))
    assert noise.mean == pytest.approx(sum(losses) / len(losses))
    assert (noise.half_width() is None) == (sd is None)


def test_seeds_to_show_is_the_first_number_that_would() -> None:
    needed = seeds_to_show(0.06, 0.01, looks=12)
    assert needed is not None
    assert 0.01 * prediction_factor(needed, looks=12) < 0.06 <= 0.01 * prediction_factor(needed - 1, looks=12)
    assert seeds_to_show(0.01, 0.01, looks=1) is None
