"""Sweeps on a card that isn't there and has too little memory: smaller micro-batches, the same trial, or infeasible."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from typer.testing import CliRunner

from sweeps import cli
from sweeps.analysis.findings import Findings
from sweeps.engine import session
from sweeps.paths import StudyPaths
from sweeps.verdict.verdict import verdict
from sweeps.workers import worker
from sweeps.workers.pool import Job, Report
from sweeps.workers.process_pool import ProcessPool
from tests.helpers import fake_training, small_sweep
from tests.helpers.data_folders import random_walk_folder
from tests.helpers.fake_gpu import FakeGPU, train_steps
from trainer.config import TrainConfig
from trainer.machine import device, microbatch
from trainer.machine.cgroups import DeviceMemory
from trainer.machine.memory import needed
from trainer.machine.microbatch import Infeasible, Measured, shape_of
from trainer.points import Point, Result
from trainer.run import probe

WIDTHS = (32, 48, 64, 80, 96)
KNOBS = {"n_embd": {"low": 32, "high": 96, "step": 16}, "dropout": {"low": 0.0, "high": 0.4}}


def peak(width: int, batch: int, accumulation: int) -> int:
    config = small_sweep.baseline().replace(
        n_embd=width, batch_size=batch, gradient_accumulation_steps=accumulation, compile=False
    )
    return needed(config, kind="cuda", mixed=True).total


class FakeCard:
    """Trains by a closed form (wider is better) once two steps of the real model fit into `capacity` bytes.

    The worker believes to have `believed` bytes, so the estimate may promise too much, as on a real card.
    """

    def __init__(self, capacity: int, believed: int) -> None:
        self.capacity, self.believed = capacity, believed
        self.tried: list[tuple[int, int, int]] = []
        """run, attempt, micro-batch"""

    def __call__(self, job: Job, report: Report) -> Result:
        asked = job.config.replace(compile=False)
        try:
            splits = microbatch.fitting(asked, kind="cuda", mixed=True, free=self.believed, largest=job.largest)
        except Infeasible as error:
            return Result(outcome="infeasible", step=0, points=(), reason=f"out of memory: {error}")
        chosen = splits[0]
        self.tried.append((job.run, job.attempt, chosen.batch_size))
        try:
            train_steps(chosen, FakeGPU(self.capacity), dtype=torch.bfloat16)
        except torch.OutOfMemoryError as error:
            return Result(
                outcome="oom", step=0, points=(), reason=f"out of memory: {error}", batch_size=chosen.batch_size
            )
        gain = job.config.n_embd / 1000

        def reported(point: Point) -> Any:
            return report(dataclasses.replace(point, val_loss=point.val_loss - gain))

        ended = fake_training.train(job, reported)
        lower = None if ended.val_loss is None else ended.val_loss - gain
        return dataclasses.replace(ended, val_loss=lower, batch_size=chosen.batch_size)


def study(**changes: Any) -> Any:
    given = {**small_sweep.study().baseline, "n_embd": 32, "batch_size": 8, "n_head": 1}
    return small_sweep.study(
        **{"baseline": given, "knobs": KNOBS, "baseline_seeds": 1, "trials": 36, "sampler": {"type": "tpe"}, **changes}
    )


CAPACITY = (peak(64, 1, 8) + peak(80, 1, 8)) // 2


def test_the_two_widest_are_infeasible_said_so_and_run_no_more_than_once(tmp_path: Path) -> None:
    watcher, card = small_sweep.Watcher(), FakeCard(CAPACITY, believed=4 * CAPACITY)
    summary = small_sweep.sweep(tmp_path, study(), work=card, observer=watcher)
    results = small_sweep.stored_results(tmp_path)
    assert summary.finished
    assert {run.config.n_embd for run in results.runs if run.outcome == "infeasible"} == {80, 96}
    assert {run.config.n_embd for run in results.runs if run.outcome == "complete"} == {32, 48, 64}
    lost = [run for run in results.runs if run.outcome == "infeasible"]
    assert all("out of memory" in run.reason for run in lost)
    lines = verdict(Findings(results)).lines
    assert any("Infeasible: trial" in line and "with n_layer 1 and n_embd 80 (" in line for line in lines)
    # every shape that doesn't fit is run once: later proposals of it are told so, and another is asked for
    shapes = [shape_of(run.config) for run in lost]
    assert len(shapes) == len(set(shapes))
    assert sum(run.phase == "search" for run in results.runs) == 36
    told = optuna.load_study(study_name="small", storage=f"sqlite:///{StudyPaths(tmp_path).store}").trials
    refused = [trial for trial in told if "ran out of memory in an earlier trial" in str(trial.user_attrs.get("label"))]
    assert len(told) == 36 + 1 + len(refused)  # the baseline is one of them
    assert refused
    assert all(trial.state is optuna.trial.TrialState.PRUNED and trial.constraints for trial in refused)


def test_the_command_says_which_were_infeasible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sweep run` whole, its worker a process of its own on a card; only the card is fake."""
    small = study().model_dump(mode="json", include={"baseline", "knobs", "horizon", "evaluations", "final_windows"})
    small |= {"name": "small", "baseline_seeds": 1, "trials": 4, "confirm": {"max_trials": 0}}
    small["baseline"] |= {"batch_size": 1}  # cannot be split: a worker that ran out of memory is replaced each time
    small |= {"workers": {"devices": ["cuda:0"]}, "candidates": [{"n_embd": 80, "dropout": 0.1}]}
    file, bins = tmp_path / "small.yaml", random_walk_folder(tmp_path / "bins", vocab_size=257)
    file.write_text(yaml.safe_dump(small), encoding="utf-8")
    # of 80 the estimate promises too much, of 96 it knows
    card = FakeCard((peak(64, 1, 1) + peak(80, 1, 1)) // 2, believed=peak(96, 1, 1))
    monkeypatch.setattr(session, "ProcessPool", functools.partial(ProcessPool, work=card))
    monkeypatch.setattr(session, "cuda_devices", lambda: 1)

    command = ["run", str(file), "--data", str(bins.path), "--out", str(tmp_path / "out"), "--json"]
    ended = CliRunner().invoke(cli.app, command)

    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["trials"]["infeasible"] == 2
    lost = [run for run in small_sweep.stored_results(tmp_path / "out").runs if run.outcome == "infeasible"]
    assert {run.config.n_embd for run in lost} == {80, 96}
    said = CliRunner().invoke(cli.app, ["verdict", str(tmp_path / "out")]).stdout
    assert "n_embd 32 → 96 did not fit in memory" in said
    assert "Advice n_embd 80, dropout 0.1 did not fit in memory" in said
    reasons = {run.config.n_embd: run.reason for run in lost}
    assert "CUDA out of memory" in reasons[80]
    assert "MiB are missing" in reasons[96]


def test_out_of_memory_walks_down_the_divisors_in_the_same_trial_and_is_remembered(tmp_path: Path) -> None:
    capacity = peak(32, 2, 4) + 1000
    card, watcher = FakeCard(capacity, believed=100 * capacity), small_sweep.Watcher()
    small_sweep.sweep(tmp_path, study(knobs={"dropout": KNOBS["dropout"]}, trials=2), work=card, observer=watcher)
    results = small_sweep.stored_results(tmp_path)
    assert {run.outcome for run in results.runs} == {"complete"}
    first = [size for run, _, size in card.tried if run == results.runs[0].id]
    assert first == [8, 4, 2]
    assert [attempt for run, attempt, _ in card.tried if run == results.runs[0].id] == [1, 2, 3]
    same_shape = [run.id for run in results.runs if run.config.dropout == 0]
    assert all(size == 2 for run, _, size in card.tried if run in same_shape[1:])
    assert any("out of memory with micro-batches of 8; it continues with 4" in note for note in watcher.notes)


def test_what_is_missing_is_said_where_the_estimate_sees_it(tmp_path: Path) -> None:
    card = FakeCard(1, believed=1 << 17)
    small_sweep.sweep(tmp_path, study(trials=1), work=card)
    reasons = [run.reason for run in small_sweep.stored_results(tmp_path).runs]
    assert all("MiB are missing" in reason for reason in reasons)
    assert not card.tried


def job(**changes: Any) -> Job:
    config = small_sweep.baseline().replace(batch_size=8, gradient_accumulation_steps=4, vocab_size=257)
    given = {"run": 1, "attempt": 1, "config": config, "data": Path("/d"), "out": Path("/o"), "device": "cuda:0"}
    return Job(**{**given, **changes})


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A card of 8 GiB, as torch would tell; micro-batches that were probed."""
    probed: list[int] = []

    def measure(config: TrainConfig, data: Path, *, card: str) -> Measured:
        assert (data, card) == (Path("/d"), "RTX")
        probed.append(config.batch_size)
        return Measured(batch_size=config.batch_size, tokens_per_s=100.0, peak_bytes=1 << 20, retries=0)

    monkeypatch.setattr(device, "resolve", lambda _: "cuda")
    monkeypatch.setattr(device, "memory_of", lambda _: DeviceMemory(free=8 << 30, total=8 << 30))
    monkeypatch.setattr(device, "precision", lambda *_: torch.bfloat16)
    monkeypatch.setattr(device, "card_name", lambda _: "RTX")
    monkeypatch.setattr(probe, "measure", measure)
    return probed


def test_a_worker_on_a_card_tries_the_largest_three_and_takes_the_smallest_as_fast(card: list[int]) -> None:
    asked = job()
    fitted = worker.fitted(asked.config.replace(device="cuda"), asked)
    assert card == [32, 16, 8]
    assert (fitted.batch_size, fitted.gradient_accumulation_steps) == (8, 4)


def test_a_worker_keeps_below_what_ran_out(card: list[int]) -> None:
    asked = job(largest=4)
    assert worker.fitted(asked.config.replace(device="cuda"), asked).batch_size == 1
    assert card == [4, 2, 1]


def test_a_cpu_takes_what_was_asked_for() -> None:
    asked = job(device="cpu")
    assert worker.fitted(asked.config.replace(device="cpu"), asked).batch_size == 8
