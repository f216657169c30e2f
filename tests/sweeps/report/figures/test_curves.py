"""Loss curves of all runs: their data, the range they open on, and the schedules under them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.report.figures.curves import add_schedules, loss_curve, loss_curves, schedule_line, zoom
from sweeps.report.figures.style import new_figure
from tests.helpers import attributions, synthetic
from tests.helpers.attributions import SEED
from tests.helpers.figures import flat_run
from trainer.config import TrainConfig
from trainer.schedule import lr_at

FULL = synthetic.full()


def test_curves_leave_out_what_is_not_finite_and_put_the_best_in_front() -> None:
    run = flat_run(0, 3.5)
    broken = tuple(dataclasses.replace(point, val_loss=math.nan) if point.step == 40 else point for point in run.points)
    finite = loss_curve(dataclasses.replace(run, points=broken))
    assert len(finite.tokens) == len(run.points) - 1
    assert 40 * synthetic.BASELINE.tokens_per_iter not in finite.tokens
    assert [curve.kind for curve in loss_curves(FULL)][-4:] == ["baseline"] * 3 + ["best"]
    assert len(loss_curves(FULL)) == len(FULL.runs) - 1  # the infeasible run has no evaluation


def test_zoom_opens_after_the_first_tenth_and_forgets_the_exploded() -> None:
    curves = loss_curves(FULL)
    low, high = zoom(curves) or (0.0, 0.0)
    assert low < min(loss for curve in curves for loss in curve.losses)
    baseline = next(curve for curve in curves if curve.kind == "baseline")
    assert baseline.losses[-1] < high < baseline.losses[0]
    assert zoom([]) is None


def test_runs_of_the_confirm_phase_are_drawn_among_all_curves() -> None:
    results = attributions.results()
    runs = tuple(
        dataclasses.replace(run, origin="confirm", phase="confirm")
        if run.origin == "baseline" and run.seed != SEED
        else run
        for run in results.runs
    )
    kinds = {curve.run.id: curve.kind for curve in loss_curves(dataclasses.replace(results, runs=runs))}
    assert [kinds[index] for index in range(6)] == ["baseline"] * 6
    assert kinds[17] == "best"
    assert kinds[101] == "confirm"


configs = st.builds(
    lambda iters, warmup, decay, ratio, on: TrainConfig(
        max_iters=iters,
        warmup_iters=int(warmup * iters),
        lr_decay_iters=max(int(warmup * iters) + 1, int(decay * iters)),
        learning_rate=1e-3,
        min_lr=1e-3 * ratio,
        decay_lr=on,
        eval_interval=max(1, iters // 20),
    ),
    st.integers(20, 30_000),
    st.floats(0, 0.4),
    st.floats(0.5, 1),
    st.floats(0, 1),
    st.booleans(),
)


@given(configs)
def test_a_drawn_schedule_is_the_trainers(config: TrainConfig) -> None:
    schedule = schedule_line(config)
    steps = range(0, config.max_iters, max(1, config.max_iters // 500))
    tokens = [step * config.tokens_per_iter for step in steps]
    assert np.interp(tokens, schedule.tokens, schedule.rates) == pytest.approx(
        [lr_at(step, config) for step in steps], abs=2e-5
    )
    assert max(schedule.rates) == pytest.approx(config.learning_rate, rel=1e-9)  # the peak, however short the warm-up
    assert schedule.tokens[0] == 0
    assert schedule.tokens[-1] == (config.max_iters - 1) * config.tokens_per_iter
    assert len(schedule.tokens) <= 202


def test_schedules_stand_under_the_curves_on_the_same_tokens() -> None:
    figure = new_figure("tokens", "loss")
    figure.update_yaxes(range=[3, 4])
    faster = synthetic.BASELINE.replace(learning_rate=2e-3)
    add_schedules(figure, [("slow", synthetic.BASELINE, {"color": "#000000"}), ("fast", faster, {"color": "#0072B2"})])
    assert [trace.yaxis for trace in figure.data] == ["y2", "y2"]
    assert max(figure.data[1].y) == pytest.approx(2e-3)
    assert figure.layout.xaxis.anchor == "y2"
    below, above = figure.layout.yaxis2.domain, figure.layout.yaxis.domain
    assert 0 == below[0] < below[1] < above[0] < above[1] == 1
    assert figure.layout.height > new_figure("tokens", "loss").layout.height
    assert figure.layout.yaxis2.range is None
    assert tuple(figure.layout.yaxis.range) == (3, 4)
