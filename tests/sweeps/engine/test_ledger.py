"""The ledger: whatever moment a sweep is killed at, the next session ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import itertools
import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from sweeps.engine.ledger import Ledger, new_run
from sweeps.engine.optuna_trials import OptunaTrials
from sweeps.paths import StudyPaths
from sweeps.store.records import Pruning
from sweeps.store.store import Store
from sweeps.study.proposals import Proposal
from sweeps.workers.pool import Job, Report
from tests.helpers import fake_training, small_sweep
from tests.helpers.kills import Killed, die_at, killing
from tests.helpers.small_sweep import (
    decisions_in,
    event_kinds,
    events_in,
    four_runs,
    optuna_trials_in,
    plateau_study,
    reproducible_part,
    results_in,
    sweep,
)
from trainer.points import Result

MEDIAN = {"type": "median", "startup_trials": 1, "warmup": 0.0}
HYPERBAND = {"type": "hyperband", "min_evaluations": 2, "reduction_factor": 2}


@pytest.mark.parametrize(("sampler", "pruner"), [("tpe", MEDIAN), ("random", HYPERBAND)])
def test_a_sweep_killed_between_any_two_writes_ends_as_an_uninterrupted_one(
    tmp_path: Path, sampler: str, pruner: dict[str, Any]
) -> None:
    spec = four_runs(trials=7, sampler={"type": sampler}, pruner=pruner)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    sweep(whole, spec)
    assert "pruned" in event_kinds(whole)
    deaths = 0
    for owner, method, moment, calls in [
        (optuna.Study, "enqueue_trial", "before", 1),
        (optuna.Study, "enqueue_trial", "after", 1),
        (OptunaTrials, "_with_all_params", "before", 1),
        (Store, "add_run", "before", 1),
        (Store, "add_run", "after", 1),
        (Store, "launched", "before", 1),
        (Store, "launched", "after", 1),
        (Store, "add_points", "before", 1),
        (Store, "add_points", "after", 1),
        (OptunaTrials, "report", "after", 5),
        (Store, "add_points", "after", 9),
        (Store, "ended", "before", 1),
        (Store, "ended", "after", 1),
        (OptunaTrials, "tell", "after", 2),
        (Store, "decided", "before", 1),  # decided but not written
        *[(Ledger, "decide", "decided", 1)] * 3,  # killed once the decision is written, and again on each resume
        (Store, "ended", "before", 1),
        (Store, "ended", "after", 1),
        (OptunaTrials, "tell", "before", 1),
        (OptunaTrials, "ask", "after", 1),
        (Ledger, "decide", "before", 2),
        (Ledger, "decide", "after", 1),
        (OptunaTrials, "ask", "after", 1),
    ]:
        with killing(owner, method, moment, calls) as death:
            sweep(killed, spec)
        deaths += death.happened
    assert deaths >= 22  # Hyperband and the median prune at different times
    assert sweep(killed, spec).finished
    assert reproducible_part(results_in(killed)) == reproducible_part(results_in(whole))
    states = [(trial.state, trial.values, trial.intermediate_values) for trial in optuna_trials_in(killed)]
    expected = [(trial.state, trial.values, trial.intermediate_values) for trial in optuna_trials_in(whole)]
    assert states == expected


def test_a_sweep_of_several_workers_killed_at_many_ticks_ends_as_an_uninterrupted_one(
    tmp_path: Path, uninterrupted: Path
) -> None:
    for _ in range(60):
        with contextlib.suppress(Killed):
            # at tick 50 the replay of two whole runs is over
            if sweep(tmp_path, four_runs(), devices=("cpu", "cpu"), at_tick=die_at(50)).finished:
                break
    assert reproducible_part(results_in(tmp_path)) == reproducible_part(results_in(uninterrupted))


def check_none_changed(folder: Path, known: dict[int, Pruning]) -> None:
    """Check that every known decision still stands in the store, and add the new ones."""
    now = decisions_in(folder)
    assert {number: now[number] for number in known} == known
    known.update(now)


class TestPlateauDecisions:
    """A restarted sweep decides what an uninterrupted one does."""

    def check_same(self, folder: Path, plateau_sweep: Path) -> None:
        assert reproducible_part(results_in(folder)) == reproducible_part(results_in(plateau_sweep))
        assert decisions_in(folder) == decisions_in(plateau_sweep)
        killed_events, uninterrupted_events = (
            [(event.run, event.detail) for event in events_in(where) if event.kind == "sentinel"]
            for where in (folder, plateau_sweep)
        )
        assert killed_events == uninterrupted_events

    def test_killed_between_any_two_writes_a_sweep_decides_as_an_uninterrupted_one(
        self, tmp_path: Path, plateau_sweep: Path
    ) -> None:
        deaths, known = 0, dict[int, Pruning]()
        for owner, method, moment, calls in [
            (OptunaTrials, "_with_all_params", "after", 1),
            (Store, "add_run", "before", 1),
            (Store, "add_run", "after", 1),
            *[(Ledger, "_begin", "before", 2)] * 3,  # of a new run, after a run that is taken up
            *[(Ledger, "_begin", "after", 2)] * 3,
            *[(Store, "decided", "before", 1)] * 2,
            *[(Ledger, "decide", "decided", 1)] * 4,
            *[(Store, "decided", "after", 1)] * 2,
            (Store, "ended", "after", 1),
            (OptunaTrials, "tell", "before", 1),
            (OptunaTrials, "tell", "after", 1),
            (Store, "decided", "after", 1),
            (Ledger, "decide", "decided", 1),
        ]:
            with killing(owner, method, moment, calls) as death:
                sweep(tmp_path, plateau_study())
            deaths += death.happened
            if StudyPaths(tmp_path).store.exists():
                check_none_changed(tmp_path, known)
        assert deaths >= 21
        assert sweep(tmp_path, plateau_study()).finished
        self.check_same(tmp_path, plateau_sweep)

    def test_killed_at_many_ticks_a_sweep_decides_as_an_uninterrupted_one(
        self, tmp_path: Path, plateau_sweep: Path
    ) -> None:
        known: dict[int, Pruning] = {}
        for tick in itertools.cycle([29, 31, 37, 26]):  # the replay of a run takes up to 21
            with contextlib.suppress(Killed):
                if sweep(tmp_path, plateau_study(), at_tick=die_at(tick)).finished:
                    break
            check_none_changed(tmp_path, known)
        self.check_same(tmp_path, plateau_sweep)

    def test_with_several_workers_no_decision_is_changed(self, tmp_path: Path) -> None:
        """Decisions may depend on the moment of the kill, because it decides which runs overlap. None is made twice."""
        known: dict[int, Pruning] = {}
        for _ in range(40):
            with contextlib.suppress(Killed):
                if sweep(tmp_path, plateau_study(), devices=("cpu", "cpu"), at_tick=die_at(70)).finished:
                    break
            check_none_changed(tmp_path, known)
        check_none_changed(tmp_path, known)
        decided = [run for run in results_in(tmp_path).runs if run.pruning]
        assert {run.trial: run.outcome for run in decided} == {
            number: "complete" if pruning.sentinel else "pruned" for number, pruning in known.items()
        }


@pytest.mark.parametrize(
    ("proposal", "expected"),
    [
        (None, ("search", "sampler", "trial 4", None, "trial:4")),
        (
            Proposal(
                key="one-at-a-time:dropout:high",
                phase="search",
                origin="one-at-a-time",
                label="dropout at its high, 0.4",
                knob="dropout",
                seed=1337,
                params={"dropout": 0.4},
                config=small_sweep.baseline().replace(dropout=0.4),
            ),
            ("search", "one-at-a-time", "dropout at its high, 0.4", "dropout", "one-at-a-time:dropout:high"),
        ),
        (
            Proposal(
                key="baseline:1",
                phase="baseline",
                origin="baseline",
                label="baseline, seed 1338",
                knob=None,
                seed=1338,
                params=None,
                config=small_sweep.baseline().replace(seed=1338),
            ),
            ("baseline", "baseline", "baseline, seed 1338", None, "baseline:1"),
        ),
    ],
    ids=["sampler", "single-knob", "baseline"],
)
def test_a_new_run_is_that_of_its_proposal_or_the_samplers(
    proposal: Proposal | None, expected: tuple[str | None, ...]
) -> None:
    config = proposal.config if proposal else small_sweep.baseline().replace(seed=7)
    run = new_run(optuna_study="small", trial=4, params={"dropout": 0.4}, config=config, proposal=proposal)
    assert (run.phase, run.origin, run.label, run.knob, run.key) == expected
    assert (run.id, run.optuna_study, run.trial, run.params) == (0, "small", 4, {"dropout": 0.4})
    assert (run.config, run.seed) == (config, config.seed)
    assert (run.outcome, run.unfinished, run.device, run.reason) == ("running", True, "", "")
    assert (run.val_loss, run.val_se, run.seconds, run.points, run.pruning) == (None, None, 0.0, (), None)


def test_the_checkpoints_of_the_baseline_and_the_best_trial_are_kept_and_so_is_every_log(tmp_path: Path) -> None:
    def work(job: Job, report: Report) -> Result:
        job.out.mkdir(parents=True, exist_ok=True)
        (job.out / "log.txt").write_text("words")
        (job.out / "state-3.pt").write_text("state")
        (job.out / ".ckpt.pt.half").write_text("half")
        return fake_training.train(job, report)

    # the second candidate replaces the first as the best
    candidates = [{"learning_rate": 2e-3, "min_lr": 1e-4}, {"learning_rate": 3e-3, "min_lr": 1e-4}]
    sweep(tmp_path, small_sweep.study(candidates=candidates), work=work)
    results, paths = results_in(tmp_path), StudyPaths(tmp_path)
    search = [run for run in results.runs if run.optuna_study == "small"]
    best = min(search, key=lambda run: run.val_loss or math.inf)
    kept = {run.id for run in results.runs if run.phase == "baseline"} | {best.id}
    for run in results.runs:
        files = {file.name for file in paths.run(run.id).iterdir()}
        every = {"ckpt.pt", "state-3.pt", ".ckpt.pt.half", "log.txt"}
        assert files == (every if run.id in kept else {"log.txt"})
