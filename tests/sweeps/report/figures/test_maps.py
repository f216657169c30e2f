"""Maps of two knobs: their trials, and the lines on which AdamW's time scale is constant."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.analysis.findings import Findings
from sweeps.report.figures.maps import LossMap, map_data, map_pictures
from sweeps.report.figures.style import VERMILION
from sweeps.study.knobs import RangeKnob
from tests.helpers import synthetic

FULL = synthetic.full()


def decay_map(**knobs: Any) -> LossMap:
    """Return the map of a study without trials, with the given ranges."""
    study = synthetic.study(knobs={**synthetic.KNOBS, **knobs})
    losses = map_data(Findings(synthetic.results([], study=study)), "weight_decay")
    assert losses is not None
    return losses


def test_a_map_holds_the_searchs_trials_the_lowest_loss_on_top() -> None:
    width_map = map_data(Findings(FULL), "n_embd")
    assert width_map is not None
    assert len(width_map.finals) == 44
    losses = [final.loss for final in width_map.finals]
    assert losses == sorted(losses, reverse=True)
    assert width_map.finals[-1].run is width_map.best is FULL.best
    assert width_map.baseline == (1e-3, 384)
    assert [run.outcome for run in width_map.without] == ["infeasible"]
    assert width_map.timescales == ()


def test_time_scales_are_the_powers_of_ten_that_cross_the_map() -> None:
    """The corners are 1 / (6e-3 * 0.5) = 333 and 1 / (1e-4 * 1e-3) = 1e7, whose line only touches the map."""
    assert [scale.iterations for scale in decay_map().timescales] == [1000, 10_000, 100_000, 1_000_000]


@given(st.floats(1e-5, 1e-3), st.floats(2, 1000), st.floats(1e-4, 0.05), st.floats(2, 100), st.booleans())
def test_time_scales_stay_within_the_map_and_reach_its_edges(
    low: float, times: float, least: float, as_much: float, log: bool
) -> None:
    rates, decays = (low, low * times), (0.0 if not log else least, least * as_much)
    losses = decay_map(
        learning_rate={"low": min(rates[0], 1e-3), "high": max(rates[1], 1e-3), "log": True},
        weight_decay={"low": min(decays[0], 0.1), "high": max(decays[1], 0.1), "log": log},
    )
    x, y = losses.ranges
    for scale in losses.timescales:
        assert [a * b * scale.iterations for a, b in zip(scale.x, scale.y, strict=True)] == pytest.approx([1.0] * 33)
        assert all(x.low * (1 - 1e-9) <= value <= x.high * (1 + 1e-9) for value in scale.x)
        assert all(y.low * (1 - 1e-9) <= value <= y.high * (1 + 1e-9) for value in scale.y)
        assert scale.x[0] == pytest.approx(x.low) or scale.y[0] == pytest.approx(y.high)
        assert scale.x[-1] == pytest.approx(x.high) or scale.y[-1] == pytest.approx(y.low)


@pytest.mark.parametrize(
    ("knobs", "keys"),
    [
        (("learning_rate", "weight_decay", "n_embd"), ["map-width", "map-decay"]),
        (("learning_rate", "n_embd"), ["map-width"]),
        (("weight_decay", "n_embd"), []),
        (("learning_rate", "dropout"), []),
    ],
)
def test_a_pair_is_mapped_where_both_are_swept(knobs: tuple[str, ...], keys: list[str]) -> None:
    study = synthetic.study(knobs={name: synthetic.KNOBS[name] for name in knobs})
    pictures = map_pictures(Findings(dataclasses.replace(FULL, study=study)))
    assert [picture.key for picture in pictures] == keys
    assert all(picture.figures for picture in pictures)


def test_values_without_an_order_make_no_map() -> None:
    study = synthetic.study(knobs={**synthetic.KNOBS, "n_embd": {"choices": [384, 768]}})
    assert map_data(Findings(synthetic.results([], study=study)), "n_embd") is None
    assert isinstance(study.knobs["learning_rate"], RangeKnob)


def test_marks_tell_complete_from_stopped_and_losses_share_one_scale() -> None:
    figure = map_pictures(Findings(FULL))[0].figures[0]
    coloured = [trace for trace in figure.data if trace.marker.cmin is not None]
    assert [trace.marker.symbol for trace in coloured] == ["circle-open", "circle"]
    assert [len(trace.x) for trace in coloured] == [8, 35]
    assert len({(trace.marker.cmin, trace.marker.cmax) for trace in coloured}) == 1
    others = {trace.name: trace for trace in figure.data if trace.name}
    assert set(others) >= {"complete", "stopped early", "diverged", "no loss", "baseline", "best"}
    assert (others["baseline"].x[0], others["baseline"].y[0]) == (1e-3, 384)
    best = FULL.best
    assert best is not None
    assert others["best"].marker.color == VERMILION
    assert (others["best"].x[0], others["best"].y[0]) == (best.params["learning_rate"], best.params["n_embd"])


def test_the_decay_map_says_the_bests_time_scale() -> None:
    run = synthetic.run(0, params={**synthetic.params_of(synthetic.BASELINE), "weight_decay": 0.5})
    picture = map_pictures(Findings(synthetic.results([run])))[1]
    assert (
        "τ = 2,000 iterations, 3.3 times the length of its run" in picture.summary
    )  # 1 / (1e-3 * 0.5); the run has 600


def test_without_a_complete_trial_there_is_a_sentence() -> None:
    for picture in map_pictures(Findings(synthetic.results([]))):
        assert picture.summary == "Nothing to draw yet: no trial of the search is complete."
