"""The order of a study's runs: the phases, what the user queues, and what has no room."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import TrialState

from tests.helpers import fake_training, small_sweep
from tests.helpers.small_sweep import EVALUATIONS, Watcher, four_runs, origin_counts, results_in, sweep


def test_every_phase_runs_in_its_order(tmp_path: Path) -> None:
    candidates = [{"dropout": 0.1}, {"weight_decay": 0.2}]  # weight_decay is no knob: the space can't express it
    watcher = Watcher()
    summary = sweep(tmp_path, small_sweep.study(candidates=candidates, trials=8), observer=watcher)
    assert summary.finished
    assert not summary.interrupted
    assert not summary.truncated
    assert summary.counts == dict.fromkeys(summary.counts, 0) | {"complete": 10}
    assert (summary.started, watcher.notes) == (10, [])
    results = results_in(tmp_path)
    assert origin_counts(results) == {"baseline": 2, "candidate": 2, "one-at-a-time": 3, "combined": 1, "sampler": 2}
    assert [(run.optuna_study, run.trial) for run in results.runs[:4]] == [
        ("small", 0),
        ("small-confirm", 0),
        ("small", 1),
        ("small-confirm", 1),
    ]
    assert {run.phase for run in results.runs if run.origin == "baseline"} == {"baseline"}
    assert sum(run.phase == "search" for run in results.runs) == 8
    assert {run.seed for run in results.runs if run.phase == "search"} == {1337}
    sampled = [run.params["dropout"] for run in results.runs if run.origin == "sampler"]
    assert len(set(sampled)) == 2
    for run in results.runs:
        assert run.val_loss == fake_training.final_loss(run.config)
        assert len(run.points) == EVALUATIONS


def test_single_knob_trials_that_have_no_room_are_reported(tmp_path: Path) -> None:
    watcher = Watcher()
    sweep(tmp_path, small_sweep.study(trials=2, baseline_seeds=1), observer=watcher)
    assert origin_counts(results_in(tmp_path)) == {"baseline": 1, "one-at-a-time": 2}
    assert "leaves out 1 of the candidates" in watcher.notes[0]


@pytest.mark.parametrize(
    ("trials", "origins"),
    [(3, {"baseline": 1, "sampler": 2, "one-at-a-time": 1}), (1, {"baseline": 1, "sampler": 1})],
)
def test_a_trial_that_the_user_queues_goes_first(tmp_path: Path, trials: int, origins: dict[str, int]) -> None:
    def queue(tick: int) -> None:
        if tick == 1:
            small_sweep.enqueue(tmp_path, {"dropout": 0.125})

    sweep(tmp_path, four_runs(trials=trials), at_tick=queue)
    assert origin_counts(results_in(tmp_path)) == origins
    assert results_in(tmp_path).runs[1].config.dropout == 0.125
    assert {trial.state for trial in small_sweep.optuna_trials_in(tmp_path)} == {TrialState.COMPLETE}
