"""Sweeps on a simulated card of too little memory: trials go on in smaller micro-batches or are infeasible."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from optuna.trial import TrialState
from typer.testing import CliRunner

from sweeps import cli
from sweeps.analysis.findings import Findings
from sweeps.engine import session
from sweeps.study.study import Study
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
    """Return the bytes that training at this width is estimated to need."""
    config = small_sweep.baseline().replace(
        n_embd=width, batch_size=batch, gradient_accumulation_steps=accumulation, compile=False
    )
    return needed(config, kind="cuda", mixed=True).total


class FakeCard:
    """Work by a closed form (wider is better), after two steps of the real model have fitted into `capacity` bytes.

    The worker's estimate assumes `believed` bytes. So it can promise too much, as on a real card.
    """

    def __init__(self, capacity: int, believed: int) -> None:
        self.capacity, self.believed = capacity, believed
        self.tried: list[tuple[int, int, int]] = []
        """(run, attempt, micro-batch)"""
        self._errors: dict[TrainConfig, str] = {}

    def __call__(self, job: Job, report: Report) -> Result:
        config = job.config.replace(compile=False)
        try:
            splits = microbatch.fitting(config, kind="cuda", mixed=True, free=self.believed, largest=job.largest)
        except Infeasible as error:
            return Result(outcome="infeasible", step=0, points=(), reason=f"out of memory: {error}")
        split = splits[0]
        self.tried.append((job.run, job.attempt, split.batch_size))
        error = self._error(split)
        if error:
            reason = f"out of memory: {error}"
            return Result(outcome="oom", step=0, points=(), reason=reason, batch_size=split.batch_size)
        gain = job.config.n_embd / 1000

        def lowered(point: Point) -> Any:
            return report(dataclasses.replace(point, val_loss=point.val_loss - gain))

        result = fake_training.train(job, lowered)
        final = None if result.val_loss is None else result.val_loss - gain
        return dataclasses.replace(result, val_loss=final, batch_size=split.batch_size)

    def _error(self, split: TrainConfig) -> str:
        """Make two steps of the model, once per shape. Return torch's error, empty if they fit."""
        shape = split.replace(dropout=0.1 if split.dropout else 0.0, seed=0)
        if shape not in self._errors:
            try:
                train_steps(shape, FakeGPU(self.capacity), dtype=torch.bfloat16)
                self._errors[shape] = ""
            except torch.OutOfMemoryError as error:
                self._errors[shape] = str(error)
        return self._errors[shape]


def study(**changes: Any) -> Study:
    """Return a study of widths and dropout: 36 trials of TPE in micro-batches of up to 8."""
    baseline = {**small_sweep.study().baseline, "n_embd": 32, "batch_size": 8, "n_head": 1}
    fields = {"baseline": baseline, "knobs": KNOBS, "baseline_seeds": 1, "trials": 36, "sampler": {"type": "tpe"}}
    return small_sweep.study(**{**fields, **changes})


CAPACITY = (peak(64, 1, 8) + peak(80, 1, 8)) // 2


def test_the_two_widest_shapes_are_infeasible_and_run_no_more_than_once(tmp_path: Path) -> None:
    watcher, card = small_sweep.Watcher(), FakeCard(CAPACITY, believed=4 * CAPACITY)
    summary = small_sweep.sweep(tmp_path, study(), work=card, observer=watcher)
    results = small_sweep.results_in(tmp_path)
    assert summary.finished
    assert {run.config.n_embd for run in results.runs if run.outcome == "infeasible"} == {80, 96}
    assert {run.config.n_embd for run in results.runs if run.outcome == "complete"} == {32, 48, 64}
    infeasible = [run for run in results.runs if run.outcome == "infeasible"]
    assert all("out of memory" in run.reason for run in infeasible)
    lines = verdict(Findings(results)).lines
    assert any("Infeasible: trial" in line and "with n_layer 1 and n_embd 80 (" in line for line in lines)
    # later proposals of a shape that doesn't fit are refused, and another is asked for
    shapes = [shape_of(run.config) for run in infeasible]
    assert len(shapes) == len(set(shapes))
    assert sum(run.phase == "search" for run in results.runs) == 36
    trials = small_sweep.optuna_trials_in(tmp_path)
    refused = [
        trial for trial in trials if "ran out of memory in an earlier trial" in str(trial.user_attrs.get("label"))
    ]
    assert len(trials) == 36 + 1 + len(refused)  # the search's, the baseline, and those refused
    assert refused
    assert all(trial.state is TrialState.PRUNED and trial.constraints for trial in refused)


def test_the_command_names_the_infeasible_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole `sweep run` with a worker process; only the card is simulated."""
    small = study().model_dump(mode="json", include={"baseline", "knobs", "horizon", "evaluations", "final_windows"})
    small |= {"name": "small", "baseline_seeds": 1, "trials": 4, "confirm": {"max_trials": 0}}
    small["baseline"] |= {"batch_size": 1}  # can't be split, so each worker that runs out of memory is replaced
    small |= {"workers": {"devices": ["cuda:0"]}, "candidates": [{"n_embd": 80, "dropout": 0.1}]}
    file, bins = tmp_path / "small.yaml", random_walk_folder(tmp_path / "bins", vocab_size=257)
    file.write_text(yaml.safe_dump(small), encoding="utf-8")
    # the estimate promises too much for width 80, and not for 96
    card = FakeCard((peak(64, 1, 1) + peak(80, 1, 1)) // 2, believed=peak(96, 1, 1))
    monkeypatch.setattr(session, "ProcessPool", functools.partial(ProcessPool, work=card))

    command = ["run", str(file), "--data", str(bins.path), "--out", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(cli.app, command)

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["trials"]["infeasible"] == 2
    infeasible = [run for run in small_sweep.results_in(tmp_path / "out").runs if run.outcome == "infeasible"]
    assert {run.config.n_embd for run in infeasible} == {80, 96}
    shown = CliRunner().invoke(cli.app, ["verdict", str(tmp_path / "out"), "--full"]).stdout
    assert "n_embd 32 → 96 did not fit in memory" in shown
    assert "Advice n_embd 80, dropout 0.1 did not fit in memory" in shown
    reasons = {run.config.n_embd: run.reason for run in infeasible}
    assert "CUDA out of memory" in reasons[80]
    assert "MiB are missing" in reasons[96]


def test_a_trial_out_of_memory_goes_on_in_smaller_micro_batches_and_later_trials_start_with_them(
    tmp_path: Path,
) -> None:
    capacity = peak(32, 2, 4) + 1000
    card, watcher = FakeCard(capacity, believed=100 * capacity), small_sweep.Watcher()
    small_sweep.sweep(tmp_path, study(knobs={"dropout": KNOBS["dropout"]}, trials=2), work=card, observer=watcher)
    results = small_sweep.results_in(tmp_path)
    assert {run.outcome for run in results.runs} == {"complete"}
    first = [size for run, _, size in card.tried if run == results.runs[0].id]
    assert first == [8, 4, 2]
    assert [attempt for run, attempt, _ in card.tried if run == results.runs[0].id] == [1, 2, 3]
    same_shape = [run.id for run in results.runs if run.config.dropout == 0]
    assert all(size == 2 for run, _, size in card.tried if run in same_shape[1:])
    assert any("out of memory with micro-batches of 8; it continues with 4" in note for note in watcher.notes)


def test_the_missing_memory_is_named_if_the_estimate_foresees_it(tmp_path: Path) -> None:
    card = FakeCard(1, believed=1 << 17)
    small_sweep.sweep(tmp_path, study(trials=1), work=card)
    reasons = [run.reason for run in small_sweep.results_in(tmp_path).runs]
    assert all("MiB are missing" in reason for reason in reasons)
    assert not card.tried


# a worker's choice of its micro-batch


def job(**changes: Any) -> Job:
    config = small_sweep.baseline().replace(batch_size=8, gradient_accumulation_steps=4, vocab_size=257)
    fields = {"run": 1, "attempt": 1, "config": config, "data": Path("/d"), "out": Path("/o"), "device": "cuda:0"}
    return Job(**{**fields, **changes})


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Simulate a card of 8 GiB. Return the micro-batches that are probed on it, all of which are equally fast."""
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


def test_a_cards_worker_probes_the_three_largest_and_takes_the_smallest_that_is_as_fast(card: list[int]) -> None:
    request = job()
    fitted = worker.fitted(request.config.replace(device="cuda"), request)
    assert card == [32, 16, 8]
    assert (fitted.batch_size, fitted.gradient_accumulation_steps) == (8, 4)


def test_a_worker_stays_below_the_micro_batch_that_ran_out_of_memory(card: list[int]) -> None:
    request = job(largest=4)
    assert worker.fitted(request.config.replace(device="cuda"), request).batch_size == 1
    assert card == [4, 2, 1]


def test_a_cpu_worker_keeps_the_configs_micro_batch() -> None:
    request = job(device="cpu")
    assert worker.fitted(request.config.replace(device="cpu"), request).batch_size == 8
