"""Isolation plots: which bucket holds each trial, which trial is the best there, and how both are drawn."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.analysis.findings import Findings
from sweeps.report.figures.slices import Slice, slice_data, slices_picture
from sweeps.report.figures.style import BLUE, GREY, VERMILION
from sweeps.store.records import Results, Run
from sweeps.study.knobs import PARAM
from tests.helpers import synthetic

FULL = synthetic.full()
DATA = {data.knob: data for data in slice_data(Findings(FULL))}
CURVE = synthetic.points(synthetic.BASELINE, 3.5)


def results_of(knobs: dict[str, Any], runs: list[Run]) -> Results:
    return synthetic.results(runs, study=synthetic.study(knobs=knobs))


def trial(number: int, loss: float | None, *, predicted: float | None = None, **params: float) -> Run:
    """Return a complete trial with these parameters, or a trial stopped with a prediction."""
    changes: dict[str, Any] = {"params": {**synthetic.params_of(synthetic.BASELINE), **params}, "val_loss": loss}
    if predicted is not None:
        pruning = synthetic.pruning(CURVE[10], synthetic.BASELINE, predicted=predicted, best=3.0)
        changes |= {"outcome": "pruned", "pruning": pruning, "points": CURVE[:11]}
    return synthetic.run(number, **changes)


# --- buckets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knob", "edges"),
    [
        ("dropout", [0, 0.06, 0.12, 0.18, 0.24, 0.3]),
        ("learning_rate", [1e-4, 1e-4 * 60**0.2, 1e-4 * 60**0.4, 1e-4 * 60**0.6, 1e-4 * 60**0.8, 6e-3]),
        ("n_embd", [192, 307.2, 422.4, 537.6, 652.8, 768]),
    ],
)
def test_buckets_are_fifths_of_the_range_on_its_own_scale(knob: str, edges: list[float]) -> None:
    buckets = DATA[knob].buckets
    assert [buckets[0].low, *(bucket.high for bucket in buckets)] == pytest.approx(edges)
    assert all(lower.high == upper.low for lower, upper in itertools.pairwise(buckets))


@pytest.mark.parametrize("knob", synthetic.KNOBS)
def test_every_trial_with_a_final_loss_is_in_the_bucket_that_holds_its_value(knob: str) -> None:
    data = DATA[knob]
    assert sorted(final.run.id for final in data.finals) == sorted(final.run.id for final in Findings(FULL).finals)
    for bucket in data.buckets:
        for final in bucket.finals:
            assert bucket.low <= float(final.run.params[PARAM.get(knob, knob)]) <= bucket.high
    assert {run.outcome for run in data.without} == {"infeasible"}


def test_slices_are_of_the_search_alone_by_optunas_parameter() -> None:
    assert list(DATA) == list(synthetic.KNOBS)
    assert DATA["min_lr"].param == "min_lr_ratio"
    assert DATA["min_lr"].baseline == pytest.approx(0.1)
    assert DATA["warmup_iters"].baseline == pytest.approx(0.025)
    assert DATA["learning_rate"].log
    assert not DATA["dropout"].log
    told = [final for final in DATA["dropout"].finals if not final.imputed and not final.diverged]
    assert len(told) == 35  # complete, without the baseline's two further seeds


def test_a_buckets_best_may_be_one_that_was_stopped_but_none_that_diverged() -> None:
    runs = [
        trial(0, 3.6, dropout=0.01),
        trial(1, None, predicted=3.5, dropout=0.02),
        trial(2, 3.4, dropout=0.29),
        dataclasses.replace(trial(3, None, dropout=0.15), outcome="diverged"),
    ]
    (data,) = slice_data(Findings(results_of({"dropout": synthetic.KNOBS["dropout"]}, runs)))
    bests = [bucket.best for bucket in data.buckets]
    assert [None if best is None else best.run.id for best in bests] == [1, None, None, None, 2]
    assert [len(bucket.finals) for bucket in data.buckets] == [2, 0, 1, 0, 1]
    assert data.gap == pytest.approx(0.1)


@settings(max_examples=30, deadline=None)
@given(
    trials=st.lists(st.tuples(st.floats(1e-4, 6e-3), st.integers(48, 80)), min_size=1, max_size=12),
    shift=st.integers(-8, 8),
    random=st.randoms(use_true_random=False),
)
def test_a_constant_and_the_order_change_no_bests(trials: list[tuple[float, int]], shift: int, random: Any) -> None:
    def bests(runs: list[Run]) -> list[float | None]:
        (data,) = slice_data(Findings(results_of({"learning_rate": synthetic.KNOBS["learning_rate"]}, runs)))
        assert data.gap >= 0
        return [None if bucket.best is None else bucket.best.loss for bucket in data.buckets]

    runs = [trial(i, loss / 16, learning_rate=rate) for i, (rate, loss) in enumerate(trials)]
    before = bests(runs)
    moved = [dataclasses.replace(run, val_loss=(run.val_loss or 0.0) + shift) for run in runs]
    random.shuffle(moved)
    assert bests(moved) == [None if loss is None else loss + shift for loss in before]
    assert min(loss for loss in before if loss is not None) == min(loss for _, loss in trials) / 16


def test_each_choice_is_a_bucket_in_the_studys_order() -> None:
    knobs = {"batch_size": {"choices": [16, 8, 32]}}
    runs = [trial(i, 3.5 + i / 10, batch_size=size) for i, size in enumerate((16, 32, 8, 32))]
    results = results_of(knobs, runs)
    (data,) = slice_data(Findings(results))
    assert data.choices == (16, 8, 32)
    assert [[final.run.id for final in bucket.finals] for bucket in data.buckets] == [[0], [2], [1, 3]]
    axis = slices_picture(Findings(results)).figures[0].layout.xaxis
    assert axis.ticktext == ("16", "8", "32")
    assert (
        [data.at(run) for run in runs]
        == [0, 2, 1, 2]
        == [axis.tickvals[("16", "8", "32").index(str(size))] for size in (16, 32, 8, 32)]
    )


# --- the picture ---------------------------------------------------------------------------------------------------


def _traces(sliced: Slice, results: Results) -> dict[str, Any]:
    """Return a panel's traces by colour and symbol, or by mode."""
    index = list(results.study.knobs).index(sliced.knob)
    data = slices_picture(Findings(results)).figures[index].data
    return {f"{t.marker.color} {t.marker.symbol or 'circle'}" if t.mode == "markers" else t.mode: t for t in data}


def test_a_panel_shows_each_kind_of_trial_as_what_it_is() -> None:
    data = DATA["dropout"]
    traces = _traces(data, FULL)
    assert len(traces[f"{GREY} circle"].x) == 35
    assert len(traces[f"{GREY} circle-open"].x) == 8  # stopped early
    assert len(traces[f"{GREY} x-thin"].x) == 1  # diverged
    assert len(traces[f"{GREY} triangle-down-open"].x) == 1  # did not fit
    best = FULL.best
    assert best is not None
    star = traces[f"{VERMILION} star"]
    assert (star.x, star.y) == ((best.params["dropout"],), (best.val_loss,))
    opened = traces[f"{GREY} circle-open"]
    assert all("predicted final loss" in text for text in opened.text)
    assert traces["text"].text == tuple(str(len(bucket.finals)) for bucket in data.buckets)


def test_bars_span_their_bucket_at_its_best_loss() -> None:
    data = DATA["dropout"]
    traces = _traces(data, FULL)
    for i, bucket in enumerate(data.buckets):
        assert bucket.best is not None
        assert traces["lines"].x[3 * i : 3 * i + 2] == (bucket.low, bucket.high)
        assert traces["lines"].y[3 * i : 3 * i + 2] == (bucket.best.loss,) * 2
    assert traces[f"{BLUE} circle"].y == tuple(bucket.best.loss for bucket in data.buckets if bucket.best)


def test_the_baselines_mean_and_the_range_of_its_seeds_are_drawn() -> None:
    losses = [run.val_loss or 0.0 for run in FULL.baseline_runs]
    band, mean, value = slices_picture(Findings(FULL)).figures[3].layout.shapes
    assert (band.y0, band.y1) == (min(losses), max(losses))
    assert mean.y0 == pytest.approx(sum(losses) / 3)
    assert value.x0 == 0.0


def test_the_summary_names_the_knob_with_the_widest_gap() -> None:
    picture = slices_picture(Findings(FULL))
    gap = DATA["learning_rate"].gap
    assert gap == max(data.gap for data in DATA.values())
    assert f"learning_rate changes the best loss the most: its worst part lets it fall to {gap:.3f}" in picture.summary
    assert "35 complete trials, 8 stopped early, 1 diverged and 1 without a loss" in picture.summary
