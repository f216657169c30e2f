"""Ablation path: its steps against cases by hand, and the waterfall drawn from them."""

from __future__ import annotations

import dataclasses

import pytest

from sweeps.analysis.attribution import PathStep
from sweeps.report.figures.ablation_path import path_picture, stairs
from tests.helpers import attributions
from tests.helpers.figures import note_texts, trace_named


def test_stairs_go_down_by_the_drops() -> None:
    steps = stairs(attributions.attribution())
    assert [step.label for step in steps] == [
        "baseline",
        "learning_rate 0.001 → 0.003",
        "n_embd 384 → 768",
        "dropout 0 → 0.05",
    ]
    assert [step.level for step in steps] == pytest.approx([3.82, 3.42, 3.32, 3.315])
    assert [step.start for step in steps] == pytest.approx([3.82, 3.82, 3.42, 3.32])


def test_the_path_ends_where_a_drop_is_not_known() -> None:
    unknown = dataclasses.replace(attributions.PATH[2], drop=None)
    attribution = attributions.attribution(path=(*attributions.PATH[:2], unknown, *attributions.PATH[3:]))
    assert len(stairs(attribution)) == 2
    assert "so far" in path_picture(attribution).summary
    assert stairs(attributions.attribution(path=())) == ()
    assert not path_picture(attributions.attribution(path=attributions.PATH[:1])).figures


def test_the_waterfall_shows_drops_seeds_and_the_last_step_together() -> None:
    worse = PathStep(
        knob=None, rest=("n_embd", "dropout"), losses={1338: 3.45, 1339: 3.47}, drop=attributions.contrast(-0.04, n=2)
    )
    attribution = attributions.attribution(path=(*attributions.PATH[:2], worse))
    picture = path_picture(attribution)
    (figure,) = picture.figures
    falls, rises = trace_named(figure, "loss falls"), trace_named(figure, "loss rises")
    assert (falls.base, falls.x) == (pytest.approx((3.82,)), pytest.approx((-0.40,)))
    assert (rises.base, rises.x) == (pytest.approx((3.42,)), pytest.approx((0.04,)))
    bars, ticks, mean = figure.data[-3:]
    assert list(mean.x) == pytest.approx([3.82, 3.42, 3.46])
    assert sorted(ticks.x) == sorted(loss for step in attribution.path for loss in step.losses.values())
    drop = attribution.path[1].drop
    assert drop is not None
    assert drop.low is not None
    assert bars.x[1] == pytest.approx(3.82 - drop.low)
    assert "<b>rises by 0.040<br>(−0.087 to 0.167)</b>" in note_texts(figure)  # 0.04 ± t(.975, 1) * 0.01
    assert "with the rest (n_embd and dropout) it rises by 0.040 (−0.087 to 0.167): 3.460 with the best" in (
        picture.summary
    )
