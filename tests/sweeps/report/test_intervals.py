"""Forest plot in a table: one scale for all rows, marks where their numbers are, names that say them."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.report.intervals import Scale, axis_plot, in_words, interval_plot, scale_of
from sweeps.verdict.answer import Row

GAIN = Row("branch", "dropout", "0.1", "0", "breaks it alone", 0.10, 0.06, 0.14, 3, True)


def row(effect: float | None, low: float | None = None, high: float | None = None, *, shown: bool = True) -> Row:
    return dataclasses.replace(GAIN, effect=effect, low=low, high=high, shown=shown)


nats = st.floats(-5, 5).map(lambda value: round(value, 4))


@given(st.lists(st.tuples(nats, st.floats(0, 1)), min_size=1, max_size=12))
def test_zero_and_every_gain_are_on_the_scale(measured: list[tuple[float, float]]) -> None:
    rows = [row(effect, effect - half, effect + half) for effect, half in measured]
    scale = scale_of(rows)
    assert scale is not None
    assert scale.low < 0 < scale.high
    assert all(scale.holds(effect) for effect, _ in measured if effect >= 0)
    assert 0 in scale.ticks
    assert 1 <= len(scale.ticks) <= 7
    assert all(scale.holds(tick) for tick in scale.ticks)


@given(st.lists(nats, min_size=2, max_size=8), st.floats(0.01, 100))
def test_places_keep_their_order_and_do_not_depend_on_the_unit(effects: list[float], unit: float) -> None:
    scale = scale_of([row(effect) for effect in effects])
    other = scale_of([row(unit * effect) for effect in effects])
    assert scale is not None
    assert other is not None
    places = [scale.place(effect) for effect in sorted(effects)]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    if any(abs(effect) > 0.001 for effect in effects):
        assert [other.place(unit * effect) for effect in sorted(effects)] == pytest.approx(places, abs=1e-6)


def test_one_loss_far_beyond_the_rest_does_not_squeeze_them() -> None:
    rows = [row(0.1, 0.06, 0.14), row(0.05, 0.01, 0.09), row(0.02, 0.0, 0.04), row(-3.0, -3.2, -2.8)]
    scale = scale_of(rows)
    assert scale is not None
    assert not scale.holds(-3.0)
    assert scale.place(0.1) - scale.place(0.0) > 25
    assert 'class="arrow"' in interval_plot(rows[-1], scale)
    assert 'class="mean"' not in interval_plot(rows[-1], scale)


def test_an_interval_that_leaves_the_scale_is_cut_with_an_arrow() -> None:
    plot = interval_plot(row(0.1, -0.9, 0.9), Scale(-0.2, 0.2))
    assert '<line class="bar" x1="0.00%" x2="100.00%"' in plot
    assert plot.count('class="arrow"') == 2
    assert plot.count('class="mean"') == 1
    assert 'class="arrow"' not in interval_plot(GAIN, Scale(-0.2, 0.2))


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (Scale(-0.02, 0.15), (0.0, 0.1)),
        (Scale(-0.17, 0.48), (0.0, 0.2, 0.4)),
        (Scale(-0.9, 0.6), (-0.5, 0.0, 0.5)),
        (Scale(-0.005, 0.085), (0.0, 0.05)),
        (Scale(-2.0, 0.1), (-2.0, -1.0, 0.0)),
    ],
)
def test_ticks_are_round(scale: Scale, ticks: tuple[float, ...]) -> None:
    assert scale.ticks == pytest.approx(ticks)


def test_marks_stand_where_the_numbers_are() -> None:
    svg = ElementTree.fromstring(interval_plot(GAIN, Scale(-0.1, 0.3)))  # noqa: S314  # our own markup
    zero, bar, mean = list(svg)
    assert (zero.get("x1"), zero.get("x2")) == ("25.00%", "25.00%")
    assert (bar.get("x1"), bar.get("x2")) == ("40.00%", "60.00%")
    assert mean.get("cx") == "50.00%"
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == "gains 0.10 nats, 95 % interval +0.06 to +0.14"


@pytest.mark.parametrize(
    ("measured", "kind", "shape"),
    [(row(0.1), "gain", "circle"), (row(-0.1), "loss", "rect"), (row(0.1, shown=False), "open", "circle")],
)
def test_gains_losses_and_what_is_not_shown_differ_by_more_than_colour(measured: Row, kind: str, shape: str) -> None:
    plot = interval_plot(measured, Scale(-0.2, 0.2))
    assert f'class="interval {kind}"' in plot
    assert re.search(rf'<{shape} class="mean"', plot)


def test_without_an_effect_there_is_no_plot() -> None:
    assert interval_plot(row(None), Scale(-1, 1)) == ""
    assert scale_of([row(None)]) is None
    assert in_words(row(None)) == "not measured"


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (row(-0.05, -0.08, -0.02), "loses 0.05 nats, 95 % interval −0.08 to −0.02"),
        (row(0.05), "gains 0.05 nats, interval not known"),
        (
            dataclasses.replace(GAIN, measured="without it"),
            "the best config without it loses 0.10 nats, 95 % interval +0.06 to +0.14",
        ),
    ],
)
def test_names_for_a_screen_reader(measured: Row, words: str) -> None:
    assert in_words(measured) == words


def test_the_axis_names_its_ticks() -> None:
    assert re.findall(r">([^<]+)</text>", axis_plot(Scale(-0.9, 0.6))) == ["−0.5", "0", "+0.5"]
