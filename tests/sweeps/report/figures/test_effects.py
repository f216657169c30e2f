"""The pictures' data, and that each picture says its part in words, with few runs as with many."""

from __future__ import annotations

import dataclasses
import math

import pytest

from sweeps.analysis.findings import Findings
from sweeps.analysis.noise import prediction_factor
from sweeps.report.figures import style
from sweeps.report.figures.candidates import difference
from sweeps.report.figures.curves import curve, curves, zoom
from sweeps.report.figures.effects import effect_rows
from sweeps.report.figures.perplexity import perplexity_rows
from sweeps.report.publish import pictures
from sweeps.store.records import Results, Run
from tests.helpers import synthetic

FULL = synthetic.full()


def _flat(number: int, loss: float, origin: str = "baseline", **changes: object) -> Run:
    """A run whose every evaluation has the same loss."""
    points = tuple(dataclasses.replace(point, val_loss=loss) for point in synthetic.points(synthetic.BASELINE, 3.5))
    return synthetic.run(number, origin, val_loss=loss, points=points, **changes)


def test_curves_leave_out_what_is_not_finite_and_put_the_best_in_front() -> None:
    run = _flat(0, 3.5)
    broken = tuple(dataclasses.replace(p, val_loss=math.nan) if p.step == 40 else p for p in run.points)
    made = curve(dataclasses.replace(run, points=broken))
    assert len(made.tokens) == len(run.points) - 1
    assert 40 * synthetic.BASELINE.tokens_per_iter not in made.tokens
    assert [one.kind for one in curves(FULL)][-4:] == ["baseline"] * 3 + ["best"]
    assert len(curves(FULL)) == len(FULL.runs) - 1  # one never began


def test_zoom_opens_after_the_first_tenth_and_forgets_the_exploded() -> None:
    shown = curves(FULL)
    low, high = zoom(shown) or (0.0, 0.0)
    assert low < min(loss for one in shown for loss in one.losses)
    baseline = next(one for one in shown if one.kind == "baseline")
    assert baseline.losses[-1] < high < baseline.losses[0]
    assert zoom([]) is None


def test_difference_from_seeds_is_their_mean_minus_the_run_with_the_prediction_interval() -> None:
    seeds = [_flat(0, 3.49), _flat(1, 3.5), _flat(2, 3.51)]
    found = difference(_flat(3, 3.4, "candidate"), seeds)
    assert found is not None
    assert found.nats == pytest.approx([0.1] * 31)
    assert found.half_widths == pytest.approx([0.01 * prediction_factor(3)] * 31)
    alone = difference(_flat(3, 3.4, "candidate"), seeds[:1])
    assert alone is not None
    assert alone.half_widths == ()
    assert difference(_flat(3, 3.4, "candidate"), []) is None


def test_difference_interpolates_by_tokens_where_the_grids_differ() -> None:
    seeds = [dataclasses.replace(_flat(0, 3.5), points=synthetic.points(synthetic.BASELINE, 3.5, noise=0.0))]
    run = _flat(1, 3.0, "candidate")
    between = tuple(dataclasses.replace(p, tokens=p.tokens + 40960) for p in run.points)
    found = difference(dataclasses.replace(run, points=between), seeds)
    assert found is not None
    assert len(found.tokens) == len(run.points) - 1  # nothing is made up beyond the baseline's last evaluation
    theirs = seeds[0].points
    assert found.nats[3] == pytest.approx((theirs[3].val_loss + theirs[4].val_loss) / 2 - 3.0)


def test_effect_rows_begin_with_the_knob_that_moves_most_and_end_with_advice() -> None:
    labels = [row.label for row in effect_rows(Findings(FULL))]
    assert labels[0] == "learning_rate 0.001 → 1e-4"
    assert labels[-3:] == [
        "advice: learning_rate 0.0005, min_lr 5e-05",
        "advice: warmup_iters 60",
        "advice: dropout 0.2, weight_decay 0.2",
    ]


def test_perplexity_rows() -> None:
    rows = perplexity_rows(FULL)
    assert [row.kind for row in rows] == ["baseline", "best", "candidate", "candidate", "candidate"]
    losses = [run.val_loss for run in FULL.baseline_runs]
    assert [math.log(value) for value in rows[0].perplexities] == pytest.approx(losses)


def test_every_picture_of_a_whole_study_is_drawn_and_said() -> None:
    made = pictures(Findings(FULL))
    assert len({picture.key for picture in made}) == len(made) == 13
    for picture in made:
        assert picture.figures, picture.key
        assert picture.summary.endswith(".")
        assert picture.reading
        assert set(picture.key) <= set("abcdefghijklmnopqrstuvwxyz-")
        for drawn in picture.figures:
            assert drawn.layout.xaxis.title.text or picture.key == "parallel"
    slices = {picture.key: picture for picture in made}["slices"]
    assert len(slices.figures) == len(synthetic.KNOBS)


@pytest.mark.parametrize(
    "results",
    [
        synthetic.results([]),
        synthetic.results([synthetic.run(0, "baseline", outcome="running", val_loss=None, points=())]),
        synthetic.results([synthetic.run(0, "baseline")]),
        synthetic.results([synthetic.run(0, outcome="pruned", val_loss=None)]),
        synthetic.family([3.5, 3.6], [3.4, 3.7]),
        synthetic.results([synthetic.run(0, "candidate"), synthetic.run(1, "star", knob="dropout", val_loss=None)]),
        synthetic.results([_flat(0, 3.5), _flat(1, 3.5, "candidate")]),
    ],
    ids=["empty", "running", "one seed", "one pruned", "no curves", "no baseline", "all alike"],
)
def test_few_runs_get_a_sentence_instead_of_an_empty_chart(results: Results) -> None:
    for picture in pictures(Findings(results)):
        assert picture.summary.endswith(".")
        assert all(any(trace.x is not None for trace in drawn.data) for drawn in picture.figures)
    drawn = {picture.key for picture in pictures(Findings(results)) if picture.figures}
    assert "importances" not in drawn
    if not any(run.points for run in results.runs):
        assert not drawn & {"loss-curves", "best-curve", "candidates"}


def test_markup_in_names_is_shown_not_obeyed() -> None:
    assert style.plain("<b>%{x}</b> & <a href='x'>") == "&lt;b&gt;%&#123;x}&lt;/b&gt; &amp; &lt;a href='x'&gt;"
    assert "<i>" not in style.hover(synthetic.run(0, label="<i>x</i>"))


@pytest.mark.parametrize("colour", [*style.KIND_COLOURS.values(), style.BLUE, style.PURPLE, style.VERMILION])
def test_colours_are_legible_on_white(colour: str) -> None:
    """WCAG 2.2, 1.4.11: 3:1 for graphics; relative luminance as defined there."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    assert 1.05 / (luminance + 0.05) >= 3
