"""Figures of what pruning saved and cost, against the balance they are drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sweeps.analysis.findings import Findings
from sweeps.analysis.pruning import exact_interval
from sweeps.report.figures.pruning import cost_picture
from sweeps.report.figures.style import Picture
from sweeps.store.records import Run
from tests.helpers import synthetic
from tests.helpers.pruned_runs import complete, sentinel, stopped

PLATEAU = synthetic.study()
MEDIAN = synthetic.study(pruner={"type": "median"})


def cost(runs: list[Run], study: Any = PLATEAU) -> Picture:
    return cost_picture(Findings(synthetic.results(runs, study=study)))


@pytest.mark.parametrize("ends", [(15,), (3, 6, 6, 24), (29,)])
def test_the_area_above_the_line_is_the_training_saved(ends: tuple[int, ...]) -> None:
    runs = [*complete(3), *(stopped(index, at=end) for index, end in enumerate(ends))]
    line = cost(runs, MEDIAN).figures[0].data[0]
    x, y = np.array(line.x), np.array(line.y)
    assert line.line.shape == "hv"
    assert (np.diff(x) >= 0).all()
    assert (np.diff(x) * (1 - y[:-1])).sum() == pytest.approx(Findings(synthetic.results(runs)).balance.saved)


def test_what_is_not_known_is_not_drawn() -> None:
    assert cost([]).figures == cost(complete(5)).figures == ()
    assert len(cost([stopped(0, at=6, predicted=None)], MEDIAN).figures) == 1
    without = cost([stopped(0, at=6), *complete(5)])
    assert len(without.figures) == 2
    assert "not enough evidence" in [note.text for note in without.figures[0].layout.annotations]
    assert "diagonal" not in without.reading
    assert len(cost([stopped(0, at=6), sentinel(1, None, outcome="diverged")]).figures) == 2


def test_the_bar_is_the_exact_interval_and_the_dot_the_mean_chance() -> None:
    runs = [stopped(0, at=6), stopped(1, at=9), *complete(21), sentinel(2, 4.0), sentinel(3, 3.4), sentinel(4, 4.1)]
    bar, dot = cost(runs).figures[0].data
    assert bar.x[0] == pytest.approx(1 / 3)
    assert (bar.x[0] - bar.error_x.arrayminus[0], bar.x[0] + bar.error_x.array[0]) == pytest.approx(
        exact_interval(1, 3)
    )
    assert dot.x[0] == pytest.approx(0.01)


def test_sentinels_stand_at_what_was_expected_and_what_came() -> None:
    runs = [stopped(0, at=6), *complete(21), sentinel(2, 4.0, predicted=4.2), sentinel(3, 3.4, predicted=3.9)]
    traces = {trace.name: trace for trace in cost(runs).figures[-1].data if trace.showlegend is not False}
    assert {name: (trace.x, trace.y) for name, trace in traces.items()} == {
        "not among the best": ((4.2,), (4.0,)),
        "among the best": ((3.9,), (3.4,)),
    }
