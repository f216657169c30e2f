"""Races: gaps, trends and costs of curves in closed form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sweeps.analysis.findings import Findings
from sweeps.analysis.races import RaceFinding, races
from sweeps.analysis.reference import ReferenceCurve
from sweeps.store.records import Outcome, Results, Run
from tests.helpers import attributions, branching, synthetic

STUDY = branching.study()
CURVES: dict[str, Callable[[float], float]] = {
    "origin": lambda step: 5 - step / 400,
    "n_embd=768": lambda step: 5 - step / 320,
    "dropout=0.2": lambda step: 5.1 - step / 400,
}


def raced(runs: list[Run], **changes: Any) -> Results:
    return synthetic.results(runs, study=STUDY, **changes)


def width_and_dropout(results: Results, **options: Any) -> tuple[RaceFinding, RaceFinding]:
    width, dropout = races(results, **options)
    assert (width.knob, width.value, dropout.knob, dropout.value) == ("n_embd", 768, "dropout", 0.2)
    return width, dropout


def test_a_gap_is_the_origins_loss_less_the_races_at_every_shared_evaluation() -> None:
    width, dropout = width_and_dropout(raced(branching.race_runs(STUDY, CURVES)))
    assert sorted(width.gaps) == list(range(20, 201, 20))
    for step, gap in width.gaps.items():
        assert gap.mean == pytest.approx(step / 320 - step / 400)
    assert [gap.mean for gap in dropout.gaps.values()] == pytest.approx([-0.1] * 10)
    assert (width.steps, width.seeds, width.diverged) == (200, (1337, 1338), 0)
    assert width.gap is width.gaps[200]


def test_a_change_of_shape_is_compared_as_two_samples_and_others_pair_by_seed() -> None:
    curves = branching.race_runs(STUDY, CURVES)
    width, dropout = width_and_dropout(raced(curves))
    # either side has two seeds that end 0.01 apart, as Welch's test of scipy has it
    welch = stats.ttest_ind([4.5, 4.51], [4.375, 4.385], equal_var=False).confidence_interval(0.95)
    assert width.gap is not None
    assert (width.gap.method, width.gap.low, width.gap.high) == ("unpaired", *map(pytest.approx, welch))
    assert dropout.gap is not None
    assert dropout.gap.method == "paired"
    assert (dropout.gap.low, dropout.gap.high) == pytest.approx((-0.1, -0.1))  # the luck cancels


def test_one_seed_gives_no_interval() -> None:
    runs = [run for run in branching.race_runs(STUDY, CURVES) if run.seed == 1337]
    width, _ = width_and_dropout(raced(runs))
    assert width.gap is not None
    assert width.gap.mean == pytest.approx(0.125)
    assert width.gap.low is width.gap.high is width.growing is None


@pytest.mark.parametrize(
    ("bend", "growing"), [(lambda step: step / 400, True), (lambda step: -step / 400, False), (lambda step: 0.0, None)]
)
def test_a_gap_grows_or_closes_by_its_last_third(bend: Callable[[float], float], growing: bool | None) -> None:
    """The race falls faster, or slower, than the origin from iteration 130 on alone. Seeds tilt the lines a little."""
    curves = CURVES | {"n_embd=768": lambda step: 4.5 - step / 400 - max(0.0, bend(step) - bend(130) * (step > 130))}
    if growing is False:
        curves["n_embd=768"] = lambda step: 4.5 - step / 400 + (step - 130) / 400 * (step > 130)
    runs = [
        dataclasses.replace(
            run,
            points=tuple(
                dataclasses.replace(point, val_loss=point.val_loss + 1e-5 * point.step * (run.seed - 1337))
                for point in run.points
            ),
        )
        if run.knob == "n_embd"
        else run
        for run in branching.race_runs(STUDY, curves)
    ]
    width, _ = width_and_dropout(raced(runs))
    assert width.growing is growing


def test_time_and_parameters_are_relative_to_the_origins() -> None:
    """A race at a third of the speed has done a third of its iterations when the origin is through."""
    width, dropout = width_and_dropout(raced(branching.race_runs(STUDY, CURVES, n_embd=branching.SPEED / 3)))
    n, wide = 384, 768
    size = [2048 * c + 256 * c + 6 * (12 * c * c + 2 * c) + c for c in (n, wide)]
    assert width.params == pytest.approx(size[1] / size[0])
    assert width.seconds == pytest.approx(3)
    third = 200 / 3
    seeds = 0.005  # the mean luck of both seeds, on either side
    assert width.at_equal_time == pytest.approx((5 - 200 / 400 + seeds) - (5 - third / 320 + seeds))
    # dropout 0.2 computes what dropout 0.1 does, so it takes the same time
    assert (dropout.params, dropout.seconds, dropout.at_equal_time) == pytest.approx((1, 1, -0.1))


def test_a_faster_race_is_compared_with_an_origin_that_is_not_through() -> None:
    width, _ = width_and_dropout(raced(branching.race_runs(STUDY, CURVES, n_embd=2 * branching.SPEED)))
    assert width.seconds == pytest.approx(0.5)
    assert width.at_equal_time == pytest.approx((5 - 100 / 400) - (5 - 200 / 320))


def test_races_that_diverged_are_counted_and_left_out() -> None:
    runs = branching.race_runs(STUDY, CURVES)
    index = next(i for i, run in enumerate(runs) if run.knob == "n_embd")
    runs[index] = dataclasses.replace(runs[index], outcome=Outcome.DIVERGED, points=runs[index].points[:3])
    width, _ = width_and_dropout(raced(runs))
    assert (width.diverged, width.seeds, width.steps) == (1, (1338,), 200)
    runs = [
        dataclasses.replace(run, outcome=Outcome.INFEASIBLE, points=()) if run.knob == "n_embd" else run for run in runs
    ]
    width, _ = width_and_dropout(raced(runs))
    assert (width.diverged, width.seeds, width.steps, width.gap) == (2, (), 0, None)
    assert width.trend is width.at_equal_time is None


def test_while_seeds_go_on_the_evaluations_of_all_count() -> None:
    runs = [
        dataclasses.replace(run, points=run.points[:6]) if run.knob == "n_embd" and run.seed == 1338 else run
        for run in branching.race_runs(STUDY, CURVES)
    ]
    width, dropout = width_and_dropout(raced(runs))
    assert (width.steps, dropout.steps) == (100, 200)


def test_before_the_first_updates_there_is_no_gap() -> None:
    runs = [dataclasses.replace(run, points=run.points[:1]) for run in branching.race_runs(STUDY, CURVES)]
    width, _ = width_and_dropout(raced(runs))
    assert (width.gaps, width.gap, width.steps, width.trend) == ({}, None, 0, None)


def test_without_an_origin_there_is_nothing_to_compare_with() -> None:
    runs = [run for run in branching.race_runs(STUDY, CURVES) if run.knob is not None]
    width, _ = width_and_dropout(raced(runs))
    assert (width.gaps, width.gap, width.steps) == ({}, None, 0)


def test_a_log_stands_in_for_the_origins_own_curve() -> None:
    runs = [run for run in branching.race_runs(STUDY, CURVES) if run.knob is not None]
    steps = np.arange(0.0, 190, 15)
    log = ReferenceCurve(steps=steps, losses=5 - steps / 400, offset_se=0.0)
    width, dropout = width_and_dropout(raced(runs), reference=log)
    assert (width.steps, dropout.steps) == (180, 180)  # as far as the log goes
    assert width.gap is not None
    assert width.gap.mean == pytest.approx(180 / 320 - 180 / 400 - 0.005)
    # two changes with two seeds each that end 0.01 apart; the log is a draw of a seed, too
    reach = stats.t.ppf(0.975, 2) * 0.01 / np.sqrt(2) * np.sqrt(1 / 2 + 1)
    assert width.gap.high == pytest.approx(width.gap.mean + reach, rel=1e-3)
    assert width.trend is not None
    assert width.trend.mean == pytest.approx(100 / 320 - 100 / 400)
    study = raced(runs).study
    assert study.origin is not None
    printed = [(int(step), 5.1 - step / 400) for step in steps]
    known = study.origin.model_copy(update={"log": tuple(printed), "log_offset": -0.1, "log_offset_se": 0.0})
    with_log = dataclasses.replace(raced(runs), study=study.model_copy(update={"origin": known}))
    assert [race.gap.mean for race in Findings(with_log).races if race.gap] == pytest.approx(
        [race.gap.mean for race in (width, dropout) if race.gap]
    )


def test_a_study_from_scratch_races_nothing() -> None:
    assert Findings(attributions.swept()).races == ()
    assert races(synthetic.results([])) == ()
