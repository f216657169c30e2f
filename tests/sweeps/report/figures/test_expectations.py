"""Expectations of stopped trials: which get a fan, and how the figures show the rule's numbers."""

from __future__ import annotations

import math

from sweeps.report.figures.expectations import closest, expectations
from sweeps.report.figures.stopped import stopped_picture
from tests.helpers import synthetic
from tests.helpers.pruned_runs import CURVE, complete, sentinel, stopped


def test_fans_are_few_and_those_that_came_nearest() -> None:
    runs = [stopped(index, at=9, predicted=3.7 + index / 10, best=3.5) for index in range(6)]
    runs += [stopped(6, at=9, predicted=3.65, best=2.5), sentinel(7, 3.9, predicted=3.6)]
    fans = closest(expectations(synthetic.results(runs)))
    gaps = [trial.low - (trial.pruning.best or math.nan) for trial in fans]
    assert [trial.run.id for trial in fans] == [0, 1]
    assert gaps == sorted(gaps)
    assert gaps[0] > 0


def test_a_fan_opens_where_the_trial_was_stopped_and_ends_at_the_rules_bounds() -> None:
    run = stopped(0, at=9)
    figure = stopped_picture(synthetic.results([*complete(3), run])).figures[0]
    fan = next(trace for trace in figure.data if trace.name == "expected when stopped")
    assert run.pruning is not None
    end = synthetic.BASELINE.max_iters * synthetic.BASELINE.tokens_per_iter
    assert fan.x == (CURVE[9].tokens, end, end, CURVE[9].tokens)
    assert fan.y == (CURVE[9].val_loss, run.pruning.high, run.pruning.low, CURVE[9].val_loss)
    low, _ = figure.layout.yaxis.range
    assert low <= run.pruning.low


def test_every_expectation_stands_over_the_best_of_its_moment() -> None:
    runs = [stopped(4, at=6, best=3.6), stopped(2, at=9, best=3.7), *complete(9), sentinel(8, 3.8, best=3.5)]
    traces = {trace.name: trace for trace in stopped_picture(synthetic.results(runs)).figures[1].data}
    assert (traces["best so far"].x, traces["best so far"].y) == ((2, 4, 8), (3.7, 3.6, 3.5))
    assert traces["best so far"].line.shape == "hv"  # constant until the next trial
    assert traces["expected, stopped"].x == (2, 4)
    assert traces["where it ended"].y == (3.8,)
