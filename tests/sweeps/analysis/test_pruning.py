"""What pruning saved and cost: counted on runs whose numbers are known, and drawn."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from sweeps.analysis.curves import losses_of, schedule_of
from sweeps.analysis.findings import Findings
from sweeps.analysis.pruning import exact_interval, rule_of
from sweeps.pruning import plateau
from sweeps.pruning.plateau import CurveState
from sweeps.report.figures import pruning
from sweeps.report.figures.stopped import judged_curves, nearest, outlooks, stopped_curves
from sweeps.report.figures.style import Picture
from sweeps.store.records import Results, Run
from sweeps.text import percent_whole
from sweeps.verdict.cautions import pruning_sentence
from sweeps.verdict.verdict import verdict
from tests.helpers import synthetic

CURVE = synthetic.points(synthetic.BASELINE, 3.5)
PLATEAU = synthetic.study()
MEDIAN = synthetic.study(pruner={"type": "median"})
NONE = synthetic.study(pruner={"type": "none"})
FULL = synthetic.full()


def stopped(number: int, *, at: int, predicted: float | None = 4.0, best: float = 3.5, **changes: Any) -> Run:
    """A trial pruned at evaluation `at` of 30."""
    noted = synthetic.pruning(CURVE[at], synthetic.BASELINE, predicted=predicted, best=best, **changes)
    return synthetic.run(number, outcome="pruned", val_loss=None, points=CURVE[: at + 1], pruning=noted)


def sentinel(number: int, final: float | None, *, predicted: float = 4.0, best: float = 3.5, **changes: Any) -> Run:
    """A trial that would have been pruned at evaluation 10."""
    noted = synthetic.pruning(CURVE[10], synthetic.BASELINE, predicted=predicted, best=best, sentinel=True)
    return synthetic.run(number, val_loss=final, points=CURVE, pruning=noted, **changes)


def complete(count: int, *, start: int = 100, loss: float = 3.5) -> list[Run]:
    return [synthetic.run(start + index, val_loss=loss + index / 1000) for index in range(count)]


# --- the interval --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 5), (1, 9), (3, 9), (9, 9), (7, 200), (0, 400)])
def test_the_interval_is_clopper_and_pearsons(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert exact_interval(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(1, 300), st.just(0.0) | st.floats(0.001, 1))
def test_the_interval_holds_its_share_and_shrinks(n: int, share: float) -> None:
    low, high = exact_interval(share * n, n)
    more_low, more_high = exact_interval(share * 4 * n, 4 * n)
    assert 0 <= low <= share <= high <= 1
    assert more_high - more_low < high - low


# --- the balance ---------------------------------------------------------------------------------------------------


def test_saved_is_the_share_of_the_horizon_that_stopped_trials_did_not_train() -> None:
    runs = [
        stopped(0, at=15),
        stopped(1, at=3),
        *complete(1),
        synthetic.run(2, outcome="diverged", val_loss=None, points=CURVE[:5]),
        # those that pruning has no say in
        synthetic.run(3, "baseline"),
        synthetic.run(4, "star"),
        synthetic.run(5, outcome="running", val_loss=None),
        synthetic.run(6, outcome="infeasible", val_loss=None, points=()),
        synthetic.run(7, optuna_study="plateau-confirm"),
    ]
    found = Findings(synthetic.results(runs)).balance
    assert found.trials == 4
    assert [run.id for run in found.stopped] == [0, 1]
    assert found.saved == pytest.approx((0.5 + 0.9) / 4)
    assert found.expected == pytest.approx(0.02)
    assert found.interval is None


def test_a_diverged_trial_is_stopped_without_a_chance() -> None:
    runs = [stopped(0, at=15, predicted=None, reason="diverged"), stopped(1, at=15)]
    found = Findings(synthetic.results(runs)).balance
    assert len(found.stopped) == 2
    assert found.expected == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("final", "among_best"),
    [(3.4, True), (3.5299, True), (3.5301, False), (4.0, False)],
    ids=["best of all", "within the margin", "beyond it", "as expected"],
)
def test_a_mistake_ends_within_the_margin_of_the_best_of_its_moment(final: float, among_best: bool) -> None:
    found = Findings(synthetic.results([*complete(20), sentinel(0, final)])).balance
    assert [one.among_best for one in found.sentinels] == [among_best]


@pytest.mark.parametrize(("trials", "among_best"), [(19, False), (20, False), (21, True), (30, True)])
def test_or_belongs_to_the_best_tenth_of_all_trials_by_now(trials: int, among_best: bool) -> None:
    """Third of 20 is below the best tenth, third of 21 partly in it; pruned trials count by what was expected."""
    better, worse = complete(2, loss=3.3), complete(trials - 8, start=200, loss=4.0)
    runs = [*better, *worse, *(stopped(300 + index, at=9) for index in range(5)), sentinel(0, 3.6, best=3.3)]
    assert len(runs) == trials
    assert [one.among_best for one in Findings(synthetic.results(runs)).balance.sentinels] == [among_best]


def test_sentinels_that_have_not_ended_say_nothing_and_diverged_ones_were_no_mistake() -> None:
    runs = [sentinel(0, None, outcome="running"), sentinel(1, None, outcome="diverged")]
    found = Findings(synthetic.results(runs)).balance
    assert [(one.run.id, one.among_best) for one in found.sentinels] == [(1, False)]
    assert found.interval == exact_interval(0, 1)


def test_only_the_plateau_pruner_has_a_rule() -> None:
    study = synthetic.study(pruner={"type": "plateau", "epsilon": 0.05, "margin": 0.1, "looks": [0.2, 0.5]})
    found = rule_of(study)
    assert found is not None
    assert (found.epsilon, found.margin, found.looks) == (0.05, 0.1, (0.2, 0.5))
    assert rule_of(MEDIAN) is None
    wide = [*complete(20), sentinel(0, 3.59)]
    assert Findings(synthetic.results(wide, study=study)).balance.mistakes == 1
    assert Findings(synthetic.results(wide)).balance.mistakes == 0
    assert Findings(synthetic.results(wide, study=MEDIAN)).balance.sentinels == ()


# --- words ---------------------------------------------------------------------------------------------------------

UNSEEN = " No trial that the rule would have stopped went on to its end: not enough evidence of what stopping cost."


@pytest.mark.parametrize(
    ("runs", "study", "text"),
    [
        ([], PLATEAU, ""),
        ([synthetic.run(0, "baseline")], PLATEAU, ""),
        ([stopped(0, at=15)], NONE, ""),
        (complete(3), MEDIAN, "None of 3 sampled trials was stopped early."),
        (
            [stopped(0, at=15, predicted=None, rule="median"), *complete(9)],
            MEDIAN,
            f"1 of 10 sampled trials was stopped early. This saved 5.0 % of the sampled trials' training.{UNSEEN}",
        ),
        (
            [stopped(0, at=6), stopped(1, at=6), *complete(2)],
            PLATEAU,
            "2 of 4 sampled trials were stopped early. This saved 40 % of the sampled trials' training. "
            f"The rule expects that 0.02 of those stopped would have ended among the best.{UNSEEN}",
        ),
        (
            [stopped(0, at=6), *complete(21), sentinel(1, 4.0), sentinel(2, 3.4), sentinel(3, 4.1)],
            PLATEAU,
            "1 of 25 sampled trials was stopped early. This saved 3.2 % of the sampled trials' training. "
            "The rule expects that 0.01 of those stopped would have ended among the best. "
            "Of 3 sentinels, which the rule would have stopped but let go on, 1 ended among the best (95 % "
            "interval: 0.8 % to 91 %).",
        ),
        (
            [*complete(21), sentinel(1, 4.0)],
            PLATEAU,
            "None of 22 sampled trials was stopped early. "
            "Of 1 sentinel, which the rule would have stopped but let go on, none ended among the best (95 % "
            "interval: 0 % to 98 %).",
        ),
    ],
    ids=["empty", "no sampled trial", "no pruner", "none stopped", "median", "no sentinel", "sentinels", "only one"],
)
def test_the_sentence(runs: list[Run], study: Any, text: str) -> None:
    results = synthetic.results(runs, study=study)
    assert pruning_sentence(Findings(results)) == text
    assert (text in verdict(Findings(results)).cautions) == bool(text)


def test_rounded() -> None:
    assert [percent_whole(x) for x in (0, 0.004, 0.02, 0.0994, 0.0996, 0.314, 1)] == [
        *("0 %", "0.4 %", "2.0 %", "9.9 %", "10 %", "31 %", "100 %")
    ]


# --- pictures of the cost ------------------------------------------------------------------------------------------


def cost(runs: list[Run], study: Any = PLATEAU) -> Picture:
    return pruning.cost(Findings(synthetic.results(runs, study=study)))


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
    drawn = {trace.name: trace for trace in cost(runs).figures[-1].data if trace.showlegend is not False}
    assert {name: (trace.x, trace.y) for name, trace in drawn.items()} == {
        "not among the best": ((4.2,), (4.0,)),
        "among the best": ((3.9,), (3.4,)),
    }


@pytest.mark.parametrize(
    ("study", "keys"),
    [(PLATEAU, ["pruning-cost", "calibration"]), (MEDIAN, ["pruning-cost"]), (NONE, [])],
    ids=["plateau", "median", "none"],
)
def test_pictures_by_pruner(study: Any, keys: list[str]) -> None:
    results = dataclasses.replace(FULL, study=study)
    assert [picture.key for picture in pruning.pictures(Findings(results))] == keys
    assert stopped_curves(results).figures


# --- verdicts and expectations -------------------------------------------------------------------------------------


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
    found = judged_curves(synthetic.results(runs))
    assert [one.curve.run.id for one in found] == [0, 1, 2]
    assert found[1].verdict.word is CurveState.PLATEAU
    assert found[2].verdict.reason == "still in the warm-up"
    for one in found:
        run = one.curve.run
        assert one.verdict == plateau.verdict(losses_of(run), schedule_of(run.config))


@pytest.mark.parametrize("lost", [(12,), (30,), tuple(range(20, 31)), tuple(range(31))])
def test_points_that_are_no_numbers_are_gaps(lost: tuple[int, ...]) -> None:
    points = tuple(
        dataclasses.replace(point, val_loss=math.nan if index in lost else point.val_loss)
        for index, point in enumerate(CURVE)
    )
    results = synthetic.results([synthetic.run(0, points=points), sentinel(1, 3.9)])
    found = judged_curves(results)
    assert len(found) == (1 if len(lost) == 31 else 2)
    assert found[-1].verdict.word is not CurveState.UNDETERMINED
    assert stopped_curves(results).figures


def test_fans_are_few_and_those_that_came_nearest() -> None:
    runs = [stopped(index, at=9, predicted=3.7 + index / 10, best=3.5) for index in range(6)]
    runs += [stopped(6, at=9, predicted=3.65, best=2.5), sentinel(7, 3.9, predicted=3.6)]
    found = nearest(outlooks(synthetic.results(runs)))
    gaps = [one.low - (one.pruning.best or math.nan) for one in found]
    assert [one.run.id for one in found] == [0, 1]
    assert gaps == sorted(gaps)
    assert gaps[0] > 0


def test_a_fan_opens_where_the_trial_was_stopped_and_ends_at_the_rules_bounds() -> None:
    run = stopped(0, at=9)
    made = stopped_curves(synthetic.results([*complete(3), run])).figures[0]
    fan = next(trace for trace in made.data if trace.name == "expected when stopped")
    assert run.pruning is not None
    end = synthetic.BASELINE.max_iters * synthetic.BASELINE.tokens_per_iter
    assert fan.x == (CURVE[9].tokens, end, end, CURVE[9].tokens)
    assert fan.y == (CURVE[9].val_loss, run.pruning.high, run.pruning.low, CURVE[9].val_loss)
    low, _ = made.layout.yaxis.range
    assert low <= run.pruning.low


def test_a_stuck_end_is_in_the_picture_unless_it_would_flatten_all_else() -> None:
    curves = [*complete(5), stuck(0)]
    end = curves[-1].points[-1].val_loss
    low, high = stopped_curves(synthetic.results(curves)).figures[0].layout.yaxis.range
    assert low < end < high
    far = tuple(dataclasses.replace(point, val_loss=point.val_loss + 20) for point in curves[-1].points)
    curves[-1] = dataclasses.replace(curves[-1], points=far)
    assert stopped_curves(synthetic.results(curves)).figures[0].layout.yaxis.range[1] < 8


def test_every_expectation_stands_over_the_best_of_its_moment() -> None:
    runs = [stopped(4, at=6, best=3.6), stopped(2, at=9, best=3.7), *complete(9), sentinel(8, 3.8, best=3.5)]
    traces = {trace.name: trace for trace in stopped_curves(synthetic.results(runs)).figures[1].data}
    assert (traces["best so far"].x, traces["best so far"].y) == ((2, 4, 8), (3.7, 3.6, 3.5))
    assert traces["best so far"].line.shape == "hv"  # as it was until the next
    assert traces["expected, stopped"].x == (2, 4)
    assert traces["where it ended"].y == (3.8,)


def test_the_summary_counts_verdicts_and_names_who_came_nearest() -> None:
    runs = [*complete(2), stuck(0), stopped(1, at=6)]
    said = stopped_curves(synthetic.results(runs)).summary
    assert said.startswith(
        "At the end of 4 curves: 1 on a plateau, 2 improving and 1 undetermined; of the 2 stopped early: "
        "1 on a plateau and 1 undetermined. Of those stopped, trial 1 might have come nearest to the best: 4.000 nats"
    )
    assert stopped_curves(synthetic.results(complete(2))).summary == "At the end of 2 curves: all improving."


def test_a_whole_study_has_them_all() -> None:
    counts = {run.pruning.sentinel for run in FULL.runs if run.pruning is not None}
    assert counts == {False, True}
    found = {one.verdict.word for one in judged_curves(FULL)}
    assert found == set(CurveState)


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_one_run(count: int) -> None:
    results: Results = synthetic.results([synthetic.run(index) for index in range(count)])
    for picture in (stopped_curves(results), *pruning.pictures(Findings(results))):
        assert picture.summary.endswith(".")
        assert bool(picture.figures) == (count == 1 and picture.key == "stopped-curves")
