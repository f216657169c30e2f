"""Style of the figures: Tukey's fence, escaped text, legible colours."""

from __future__ import annotations

import pytest

from sweeps.report.figures import style
from sweeps.report.figures.style import hover, literal, tukey_fence
from tests.helpers import synthetic


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


def test_markup_in_names_is_shown_not_obeyed() -> None:
    assert literal("<b>%{x}</b> & <a href='x'>") == "&lt;b&gt;%&#123;x}&lt;/b&gt; &amp; &lt;a href='x'&gt;"
    assert "<i>" not in hover(synthetic.run(0, label="<i>x</i>"))


@pytest.mark.parametrize("colour", [*style.KIND_COLOURS.values(), style.BLUE, style.PURPLE, style.VERMILION])
def test_colours_are_legible_on_white(colour: str) -> None:
    """WCAG 2.2, 1.4.11 asks for 3:1 in graphics, and defines the relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    assert 1.05 / (luminance + 0.05) >= 3
