"""What figures share: Tukey's fence."""

from __future__ import annotations

import pytest

from sweeps.report.figures.style import tukey_fence


@pytest.mark.parametrize(
    ("values", "fence"),
    [
        ([2.0], 2.0),
        ([1.0, 3.0], 2.5 + 1.5),
        ([1.0, 2.0, 3.0, 4.0, 5.0], 4.0 + 1.5 * 2.0),
        ([5.0, 1.0, 4.0, 2.0, 3.0], 7.0),
        ([1.0, 2.0, 3.0, 4.0, 1000.0], 7.0),
        ([-4.0, -3.0, -2.0, -1.0, 0.0], -1.0 + 1.5 * 2.0),
        ([3.5, 3.5, 3.5, 9.0], 4.875 + 1.5 * 1.375),
    ],
    ids=["one", "two", "five", "any order", "an outlier", "negative", "ties"],
)
def test_the_fence_is_one_and_a_half_quartile_distances_above_the_third(values: list[float], fence: float) -> None:
    assert tukey_fence(values) == pytest.approx(fence)
