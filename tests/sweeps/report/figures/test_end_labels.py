"""Labels at the ends of lines: they don't overlap, keep their order and stay inside."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.report.figures.end_labels import EndLabel, add_end_labels, apart
from sweeps.report.figures.style import new_figure


@pytest.mark.parametrize(
    ("wanted", "heights", "centres"),
    [
        ([], [], []),
        ([50.0], [20.0], [50.0]),
        ([50.0, 80.0], [20.0, 20.0], [50.0, 80.0]),
        ([50.0, 50.0], [20.0, 20.0], [40.0, 60.0]),  # each gives way by half
        ([60.0, 50.0], [20.0, 20.0], [65.0, 45.0]),  # in the order of their places, not of the list
        ([2.0, 100.0], [20.0, 20.0], [10.0, 100.0]),  # inside at the top
        ([199.0, 198.0], [20.0, 40.0], [190.0, 160.0]),  # inside at the bottom
        ([10.0, 10.0], [200.0, 200.0], [100.0, 300.0]),  # no room: below each other all the same
    ],
    ids=["none", "one", "far apart", "same place", "order", "top", "bottom", "no room"],
)
def test_labels_move_apart(wanted: list[float], heights: list[float], centres: list[float]) -> None:
    assert apart(wanted, heights, room=200.0) == pytest.approx(centres)


@given(st.lists(st.tuples(st.floats(0, 400), st.sampled_from([19.0, 34.0, 49.0])), min_size=1, max_size=6))
def test_no_two_overlap_and_all_are_inside(labels: list[tuple[float, float]]) -> None:
    wanted, heights = [place for place, _ in labels], [height for _, height in labels]
    centres = apart(wanted, heights, room=400.0)
    placed = sorted(zip(centres, wanted, heights, strict=True))
    assert placed[0][0] - placed[0][2] / 2 >= -1e-6
    assert placed[-1][0] + placed[-1][2] / 2 <= 400 + 1e-6
    for (above, first, tall), (below, second, taller) in itertools.pairwise(placed):
        assert below - above >= (tall + taller) / 2 - 1e-6
        assert first <= second


def test_a_label_stands_at_the_end_of_its_line_as_plain_text() -> None:
    figure = new_figure("", "", height=464)  # 400 pixels inside
    labels = [EndLabel(text="<b>a\nb", x=7.0, y=3.0, colour="#000000"), EndLabel(text="c", x=9, y=3, colour="#0072B2")]
    add_end_labels(figure, labels, low=2.0, high=4.0)
    first, second = figure.layout.annotations
    assert (first.x, first.y, first.text) == (7, 3, "&lt;b&gt;a<br>b")
    assert (second.x, second.y, second.font.color) == (9, 3, "#0072B2")
    assert first.yshift == second.yshift == pytest.approx(0)  # at different ends, so neither gives way
    figure = add_end_labels(new_figure("", "", height=464), [labels[0], labels[0]], low=2.0, high=4.0)
    up, down = (note.yshift for note in figure.layout.annotations)
    assert up == -down == pytest.approx((2 * 15 + 4) / 2)  # two lines of 15 pixels, 4 between the labels
