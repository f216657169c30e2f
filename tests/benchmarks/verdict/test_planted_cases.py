"""Planted faults: each case breaks the settings that it names, and its direct runs show whether a verdict is true."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from benchmarks.verdict.planted_arms import MENDED, change_of, direct_tasks, loss_of
from benchmarks.verdict.planted_cases import CASES, Case, mending, study_of
from benchmarks.verdict.planted_scores import Arm
from benchmarks.verdict.train_directly import Trained
from sweeps.store.records import DataFacts, Outcome, Results, Run
from sweeps.study.horizon import at_horizon
from sweeps.study.origin_runs import origin_config
from sweeps.study.proposals import baseline_config
from sweeps.study.start import Origin, TrainStart
from sweeps.study.widening import containing_the_control
from trainer.schedule import lr_at

BY_NAME = {case.name: case for case in CASES}
FIXED = {
    "batch_size": {"max_iters", "lr_decay_iters", "warmup_iters", "min_lr"},
    "learning_rate": {"min_lr", "lr_decay_iters"},
    "warmup_iters": {"learning_rate", "min_lr"},
}
"""settings that may differ besides, by the knob that is planted: equal tokens, the schedule of the rate, and a rate
that needs a warm-up"""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_breaks_the_settings_that_it_names(case: Case) -> None:
    broken = study_of(case).baseline
    good = study_of(dataclasses.replace(BY_NAME["null-1"], shape=case.shape)).baseline
    differ = {name for name in broken if broken[name] != good[name]}
    squeezed = set(case.mends(scratch=True))
    mending = {*case.planted, *squeezed}
    explained = mending | {name for knob in mending for name in FIXED.get(knob, ())}
    assert differ <= explained
    assert bool(differ) == bool(case.planted or squeezed)
    for scratch in (False, True):
        study = study_of(case, scratch=scratch, seed=7)
        assert (study.name, study.seed, study.branches) == (case.name, case.seed + 7, not scratch)
        races = {} if study.race is None else dict(study.race.changes())
        assert set(case.mends(scratch=scratch)) <= set(study.knobs) | set(races)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_branch_goes_on_at_a_rate_and_every_shape_is_raced_at_twice_its_size(case: Case) -> None:
    study = study_of(case)
    assert isinstance(study.start, TrainStart)
    assert study.race is not None
    assert study.start.train.max_iters == study.baseline["max_iters"]  # the origin's run is the baseline's own
    iters = study.start.train.max_iters
    if case.name == "shallow":
        assert (dict(study.race.changes()), study.race.iters, study.iters) == ({"n_layer": 4}, iters, iters / 10)
        return
    sizes = {"n_embd": int(study.baseline["n_embd"]), "n_layer": int(study.baseline["n_layer"])}
    assert dict(study.race.changes()) == {name: 2 * size for name, size in sizes.items()}
    assert study.race.iters == iters / 4
    assert study.iters in (iters / 10, iters / 5)


def test_the_cases_cover_single_faults_pairs_and_none() -> None:
    null = [case for case in CASES if not case.planted]
    assert len(CASES) >= 14
    assert len(BY_NAME) == len(CASES)
    assert len([case for case in CASES if case.name in ("rate-low-and-dropout", "narrow-and-weight-decay")]) == 2
    assert len([case for case in null if not case.mends(scratch=True)]) >= 2
    layers = {study_of(case).baseline["n_layer"] for case in CASES if case.name != "shallow"}
    assert layers == {2, 3, 4}
    planted = {knob for case in CASES for scratch in (False, True) for knob in case.mends(scratch=scratch)}
    assert planted == {
        *("learning_rate", "min_lr", "warmup_iters", "dropout", "weight_decay", "batch_size", "n_embd", "n_layer")
    }


def results_of(case: Case, params: dict[str, float], *, scratch: bool = False) -> Results:
    """Return the case's study, its origin known if it branches, with one complete trial."""
    study = study_of(case, scratch=scratch)
    if not scratch:
        config = origin_config(study, seed=study.seed, vocab_size=512)
        origin = Origin(
            checkpoint="/sweep/origin/ckpt.pt",
            sha256="0" * 64,
            step=1200,
            learning_rate=lr_at(1200, config),
            settings=config.as_dict(),
        )
        study = containing_the_control(study.model_copy(update={"origin": origin}))
    run = Run(
        id=1,
        optuna_study=case.name,
        trial=3,
        seed=study.seed,
        phase="search",
        origin="sampler",
        label="trial 3",
        knob=None,
        params=params,
        config=baseline_config(study, seed=study.seed, vocab_size=512),
        device="cpu",
        outcome=Outcome.COMPLETE,
        reason="",
        val_loss=2.0,
        val_se=0.01,
        seconds=1.0,
        points=(),
    )
    data = DataFacts(path="", fingerprint="", vocab_size=512, train_tokens=10, val_tokens=10, bytes_per_token=1.0)
    return Results(study=study, data=data, runs=(run,), provenance={}, seconds=1.0)


PARAMS = {
    "learning_rate": 1e-3,
    "min_lr_ratio": 0.25,
    "warmup_fraction": 0.5,
    "dropout": 0.1,
    "weight_decay": 0.3,
}


def output(*names: str, candidates: Any = (), races: Any = ()) -> dict[str, Any]:
    """Return `sweep run --json` whose verdict says that each of these knobs gains alone."""
    knobs = [{"name": name, "verdict": "alone", "effect": 0.1, "ci": None} for name in names]
    verdict = {"broken": False, "knobs": knobs, "candidates": list(candidates), "min_effect": 0.002}
    return {"verdict": verdict, "races": list(races)}


def tasks_of(case: Case, said: dict[str, Any], *, scratch: bool = False) -> dict[Arm, Any]:
    return direct_tasks(
        case.mends(scratch=scratch),
        results_of(case, PARAMS, scratch=scratch),
        said,
        mends=mending(case, scratch=scratch),
        seeds=[9000, 9001],
        race_seeds=[9000, 9001, 9002],
    )


def test_direct_branches_go_on_from_the_sweeps_own_origin() -> None:
    case = BY_NAME["rate-low"]
    tasks = tasks_of(case, output("learning_rate"))
    assert set(tasks) == {Arm(), Arm(["learning_rate"]), MENDED}
    assert {task.origin for of_arm in tasks.values() for task in of_arm} == {Path("/sweep/origin/ckpt.pt")}
    assert [task.config.seed for task in tasks[Arm()]] == [9000, 9001]
    control, alone, mended = (tasks[arm][0].config for arm in (Arm(), Arm(["learning_rate"]), MENDED))
    assert control.learning_rate == pytest.approx(lr_at(1200, origin_config(study_of(case), seed=1, vocab_size=512)))
    assert (control.min_lr, control.init_from, control.max_iters) == (2e-5, "branch", 120)
    assert (alone.learning_rate, mended.learning_rate) == (1e-3, 2e-3)
    assert control.replace(learning_rate=1e-3) == alone
    assert control.replace(learning_rate=2e-3) == mended


def test_direct_runs_of_a_study_from_scratch_mend_the_baseline_itself() -> None:
    tasks = tasks_of(BY_NAME["dropout"], output("dropout"), scratch=True)
    assert {task.origin for of_arm in tasks.values() for task in of_arm} == {None}
    broken, alone, mended = (tasks[arm][0].config for arm in (Arm(), Arm(["dropout"]), MENDED))
    assert (broken.dropout, alone.dropout, mended.dropout, broken.max_iters) == (0.4, 0.1, 0.0, 400)
    assert broken.replace(dropout=0.0) == mended
    short = tasks_of(BY_NAME["decays-early"], output("min_lr"), scratch=True)[MENDED][0].config
    assert (short.min_lr, short.lr_decay_iters, short.max_iters) == (4e-4, 600, 400)


def test_a_larger_batch_mends_in_fewer_iterations() -> None:
    control, mended = (tasks_of(BY_NAME["batch-small"], output())[arm][0].config for arm in (Arm(), MENDED))
    assert (control.batch_size, control.max_iters) == (4, 480)
    assert (mended.batch_size, mended.max_iters) == (16, 120)


def test_on_a_null_case_the_best_is_measured() -> None:
    tasks = tasks_of(BY_NAME["null-1"], output("dropout", "min_lr"))
    assert set(tasks) == {Arm(), Arm(["dropout"]), Arm(["min_lr"]), Arm(["dropout", "min_lr"])}
    assert set(tasks_of(BY_NAME["null-1"], output())) == {Arm()}


def test_direct_advice_has_the_settings_of_the_candidate() -> None:
    advice = {"config": {"dropout": 0.2, "weight_decay": 0.5}, "verdict": "right", "effect": 0.1, "ci": None}
    tasks = tasks_of(BY_NAME["rate-low"], output(candidates=[{**advice, "verdict": "wrong"}, advice]))
    arm = Arm(["advice dropout=0.2 weight_decay=0.5"])
    assert tasks[arm][0].config == tasks[Arm()][0].config.replace(dropout=0.2, weight_decay=0.5)


def test_direct_races_are_the_origins_run_with_the_change_up_to_the_claims_step() -> None:
    races = [
        {"change": {"n_embd": 32}, "step": 600, "gap": 0.2, "ci": [0.1, 0.3]},
        {"change": {"n_layer": 6}, "step": 300, "gap": 0.1, "ci": [0.05, 0.15]},
    ]
    case = BY_NAME["narrow"]
    tasks = tasks_of(case, output(races=races))
    wide, deep = Arm(["race n_embd=32 at 600"]), Arm(["race n_layer=6 at 300"])
    early, late = Arm(["race origin at 300"]), Arm(["race origin at 600"])
    assert set(tasks) == {Arm(), wide, deep, early, late}
    assert [task.config.seed for task in tasks[wide]] == [9000, 9001, 9002]
    assert [tasks[arm][0].until for arm in (wide, deep, early, late)] == [600, 300, 600, 600]
    assert tasks[early] == tasks[late]  # trained once, read at two steps
    own = origin_config(study_of(case), seed=9000, vocab_size=512)
    assert tasks[early][0].config == own
    assert tasks[wide][0].config == own.replace(n_embd=32, n_head=2)
    assert tasks[deep][0].config == own.replace(n_layer=6)
    assert tasks[deep][0].origin is None


def test_a_race_is_read_at_its_step_and_other_runs_at_their_end() -> None:
    run = Trained(loss=2.0, curve={0: 5.0, 300: 4.0, 600: 3.0})
    assert loss_of(Arm(["race origin at 300"]), run) == 4.0
    assert loss_of(Arm(["race n_embd=32 at 600"]), run) == 3.0
    assert [loss_of(arm, run) for arm in (Arm(), Arm(["dropout"]), Arm(["dropout", "min_lr"]), MENDED)] == [2.0] * 4
    assert change_of(Arm(["race n_embd=32 at 600"])) == ("n_embd", 32)
    assert change_of(Arm(["race dropout=0.1 at 600"])) == ("dropout", 0.1)
    assert change_of(Arm(["race origin at 600"])) is None


def test_what_mends_a_case_is_a_branch_of_its_own_study() -> None:
    for case in CASES:
        results = results_of(case, PARAMS)
        config = at_horizon(results.study, mending(case, scratch=False), seed=1, vocab_size=512)
        control = baseline_config(results.study, seed=1, vocab_size=512)
        other = {name for name, value in config.as_dict().items() if value != pytest.approx(control.as_dict()[name])}
        follows = {"max_iters", "lr_decay_iters", "eval_interval"}  # from the batch
        assert other - follows <= {*case.planted, "min_lr"}
        assert bool(other) == bool(set(case.planted) - {"n_embd", "n_layer"})
