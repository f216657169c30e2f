"""Two modes: which values show them, and what follows for their mean and the share of the upper ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from sweeps.analysis.modes import share_interval, sign_flip_p, two_modes, typical_values
from tests.helpers.contrasts import BIMODAL


@pytest.mark.parametrize(
    ("values", "two"),
    [
        ([], False),
        ([1.0], False),
        ([0.0, 1.0], False),
        ([0.0, 0.01, 1.0], True),
        ([0.0, 0.1, 1.0], False),
        ([0.0, 0.02, 0.98, 1.0], True),
        ([0.0, 0.3, 0.7, 1.0], False),
        ([0.0, 0.05, 0.1, 0.9, 1.0], True),
        ([0.0, 0.2, 0.5, 0.8, 1.0], False),
        ([2.0, 2.0, 2.0, 2.0], False),
        ([0.0] * 10 + [1.0] * 10, False),  # the mean of so many values is normal enough
    ],
)
def test_two_modes(values: list[float], two: bool) -> None:
    assert two_modes(values) is two
    assert two_modes([7 - 3 * value for value in reversed(values)]) is two


@pytest.mark.parametrize("n", range(3, 15))
def test_one_in_twenty_normal_samples_seems_to_have_two_modes(n: int) -> None:
    draws = np.random.default_rng(n).normal(size=(4000, n)).tolist()
    assert sum(map(two_modes, draws)) / 4000 == pytest.approx(0.05, abs=0.0125)


@pytest.mark.parametrize(("values", "outside"), [(BIMODAL, 3), (BIMODAL[:6], 1), ([*BIMODAL, 0.2], 6)])
def test_typical_values_are_means_of_subsets(values: list[float], outside: int) -> None:
    """2.5 % of 128, 64 and 256 pieces."""
    subsets = itertools.chain.from_iterable(itertools.combinations(values, r) for r in range(1, len(values) + 1))
    means = sorted(float(np.mean(subset)) for subset in subsets)
    assert typical_values(values, 0.025) == (pytest.approx(means[outside - 1]), pytest.approx(means[-outside]))


@pytest.mark.parametrize("n", [3, 4, 5])
def test_of_few_values_all_are_typical(n: int) -> None:
    assert typical_values(BIMODAL[:n], 0.025) == (min(BIMODAL[:n]), max(BIMODAL[:n]))


@pytest.mark.parametrize("threshold", [0.01, 0.02, 0.2, 0.3, 0.5])
def test_sign_flips_are_a_permutation_test(threshold: float) -> None:
    test = stats.permutation_test(
        (np.array(BIMODAL) - threshold,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert sign_flip_p(BIMODAL, threshold) == pytest.approx(test.pvalue)


def test_sign_flips_have_no_say_where_all_values_exceed_the_threshold() -> None:
    assert sign_flip_p(BIMODAL, 0.009) == 0


@pytest.mark.parametrize("n", [1, 3, 8])
def test_the_interval_of_a_share_is_clopper_and_pearsons(n: int) -> None:
    for successes in range(n + 1):
        exact = stats.binomtest(successes, n).proportion_ci(0.95, method="exact")
        assert share_interval(successes, n, level=0.05) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert share_interval(0, 0, level=0.05) == (0, 1)
