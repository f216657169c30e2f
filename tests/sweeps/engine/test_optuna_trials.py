"""Optuna's trials of a sweep: their values and curves, how each outcome is told, and trials left in the queue."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from sweeps.engine.progress import Silent
from sweeps.store.store import Store
from sweeps.workers.pool import Job, Report
from tests.helpers import fake_training, small_sweep
from tests.helpers.kills import Killed
from tests.helpers.small_sweep import event_kinds, four_runs, optuna_trials_in, results_in, sweep
from trainer.points import Result


def test_optuna_has_the_losses_and_the_whole_curves_of_our_runs(uninterrupted: Path) -> None:
    trials = optuna_trials_in(uninterrupted)
    runs = [run for run in results_in(uninterrupted).runs if run.optuna_study == "small"]
    assert [trial.number for trial in trials] == [run.trial for run in runs] == [0, 1, 2, 3]
    for trial, run in zip(trials, runs, strict=True):
        assert trial.state is TrialState.COMPLETE
        assert trial.value == run.val_loss
        assert trial.params == run.params == {"dropout": run.config.dropout}
        assert trial.intermediate_values == {point.step: point.val_loss for point in run.points}
        assert trial.user_attrs["run"] == run.id


def test_reports_are_numbered_by_evaluation_whatever_the_iterations(tmp_path: Path) -> None:
    sweep(tmp_path, small_sweep.study(horizon={"iters": 60}, baseline_seeds=1, trials=1))
    (baseline, _) = optuna_trials_in(tmp_path)
    assert list(baseline.intermediate_values) == list(range(21))
    assert [point.step for point in results_in(tmp_path).runs[0].points] == list(range(0, 61, 3))


def ending(outcome: str, *, step: int, points: int) -> Callable[[Job, Report], Result]:
    """Return work in which trials with more than 0.1 dropout end with `outcome` at `step`, after some points."""

    def work(job: Job, report: Report) -> Result:
        if job.config.dropout <= 0.1:
            return fake_training.train(job, report)
        for index in range(points):
            report(fake_training.point_at(job.config, index))
        return Result(outcome=outcome, step=step, points=(), reason=f"it is {outcome}", seconds=1.0)

    return work


def test_a_diverged_trial_is_pruned_at_its_step(tmp_path: Path) -> None:
    spec = four_runs(sampler={"type": "tpe"}, trials=4)
    summary = sweep(tmp_path, spec, work=ending("diverged", step=6, points=6))
    run, trial = results_in(tmp_path).runs[1], optuna_trials_in(tmp_path)[1]
    assert (run.outcome, run.reason, run.val_loss) == ("diverged", "it is diverged", None)
    assert trial.state is TrialState.PRUNED
    assert trial.user_attrs["outcome"] == "diverged"
    assert list(trial.intermediate_values) == [0, 1, 2, 3, 4, 5, 6]
    assert math.isnan(trial.intermediate_values[6])
    assert trial.value is None
    assert "diverged" in event_kinds(tmp_path)
    assert summary.counts["diverged"] >= 1
    assert summary.counts["failed"] == 0


def test_an_infeasible_trial_violates_a_constraint_and_does_not_fail(tmp_path: Path) -> None:
    spec = four_runs(sampler={"type": "tpe"}, trials=12)
    summary = sweep(tmp_path, spec, work=ending("infeasible", step=0, points=0))
    trials = optuna_trials_in(tmp_path)
    assert trials[1].state is TrialState.PRUNED
    assert trials[1].constraints == {"fits_memory": 1.0}
    assert trials[0].constraints == {}
    assert results_in(tmp_path).runs[1].reason == "it is infeasible"
    assert summary.counts["failed"] == 0
    assert summary.finished


class DiesAtOnce(Silent):
    """An observer with which the process ends once the study's row is written and before any trial is queued."""

    def begun(self, study: object, baseline: object, runs: object) -> None:
        raise Killed


def test_a_trial_that_was_queued_but_not_asked_is_taken_up_and_not_duplicated(tmp_path: Path) -> None:
    def queue(store: Store) -> None:
        study = optuna.create_study(storage=store.storage, study_name="small", load_if_exists=True)
        if not study.trials:
            study.enqueue_trial({"dropout": 0.0}, user_attrs={"key": "baseline:0"})

    with pytest.raises(Killed):
        sweep(tmp_path, four_runs(), observer=DiesAtOnce())
    sweep(tmp_path, four_runs(), prepare=queue)
    trials = optuna_trials_in(tmp_path)
    assert [trial.user_attrs.get("key") for trial in trials] == [
        "baseline:0",
        "one-at-a-time:dropout:high",
        None,
        None,
    ]
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
