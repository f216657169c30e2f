"""Branches: trends, speeds and gains at equal time of straight lines, whose numbers are closed forms."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sweeps.analysis.branches import Branches, direction, times_as_fast
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.findings import Findings
from sweeps.analysis.traces import Trace
from sweeps.store.records import Results
from sweeps.study.proposals import ONE_AT_A_TIME, Proposal, baseline_proposals
from tests.helpers import attributions, branching, synthetic
from tests.helpers.branching import CONTROL, START, TILTS, WITHOUT_DROPOUT

FRESH = (1338, 1339, 1340)


def found(results: Results) -> Branches:
    branches = Findings(results).branches
    assert branches is not None
    return branches


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's interval of a mean by scipy."""
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    return float(low), float(high)


def test_trials_from_scratch_have_none() -> None:
    assert Findings(attributions.swept()).branches is None


def test_a_lead_grows_by_the_difference_of_the_slopes() -> None:
    leads = [WITHOUT_DROPOUT - CONTROL + TILTS[seed] for seed in FRESH]
    best = found(branching.results()).best
    assert best is not None
    assert best.trend is not None
    assert best.seeds == FRESH
    assert best.trend.mean == pytest.approx(np.mean(leads))
    assert (best.trend.low, best.trend.high) == pytest.approx(interval(leads))
    assert best.growing is True


@pytest.mark.parametrize(("fall", "growing"), [(WITHOUT_DROPOUT, True), (CONTROL + 0.0001, None)])
def test_a_lead_grows_where_that_is_shown(fall: float, growing: bool | None) -> None:
    dropout = found(branching.results(fall=fall)).of("dropout")
    assert dropout is not None
    assert dropout.growing is growing


@pytest.mark.parametrize(
    ("trend", "growing"),
    [
        (attributions.contrast(0.03), True),
        (attributions.contrast(-0.03), False),
        (attributions.contrast(0.02), None),
        (attributions.contrast(-0.02), None),
        (attributions.contrast(0.03, n=1), None),
        (attributions.contrast(1e-12, low=1e-12, high=1e-12), None),
        (None, None),
    ],
)
def test_a_direction_takes_an_interval_without_0(trend: Contrast | None, growing: bool | None) -> None:
    """Of five seeds with a standard error of 0.01, the interval is the mean ± 0.0278."""
    assert direction(trend) is growing


def test_knobs_that_the_best_does_not_change_have_no_finding() -> None:
    branches = found(branching.results())
    assert [finding.knob for finding in branches.knobs] == ["dropout", "weight_decay"]
    assert branches.of("learning_rate") is None


def test_a_knob_falls_so_many_times_as_fast_as_the_control() -> None:
    dropout, decay = found(branching.results()).knobs
    mean_tilt = np.mean([TILTS[seed] for seed in FRESH])
    assert dropout.times_as_fast == pytest.approx((WITHOUT_DROPOUT + mean_tilt) / CONTROL)
    assert decay.times_as_fast == pytest.approx((CONTROL + mean_tilt) / CONTROL)


def traces(*falls: float) -> dict[int, Trace]:
    return {
        seed: Trace(places=np.array([0.0, 100.0]), losses=np.array([3.0, 3.0 - fall]))
        for seed, fall in enumerate(falls)
    }


@pytest.mark.parametrize(
    ("control", "branch", "times"),
    [
        ((0.02, 0.021, 0.019), (0.04, 0.04, 0.04), 2.0),
        ((0.02, 0.021, 0.019), (-0.01, -0.01, -0.01), -0.5),
        ((0.02, 0.021, 0.019), (0.06, 0.0, 0.06)[:1], 3.0),
        ((-0.02, -0.021, -0.019), (0.04, 0.04, 0.04), None),
        ((0.02, -0.018, 0.01), (0.04, 0.04, 0.04), None),
        ((0.02, 0.021, 0.019), (), None),
    ],
)
def test_a_control_that_is_not_shown_to_fall_gives_no_multiple(
    control: tuple[float, ...], branch: tuple[float, ...], times: float | None
) -> None:
    assert times_as_fast(traces(*control), traces(*branch)) == (times if times is None else pytest.approx(times))
    shown = stats.ttest_1samp(control, 0, alternative="greater").pvalue < 0.05
    assert shown == (times is not None) or not branch


@pytest.mark.parametrize(("fall", "told"), [(0.02, True), (0.0005, False)])
def test_with_one_seed_the_control_must_fall_beyond_the_noise_of_its_evaluations(fall: float, told: bool) -> None:
    places = np.arange(0.0, 210, 10)
    noise = np.random.default_rng(3).normal(0, 0.001, len(places))
    control = {1: Trace(places=places, losses=3 - fall * places / 200 + noise)}
    assert (times_as_fast(control, control) is not None) == told


@pytest.mark.parametrize(
    ("speed", "share"),
    [(branching.SPEED, 1.0), (branching.SPEED / 2, 0.5), (branching.SPEED / 1.25, 0.8), (branching.SPEED * 3, 1.0)],
)
def test_at_equal_time_a_slower_branch_is_read_earlier_and_a_faster_one_gains_nothing(
    speed: float, share: float
) -> None:
    dropout = found(branching.results(speed=speed)).of("dropout")
    assert dropout is not None
    lines = [(WITHOUT_DROPOUT + TILTS[seed]) * 2 * share - CONTROL * 2 for seed in FRESH]
    assert dropout.time == pytest.approx(branching.SPEED / speed)
    assert dropout.at_equal_time == pytest.approx(np.mean(lines))


def test_the_origin_is_read_on_the_windows_of_a_branch() -> None:
    branches = found(branching.results(branching.study(origin={"val_loss": 4.2})))
    assert branches.val_loss == START
    before = dataclasses.replace(branching.results(), runs=())
    assert found(before).val_loss == branching.ORIGIN.val_loss
    assert (found(before).knobs, found(before).best, found(before).growth) == ((), None, ())


def growing_study(**changes: Any) -> Results:
    """Return a study with a width grown at three seeds; `changes` replace fields of the grown runs."""
    study = branching.study(knobs={**branching.KNOBS, "n_embd": {"choices": [384, 768]}}, **changes)
    runs = []
    for index, proposal in enumerate(baseline_proposals(study, **branching.SIZE)):
        runs.append(branching.run_of(index, proposal, branching.falling(proposal.config, CONTROL)))
        for name, per_100, config in (
            ("dropout-off", 0.02, proposal.config.replace(dropout=0.0)),
            ("n_embd:768", 0.024 + TILTS[proposal.seed], proposal.config.replace(dropout=0.0, n_embd=768, n_head=24)),
        ):
            key = f"{ONE_AT_A_TIME}:{name}:{proposal.seed}"
            grown = Proposal(
                key=key,
                phase="search",
                origin=ONE_AT_A_TIME,
                label=key,
                knob="n_embd" if name != "dropout-off" else None,
                seed=proposal.seed,
                params=None,
                config=config,
            )
            points = branching.falling(config, per_100)
            runs.append(branching.run_of(10 + len(runs), grown, points, optuna_study="plateau-confirm"))
    return synthetic.results(runs, study=study)


def test_growth_is_judged_by_its_trend_against_the_twin_without_dropout() -> None:
    (growth,) = found(growing_study()).growth
    leads = [0.004 + TILTS[seed] for seed in (1337, 1338, 1339)]
    assert (growth.knob, growth.value, growth.seeds) == ("n_embd", 768, (1337, 1338, 1339))
    assert growth.trend.mean == pytest.approx(np.mean(leads))
    # paired although the shapes differ: all start as the same function
    assert (growth.trend.low, growth.trend.high) == pytest.approx(interval(leads))
    assert growth.growing is True


def test_growth_without_a_twin_is_not_judged() -> None:
    results = growing_study()
    without = dataclasses.replace(results, runs=tuple(run for run in results.runs if "dropout-off" not in run.key))
    assert found(without).growth == ()


def test_growth_at_one_seed_has_a_trend_without_an_interval() -> None:
    results = growing_study()
    alone = [run for run in results.runs if run.knob is None or run.seed == 1338]
    (growth,) = found(dataclasses.replace(results, runs=tuple(alone))).growth
    assert growth.seeds == (1338,)
    assert growth.trend.mean == pytest.approx(0.004 + TILTS[1338])
    assert growth.trend.low is growth.trend.high is growth.growing is None


def test_runs_that_have_not_ended_do_not_count() -> None:
    results = branching.results()
    cut = [
        dataclasses.replace(run, points=run.points[:4], val_loss=None, outcome="running")
        if run.phase == "confirm" and run.seed == 1340
        else run
        for run in results.runs
    ]
    dropout = found(dataclasses.replace(results, runs=tuple(cut))).of("dropout")
    assert dropout is not None
    assert dropout.seeds == (1338, 1339)
    assert math.isfinite(dropout.times_as_fast or math.nan)
