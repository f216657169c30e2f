"""The confirm phase: which runs it makes, on which seeds, and when it ends."""

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

CONFIRM = {"seeds": 5, "max_trials": 60}


def swept(folder: Path, **changes: Any) -> Results:
    baseline = {**small_sweep.study().baseline, "learning_rate": 2e-4, "min_lr": 2e-5}
    given = {"baseline": baseline, "trials": 12, "confirm": CONFIRM, "candidates": [{"dropout": 0.3}], **changes}
    small_sweep.sweep(folder, small_sweep.study(**given))
    return small_sweep.stored_results(folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The baseline's rate, 2e-4, is too low (3e-3 is best), its dropout of 0 as good as can be."""
    return swept(tmp_path_factory.mktemp("confirm"))


def test_it_begins_when_the_search_has_ended_and_takes_fresh_seeds(results: Results) -> None:
    phases = [run.phase for run in results.runs]
    assert PHASE not in phases[: phases.index(PHASE)]
    assert set(phases[phases.index(PHASE) :]) == {PHASE}
    confirming = [run for run in results.runs if run.phase == PHASE]
    assert all(run.optuna_study == "small-confirm" and run.seed != results.study.seed for run in confirming)


def test_no_run_is_made_twice(results: Results) -> None:
    configs = [run.config for run in results.runs]
    assert len(set(configs)) == len(configs)


def test_the_knob_is_named(results: Results) -> None:
    found = Findings(results).attribution
    assert found is not None
    assert found.word is BestWord.IMPROVES
    assert found.effect is not None
    assert found.effect.mean == pytest.approx(
        0.2 * (distance(2e-4) - distance(found.best.config.learning_rate)) - found.best.config.dropout,
        abs=0.003,
    )
    words = {knob.knob: knob.word for knob in found.knobs}
    assert words["learning_rate"] is KnobWord.ALONE
    assert words.get("dropout") in (None, KnobWord.HURTS, KnobWord.NO_EFFECT)
    assert [each.word for each in found.candidates] == [CandidateWord.WRONG]


def distance(rate: float) -> float:
    return math.log10(rate / 3e-3) ** 2


def test_a_finished_study_has_nothing_left_to_confirm(results: Results) -> None:
    assert confirm.next_run(Evidence(results)) is None


class Killed(BaseException):
    """The end of a process, simulated by an exception."""


@pytest.mark.parametrize("method", ["ask", "tell"])
def test_killed_in_the_middle_it_goes_on(results: Results, tmp_path: Path, method: str) -> None:
    """Between the trial and its run, and between the run's end and what Optuna is told."""
    left = sum(run.phase != PHASE for run in results.runs) + 4
    original = getattr(OptunaTrials, method)

    def deadly(*args: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and method == "tell":
            raise Killed
        asked = original(*args, **named)
        if left == 0:
            raise Killed
        return asked

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OptunaTrials, method, deadly)
        with pytest.raises(Killed):
            swept(tmp_path)
    assert small_sweep.essence(swept(tmp_path)) == small_sweep.essence(results)


def test_more_seeds_go_on_from_what_there_is(results: Results, tmp_path: Path) -> None:
    few = swept(tmp_path, confirm={"seeds": 2, "max_trials": 3})
    assert sum(run.phase == PHASE for run in few.runs) == 3
    more = swept(tmp_path)
    assert small_sweep.essence(more) == small_sweep.essence(results)
    assert more.runs[: len(few.runs)] == few.runs


# In memory: a loss surface that is known


@pytest.mark.parametrize("surface", confirming.SURFACES)
def test_the_budget_is_kept_and_no_run_is_made_twice_in_memory(surface: str) -> None:
    results = confirming.known(surface)
    runs = [run for run in results.runs if run.phase == PHASE]
    assert len(runs) <= results.study.confirm.max_trials
    assert len({run.config for run in results.runs}) == len(results.runs)
    most = results.study.seed + results.study.confirm.seeds + confirm.EXTRA_SEEDS
    assert all(results.study.seed < run.seed <= most for run in runs)


def test_a_best_that_is_no_better_costs_its_seeds_the_advice_and_each_knob_alone() -> None:
    results = confirming.known("flat")
    arms = Evidence(results).arms
    labels = {run.label for run in results.runs if run.phase == PHASE}
    assert not [label for label in labels if "without" in label or "half" in label]
    runs = [run for run in results.runs if run.label.startswith("best")]
    assert confirm.BEST_SEEDS <= len(runs) <= results.study.confirm.seeds or not arms.all


@pytest.mark.parametrize("max_trials", [0, 1, 7])
def test_max_trials_is_the_most(max_trials: int) -> None:
    results = confirming.searched(confirming.slow, trials=12, confirm={"seeds": 5, "max_trials": max_trials})
    made = confirming.confirmed(results, confirming.slow)
    assert sum(run.phase == PHASE for run in made.runs) == max_trials
    found = Findings(made).attribution
    assert (found is None) is (max_trials == 0)
    assert max_trials > 1 or found is None or not found.decided


def test_of_a_best_that_diverges_on_every_fresh_seed_each_knob_gets_two_seeds_after_the_advice() -> None:
    before = confirming.searched(confirming.slow, trials=12)
    best = before.best
    assert best is not None
    lost = [
        dataclasses.replace(
            best,
            id=900 + i,
            seed=1338 + i,
            phase=PHASE,
            origin=PHASE,
            outcome="diverged",
            val_loss=None,
            config=best.config.replace(seed=1338 + i),
        )
        for i in range(confirm.BEST_SEEDS)
    ]
    results = dataclasses.replace(before, runs=(*before.runs, *lost))
    wishes = list(confirm.wanted(Evidence(results)))
    arms = Evidence(results).arms
    knobs = [arm for arm, _ in wishes if arm.knobs not in (frozenset(), arms.all)]
    singles = [Arm(frozenset([knob])) for knob in arms.changed] * confirm.KNOB_SEEDS
    assert sorted(knobs, key=str) == sorted(singles, key=str)
    assert wishes.index((knobs[0], 1338)) > max(i for i, (arm, _) in enumerate(wishes) if arm.candidate is not None)
    assert not any(arm.half for arm, _ in wishes)


def test_a_knob_that_diverges_alone_gets_no_more_seeds() -> None:
    alone = Arm(frozenset(["learning_rate"]))
    results = confirming.with_a_diverged_run(confirming.known("slow"), alone)
    attribution = Findings(results).attribution
    assert attribution is not None
    assert alone not in confirm.Questions(Evidence(results), attribution).undecided()


def test_a_phase_of_few_runs_settles_the_verdict_and_names_the_knob_before_it_resets_any() -> None:
    results = confirming.searched(confirming.slow, trials=12)
    made = confirming.confirmed(results, confirming.slow, noise=0.03)
    evidence = Evidence(made)
    order = [evidence.arms.arm_of(run) for run in made.runs if run.phase == PHASE]
    resets = [index for index, arm in enumerate(order) if arm and len(evidence.arms.all - arm.knobs) == 1]
    named = [index for index, arm in enumerate(order) if arm and arm == Arm(frozenset(["learning_rate"]), half=True)]
    assert resets
    assert named
    assert max(named[:2]) < min(resets)


@pytest.mark.parametrize(
    ("max_trials", "begun", "given", "settings"),
    [
        (60, 13, {}, (5, 73)),
        (0, 0, {}, (5, Confirm().max_trials)),  # a study without a confirm phase gets the default
        (60, 13, {"seeds": 8}, (8, 73)),
        (60, 13, {"max_trials": 20}, (5, 20)),
    ],
)
def test_a_continued_phase_has_room_for_as_many_runs_again(
    max_trials: int, begun: int, given: dict[str, int], settings: tuple[int, int]
) -> None:
    study = synthetic.study(confirm={"seeds": 5, "max_trials": max_trials, "min_effect": 0.03})
    runs = [synthetic.run(index, phase=PHASE, seed=index) for index in range(begun)]
    extended = confirm.extended(synthetic.results(runs, study=study), **{"seeds": None, "max_trials": None, **given})
    assert (extended.seeds, extended.max_trials, extended.min_effect) == (*settings, 0.03)
