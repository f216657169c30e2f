"""Style of the figures: Tukey's fence, escaped text, legible colours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from sweeps.analysis.findings import Findings
from sweeps.report.album import album_of
from sweeps.report.figures import style
from sweeps.report.figures.dark import DARK
from sweeps.report.figures.style import hover, literal, tukey_fence
from sweeps.store.records import Results
from tests.helpers import attributions, branches, synthetic


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


def _luminance(colour: str) -> float:
    """Return the relative luminance as WCAG 2.2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(one: str, other: str) -> float:
    brighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


GRAPHICS = [*dict.fromkeys([*style.KIND_COLOURS.values(), style.BLUE, style.PURPLE, style.VERMILION])]


@pytest.mark.parametrize("colour", GRAPHICS)
def test_graphics_are_legible_in_light_and_dark(colour: str) -> None:
    """WCAG 2.2, 1.4.11 asks for 3:1 in graphics."""
    assert _contrast(colour, style.WHITE) >= 3
    assert _contrast(DARK[colour], DARK[style.WHITE]) >= 3


@pytest.mark.parametrize("colour", [*GRAPHICS, style.INK])
def test_texts_are_legible_in_light_and_dark(colour: str) -> None:
    """WCAG 2.2, 1.4.3 asks for 4.5:1 in texts."""
    text = style.TEXT.get(colour, colour)
    assert _contrast(text, style.WHITE) >= 4.5
    assert _contrast(DARK[text], DARK[style.WHITE]) >= 4.5


def _colours(node: object) -> set[str]:
    """Return all that looks like a colour in a figure's JSON."""
    if isinstance(node, dict | list):
        parts = node.values() if isinstance(node, dict) else node
        return set().union(*map(_colours, parts))
    return (
        {node} if isinstance(node, str) and re.fullmatch(r"#[0-9a-fA-F]{3,8}|rgba?\(.*\)|white|black", node) else set()
    )


@pytest.mark.parametrize("study", [synthetic.full, attributions.swept, branches.forked])
def test_every_colour_of_every_figure_has_a_dark_counterpart(study: Callable[[], Results]) -> None:
    for picture in album_of(Findings(study())).pictures:
        for figure in picture.figures:
            for colour in _colours(json.loads(figure.to_json())):
                channels = re.fullmatch(r"rgba\((\d+),(\d+),(\d+),[\d.]+\)", colour)
                solid = "#" + "".join(f"{int(part):02x}" for part in channels.groups()) if channels else colour
                assert solid in {name.lower() for name in DARK} | set(DARK), (picture.key, colour)
