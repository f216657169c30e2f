"""Curves by their verdict: which verdict each has, and the range of losses the figure opens on."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from sweeps.analysis.curves import losses_of, schedule_of
from sweeps.pruning import plateau
from sweeps.pruning.plateau import CurveState
from sweeps.report.figures.stopped import judged_curves, stopped_picture
from sweeps.store.records import Run
from tests.helpers import synthetic
from tests.helpers.pruned_runs import CURVE, complete, sentinel, stopped

FULL = synthetic.full()


def stuck(number: int, **changes: Any) -> Run:
    points = synthetic.stuck(CURVE, since=6)[:25]
    return synthetic.run(number, points=points, val_loss=None, outcome="pruned", **changes)


def test_each_curve_has_the_verdict_at_its_end() -> None:
    runs = [
        synthetic.run(0),
        stuck(1),
        synthetic.run(2, points=CURVE[:1], outcome="running", val_loss=None),
        synthetic.run(3, points=(), outcome="infeasible", val_loss=None),
        synthetic.run(4, outcome="diverged", val_loss=None),
        stopped(5, at=9, predicted=None, reason="diverged"),
    ]
    curves = judged_curves(synthetic.results(runs))
    assert [judged.curve.run.id for judged in curves] == [0, 1, 2]
    assert curves[1].verdict.word is CurveState.PLATEAU
    assert curves[2].verdict.reason == "still in the warm-up"
    for judged in curves:
        run = judged.curve.run
        assert judged.verdict == plateau.verdict(losses_of(run), schedule_of(run.config))


@pytest.mark.parametrize("lost", [(12,), (30,), tuple(range(20, 31)), tuple(range(31))])
def test_points_that_are_no_numbers_are_gaps(lost: tuple[int, ...]) -> None:
    points = tuple(
        dataclasses.replace(point, val_loss=math.nan if index in lost else point.val_loss)
        for index, point in enumerate(CURVE)
    )
    results = synthetic.results([synthetic.run(0, points=points), sentinel(1, 3.9)])
    curves = judged_curves(results)
    assert len(curves) == (1 if len(lost) == 31 else 2)
    assert curves[-1].verdict.word is not CurveState.UNDETERMINED
    assert stopped_picture(results).figures


def test_a_stuck_end_is_in_the_picture_unless_it_would_flatten_all_else() -> None:
    runs = [*complete(5), stuck(0)]
    end = runs[-1].points[-1].val_loss
    low, high = stopped_picture(synthetic.results(runs)).figures[0].layout.yaxis.range
    assert low < end < high
    far = tuple(dataclasses.replace(point, val_loss=point.val_loss + 20) for point in runs[-1].points)
    runs[-1] = dataclasses.replace(runs[-1], points=far)
    assert stopped_picture(synthetic.results(runs)).figures[0].layout.yaxis.range[1] < 8


def test_the_summary_counts_verdicts_and_names_who_came_nearest() -> None:
    runs = [*complete(2), stuck(0), stopped(1, at=6)]
    summary = stopped_picture(synthetic.results(runs)).summary
    assert summary.startswith(
        "At the end of 4 curves: 1 on a plateau, 2 improving and 1 undetermined; of the 2 stopped early: "
        "1 on a plateau and 1 undetermined. Of those stopped, trial 1 might have come closest to the best: 4.000 nats"
    )
    assert stopped_picture(synthetic.results(complete(2))).summary == "At the end of 2 curves: all improving."


def test_a_whole_study_has_them_all() -> None:
    sentinels = {run.pruning.sentinel for run in FULL.runs if run.pruning is not None}
    assert sentinels == {False, True}
    states = {judged.verdict.word for judged in judged_curves(FULL)}
    assert states == set(CurveState)
