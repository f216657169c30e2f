"""Parallel coordinates: where trials stand on their axes, and how they are drawn."""

from __future__ import annotations

import math

import pytest

from sweeps.analysis.findings import Findings
from sweeps.report.figures.parallel import parallel_axes, parallel_picture, parallel_trials
from sweeps.report.figures.style import VERMILION
from tests.helpers import synthetic

FULL = synthetic.full()


def test_parallel_axes_go_from_each_knobs_lowest_to_its_highest() -> None:
    baseline = synthetic.params_of(synthetic.BASELINE)
    runs = [
        synthetic.run(i, val_loss=loss, params={**baseline, "learning_rate": rate})
        for i, (rate, loss) in enumerate([(1e-4, 4.0), (1e-3, 3.0), (1e-2, 3.5)])
    ]
    results = synthetic.results(runs)
    axes = parallel_axes(results, parallel_trials(Findings(results)))
    assert axes[0].positions == pytest.approx((0, 0.5, 1))  # log
    assert (axes[0].low, axes[0].high) == ("1e-4", "0.01")
    assert axes[-1].name == "final loss"
    assert axes[-1].positions == pytest.approx((1, 0, 0.5))
    assert axes[1].positions == (0, 0, 0)


def test_stopped_trials_are_dotted_lines_behind_the_others_to_their_predicted_loss() -> None:
    picture = parallel_picture(Findings(FULL))
    traces = picture.figures[0].data
    assert len(traces) == len(parallel_trials(Findings(FULL))) == 43
    dotted = [trace.line.dash == "dot" for trace in traces]
    assert dotted == [True] * 8 + [False] * 35
    assert all("predicted final loss" in trace.text[0] for trace in traces[:8])
    assert traces[-1].line.color == VERMILION
    assert traces[-1].x[-1] == 0
    assert picture.summary.startswith("35 complete trials and 8 that were stopped early;")
    assert not any(math.isnan(x) for trace in traces for x in trace.x)
