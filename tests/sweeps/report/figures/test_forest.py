"""Forest plot: its rows and words against cases by hand, and the figure drawn from them."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.analysis.attribution import CandidateWord
from sweeps.analysis.contrasts import Contrast
from sweeps.report.figures.forest import advice_rows, forest_picture, knob_rows, visible_range
from tests.helpers import attributions
from tests.helpers.attributions import FLOOR
from tests.helpers.figures import note_texts, trace_named


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("broken", ["breaks the plateau", "breaks it alone, necessary", "breaks it alone", "no effect shown"]),
        ("improved", ["improves", "improves alone, necessary", "improves alone", "no effect shown"]),
        (
            "jointly",
            ["breaks the plateau", "only jointly with n_embd", "only jointly with learning_rate", "no effect shown"],
        ),
        ("necessary", ["breaks the plateau", "necessary", "not enough evidence", "no effect shown"]),
        ("nobody", ["breaks the plateau", "not enough evidence", "not enough evidence", "raises the loss"]),
        ("gaining", ["breaks the plateau", "gains, necessary", "breaks it alone", "no effect shown"]),
        ("perhaps lasting", ["not shown", "gains", "not enough evidence"]),
        ("head start", ["not shown", "not enough evidence", "not enough evidence"]),
    ],
)
def test_words_of_the_forest(case: str, words: list[str]) -> None:
    attribution = attributions.CASES[case]()
    assert [row.word for row in knob_rows(attribution)] == words
    for word in words[1:]:
        assert word in forest_picture(attribution).summary


def test_rows_are_the_whole_change_then_each_knob_alone_and_reset() -> None:
    attribution = attributions.attribution()
    first, rate, width, _ = knob_rows(attribution)
    assert first.label == "all 3 changes together"
    assert [(mark.kind, mark.effect) for mark in first.effects] == [("all together", attribution.effect)]
    assert rate.label == "learning_rate 0.001 → 0.003"
    assert width.label == "n_embd 384 → 768"
    knob = attribution.knobs[0]
    assert [mark.effect for mark in rate.effects] == [knob.alone, knob.reset]
    assert [mark.test and mark.test[1] for mark in rate.effects] == [knob.lasting, knob.needed]


def test_the_forest_shows_each_mean_interval_and_seed() -> None:
    attribution = attributions.attribution()
    figure = forest_picture(attribution).figures[0]
    for kind, effects in {
        "all together": [attribution.effect],
        "the knob alone": [knob.alone for knob in attribution.knobs],
        "lost when it is reset": [knob.reset for knob in attribution.knobs],
    }.items():
        index = figure.data.index(trace_named(figure, kind))
        ticks, bars, marks = figure.data[index - 2 : index + 1]
        known = [effect for effect in effects if effect is not None]
        assert list(marks.x) == [effect.mean for effect in known]
        assert [x for x in bars.x if x is not None] == [
            end for contrast in known for end in (contrast.low, contrast.high)
        ]
        assert sorted(ticks.x) == sorted(x for contrast in known for x in contrast.differences.values())
        assert all(f"{effect.n} seeds" in text for effect, text in zip(known, marks.customdata, strict=True))
    assert [round(y) for y in trace_named(figure, "lost when it is reset").y] == [1, 2, 3]
    (band,) = (shape for shape in figure.layout.shapes if shape.type == "rect")
    assert (band.x0, band.x1) == (-FLOOR, FLOOR)
    hover = trace_named(figure, "the knob alone").customdata[0]
    assert "Holm" in hover
    assert "+0.400 nats (+0.372 to +0.428, 95 %), 5 seeds" in hover  # 0.4 ± t(.975, 4) * 0.01
    assert "no mere head start: +0.220" in hover


def test_advice_is_a_panel_of_its_own_with_what_diverged() -> None:
    lost = attributions.candidate(0, CandidateWord.WRONG, None, diverged=2)
    attribution = attributions.attribution(candidates=(lost, *attributions.ANSWERS[1:]))
    assert [row.word for row in advice_rows(attribution)] == [
        "wrong, 2 runs diverged",
        "no effect shown",
        "right",
        "not enough evidence",
    ]
    picture = forest_picture(attribution)
    assert len(picture.figures) == 2
    assert list(trace_named(picture.figures[1], "the advice").y) == [1, 2, 3]
    assert "of 4 pieces of advice: 1 right, 1 wrong, 1 no effect shown and 1 not enough evidence" in picture.summary
    assert len(forest_picture(attributions.attribution(candidates=())).figures) == 1


def test_a_loss_far_beyond_the_rest_stands_at_the_edge_with_its_number() -> None:
    answers = (*attributions.ANSWERS, attributions.candidate(0, CandidateWord.WRONG, attributions.gain(-4.0)))
    figure = forest_picture(attributions.attribution(candidates=answers)).figures[1]
    marks = trace_named(figure, "the advice")
    low, high = figure.layout.xaxis.range
    assert all(low < x < high for x in marks.x)
    assert [text.strip() for text in marks.text] == ["", "", "", "", "−4.000"]
    assert marks.x[-1] == min(marks.x) > -2
    assert "−4.000 nats" in marks.customdata[-1]


effect_lists = st.lists(
    st.builds(
        lambda mean, se, n: attributions.gain(mean, se=se, n=n),
        st.floats(-5, 5),
        st.floats(1e-3, 1),
        st.integers(1, 8),
    ),
    min_size=1,
    max_size=6,
)


@given(effect_lists)
def test_the_picture_reaches_every_gain_and_no_further_than_needed(contrasts: list[Contrast]) -> None:
    low, high = visible_range(contrasts, FLOOR)
    seen = [value for contrast in contrasts for value in (contrast.mean, *contrast.differences.values())]
    assert low <= -FLOOR < FLOOR <= high
    assert high >= max(seen)
    assert low <= min(seen) or low <= -max(*seen, FLOOR)
    ends = [end for contrast in contrasts for end in (contrast.low, contrast.high) if end is not None]
    assert high <= max([FLOOR, *seen, *ends])
    assert low >= min([-FLOOR, *seen, *ends])


def test_labels_and_words_fit_side_by_side_on_a_phone() -> None:
    long = dataclasses.replace(attributions.KNOBS[0], knob="gradient_accumulation_steps", was=1, new=6.1234e-4)
    attribution = attributions.attribution(knobs=(long, *attributions.jointly().knobs))
    figure = forest_picture(attribution).figures[0]
    notes = [note for note in figure.layout.annotations if note.text]
    for y, pair in itertools.groupby(sorted(notes, key=lambda note: note.y), key=lambda note: note.y):
        left, right = sorted(pair, key=lambda note: note.x)
        widest = [max(map(len, note.text.removeprefix("<b>").split("<br>"))) for note in (left, right)]
        assert sum(widest) <= 48, y
        assert (left.xanchor, right.xanchor) == ("left", "right")
    assert "learning_rate<br>0.001 → 0.003" in note_texts(figure) or "learning_rate 0.001 → 0.003" in note_texts(figure)


def test_attributions_of_one_seed_are_drawn_without_intervals() -> None:
    attribution = attributions.attribution(effect=attributions.gain(0.5, n=1), knobs=(), candidates=())
    picture = forest_picture(attribution)
    assert "interval not known" in picture.summary
    assert "1 fresh seed" in picture.summary
    assert picture.figures[0].data[1].x == ()
