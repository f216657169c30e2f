"""The confirm phase: its runs, their seeds, their order, and when it ends."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from sweeps.analysis.arms import PHASE, Arm
from sweeps.analysis.attribution import BestWord, CandidateWord, KnobWord
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.findings import Findings
from sweeps.engine import confirm
from sweeps.engine.optuna_trials import OptunaTrials
from sweeps.store.records import Results
from sweeps.study.sections import Confirm
from tests.helpers import confirming, small_sweep, synthetic
from tests.helpers.kills import killing

CONFIRM = {"seeds": 5, "max_trials": 60}


def swept(folder: Path, **changes: Any) -> Results:
    """Sweep a study whose baseline has too low a learning rate (2e-4, and 3e-3 is best) and the best dropout, 0."""
    baseline = {**small_sweep.study().baseline, "learning_rate": 2e-4, "min_lr": 2e-5}
    fields = {"baseline": baseline, "trials": 12, "confirm": CONFIRM, "candidates": [{"dropout": 0.3}], **changes}
    small_sweep.sweep(folder, small_sweep.study(**fields))
    return small_sweep.results_in(folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return swept(tmp_path_factory.mktemp("confirm"))


def test_it_begins_after_the_search_and_takes_fresh_seeds(results: Results) -> None:
    phases = [run.phase for run in results.runs]
    assert PHASE not in phases[: phases.index(PHASE)]
    assert set(phases[phases.index(PHASE) :]) == {PHASE}
    confirming = [run for run in results.runs if run.phase == PHASE]
    assert all(run.optuna_study == "small-confirm" and run.seed != results.study.seed for run in confirming)


def test_no_config_is_run_twice(results: Results) -> None:
    configs = [run.config for run in results.runs]
    assert len(set(configs)) == len(configs)


def test_it_names_the_knob_that_breaks_the_plateau(results: Results) -> None:
    attribution = Findings(results).attribution
    assert attribution is not None
    assert attribution.word is BestWord.IMPROVES
    assert attribution.effect is not None
    # the closed form of fake_training.final_loss, without the seeds' luck
    best = attribution.best.config
    gain = 0.2 * (math.log10(2e-4 / 3e-3) ** 2 - math.log10(best.learning_rate / 3e-3) ** 2) - best.dropout
    assert attribution.effect.mean == pytest.approx(gain, abs=0.003)
    words = {knob.knob: knob.word for knob in attribution.knobs}
    assert words["learning_rate"] is KnobWord.ALONE
    assert words.get("dropout") in (None, KnobWord.HURTS, KnobWord.NO_EFFECT)
    assert [candidate.word for candidate in attribution.candidates] == [CandidateWord.WRONG]


def test_a_finished_study_has_no_further_run(results: Results) -> None:
    assert confirm.next_run(Evidence(results)) is None


@pytest.mark.parametrize(("method", "moment"), [("ask", "after"), ("tell", "before")])
def test_killed_in_the_middle_it_goes_on(results: Results, tmp_path: Path, method: str, moment: str) -> None:
    """Killed between a trial and its run, or between the end of a run and the end of its trial."""
    calls = sum(run.phase != PHASE for run in results.runs) + 4
    with killing(OptunaTrials, method, moment, calls) as death:
        swept(tmp_path)
    assert death.happened
    assert small_sweep.reproducible_part(swept(tmp_path)) == small_sweep.reproducible_part(results)


def test_more_seeds_go_on_from_the_runs_of_fewer(results: Results, tmp_path: Path) -> None:
    few = swept(tmp_path, confirm={"seeds": 2, "max_trials": 3})
    assert sum(run.phase == PHASE for run in few.runs) == 3
    more = swept(tmp_path)
    assert small_sweep.reproducible_part(more) == small_sweep.reproducible_part(results)
    assert more.runs[: len(few.runs)] == few.runs


# in memory, on known loss surfaces


@pytest.mark.parametrize("surface", confirming.SURFACES)
def test_the_budget_is_kept_and_no_config_is_run_twice(surface: str) -> None:
    results = confirming.known(surface)
    runs = [run for run in results.runs if run.phase == PHASE]
    assert len(runs) <= results.study.confirm.max_trials
    assert len({run.config for run in results.runs}) == len(results.runs)
    most = results.study.seed + results.study.confirm.seeds + confirm.EXTRA_SEEDS
    assert all(results.study.seed < run.seed <= most for run in runs)


def test_a_best_trial_that_is_no_better_gets_no_resets_and_no_half_runs() -> None:
    results = confirming.known("flat")
    arms = Evidence(results).arms
    labels = {run.label for run in results.runs if run.phase == PHASE}
    assert not [label for label in labels if "without" in label or "half" in label]
    runs = [run for run in results.runs if run.label.startswith("best")]
    assert confirm.BEST_SEEDS <= len(runs) <= results.study.confirm.seeds or not arms.all


@pytest.mark.parametrize("max_trials", [0, 1, 7])
def test_max_trials_limits_the_phase(max_trials: int) -> None:
    results = confirming.searched(confirming.slow, trials=12, confirm={"seeds": 5, "max_trials": max_trials})
    confirmed = confirming.confirmed(results, confirming.slow)
    assert sum(run.phase == PHASE for run in confirmed.runs) == max_trials
    attribution = Findings(confirmed).attribution
    assert (attribution is None) is (max_trials == 0)
    assert max_trials > 1 or attribution is None or not attribution.decided


def test_if_the_best_trial_diverges_on_fresh_seeds_each_knob_gets_two_seeds_after_the_candidates() -> None:
    before = confirming.searched(confirming.slow, trials=12)
    best = before.best
    assert best is not None
    diverged = [
        dataclasses.replace(
            best,
            id=900 + index,
            seed=1338 + index,
            phase=PHASE,
            origin=PHASE,
            outcome="diverged",
            val_loss=None,
            config=best.config.replace(seed=1338 + index),
        )
        for index in range(confirm.BEST_SEEDS)
    ]
    results = dataclasses.replace(before, runs=(*before.runs, *diverged))
    wanted = list(confirm.wanted(Evidence(results)))
    arms = Evidence(results).arms
    knobs = [arm for arm, _ in wanted if arm.knobs not in (frozenset(), arms.all)]
    assert sorted(knobs, key=str) == sorted(
        [Arm(frozenset([knob])) for knob in arms.changed] * confirm.KNOB_SEEDS, key=str
    )
    last_candidate = max(index for index, (arm, _) in enumerate(wanted) if arm.candidate is not None)
    assert wanted.index((knobs[0], 1338)) > last_candidate
    assert not any(arm.half for arm, _ in wanted)


def test_a_knob_that_diverges_alone_gets_no_more_seeds() -> None:
    alone = Arm(frozenset(["learning_rate"]))
    results = confirming.with_a_diverged_run(confirming.known("slow"), alone)
    attribution = Findings(results).attribution
    assert attribution is not None
    assert alone not in confirm.Questions(Evidence(results), attribution).undecided()


def test_the_first_knob_gets_its_half_runs_before_any_knob_is_reset() -> None:
    """So that a phase of few runs settles the verdict and names the knob."""
    results = confirming.searched(confirming.slow, trials=12)
    confirmed = confirming.confirmed(results, confirming.slow, noise=0.03)
    evidence = Evidence(confirmed)
    order = [evidence.arms.arm_of(run) for run in confirmed.runs if run.phase == PHASE]
    resets = [index for index, arm in enumerate(order) if arm and len(evidence.arms.all - arm.knobs) == 1]
    halves = [index for index, arm in enumerate(order) if arm and arm == Arm(frozenset(["learning_rate"]), half=True)]
    assert resets
    assert halves
    assert max(halves[:2]) < min(resets)


@pytest.mark.parametrize(
    ("max_trials", "begun", "options", "settings"),
    [
        (60, 60, {}, (5, 120)),
        (60, 13, {}, (5, 60)),  # interrupted: the same command again asks for no more
        (60, 13, {"seeds": 5}, (5, 60)),
        (0, 0, {}, (5, Confirm().max_trials)),  # a study without a confirm phase gets the default
        (60, 13, {"seeds": 8}, (8, 73)),
        (60, 13, {"max_trials": 20}, (5, 33)),
    ],
)
def test_a_continued_phase_has_room_for_max_trials_more_runs(
    max_trials: int, begun: int, options: dict[str, int], settings: tuple[int, int]
) -> None:
    study = synthetic.study(confirm={"seeds": 5, "max_trials": max_trials, "min_effect": 0.03})
    runs = [synthetic.run(index, phase=PHASE, seed=index) for index in range(begun)]
    extended = confirm.extended(synthetic.results(runs, study=study), **{"seeds": None, "max_trials": None, **options})
    assert (extended.seeds, extended.max_trials, extended.min_effect) == (*settings, 0.03)


def test_a_phase_interrupted_in_its_last_run_is_continued_and_not_extended() -> None:
    study = synthetic.study(confirm={"seeds": 5, "max_trials": 3, "min_effect": 0.03})
    runs = [synthetic.run(index, phase=PHASE, seed=index) for index in range(3)]
    runs[-1] = dataclasses.replace(runs[-1], outcome="running")
    assert confirm.extended(synthetic.results(runs, study=study), seeds=5, max_trials=None) == study.confirm
