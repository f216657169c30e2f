"""The probe: measuring a micro-batch in a process of its own, and the cache of its measurements."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.helpers.data_folders import random_walk_folder
from trainer.config import TrainConfig
from trainer.machine import cache
from trainer.machine.microbatch import Measured
from trainer.run import probe
from trainer.run.probe import ITERATIONS, ProbeFailed

CONFIG = TrainConfig(
    n_layer=1, n_head=1, n_embd=16, block_size=16, vocab_size=64, batch_size=2, gradient_accumulation_steps=4,
    eval_windows=4, max_iters=500, warmup_iters=3, lr_decay_iters=500, device="cpu",
)  # fmt: skip
MEASURED = Measured(batch_size=2, tokens_per_s=1234.5, peak_bytes=99, retries=0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_probe_trains_in_another_process(tmp_path: Path) -> None:
    data = random_walk_folder(tmp_path / "data", tokens=5000)
    measured = probe.measure(CONFIG.replace(vocab_size=data.vocab_size), data.path, card="none")
    assert measured.batch_size == 2
    assert measured.tokens_per_s is not None
    assert measured.tokens_per_s > 0
    assert measured.retries == 0


def test_a_failure_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ProbeFailed, match=r"micro-batch of 2 ended with 1:(.|\n)*nowhere"):
        probe.measure(CONFIG, tmp_path / "nowhere", card="none")


def test_a_measurement_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[TrainConfig] = []

    def once(config: TrainConfig, data: Path) -> Measured:
        calls.append(config)
        return MEASURED

    monkeypatch.setattr(probe, "_measure_in_a_process", once)
    for config in (CONFIG, CONFIG, CONFIG.replace(learning_rate=1e-2, seed=4, max_iters=900, lr_decay_iters=900)):
        assert probe.measure(config, Path("/d"), card="A") == MEASURED
    assert probe.cached(CONFIG, card="A") == MEASURED
    assert len(calls) == 1
    others = [
        CONFIG.replace(n_embd=32),
        CONFIG.replace(batch_size=4, gradient_accumulation_steps=2),
        CONFIG.replace(dropout=0.1),
        CONFIG.replace(dtype="float16"),
        CONFIG.replace(compile=False),
        CONFIG.replace(gradient_accumulation_steps=1),
    ]
    for other in others:
        assert probe.cached(other, card="A") is None
    assert probe.cached(CONFIG, card="B") is None


@pytest.mark.parametrize(
    "measured", [dataclasses.replace(MEASURED, tokens_per_s=None), dataclasses.replace(MEASURED, retries=1)]
)
def test_a_lack_of_memory_is_not_cached(monkeypatch: pytest.MonkeyPatch, measured: Measured) -> None:
    """Another process may have taken the memory."""
    monkeypatch.setattr(probe, "_measure_in_a_process", lambda *_: measured)
    assert probe.measure(CONFIG, Path("/d"), card="A") == measured
    assert probe.cached(CONFIG, card="A") is None


@pytest.mark.parametrize("broken", ["", "{", "[1]", '{"key": {}, "value": {}}'])
def test_a_broken_cache_counts_as_missing(monkeypatch: pytest.MonkeyPatch, folder: Path, broken: str) -> None:
    monkeypatch.setattr(probe, "_measure_in_a_process", lambda *_: MEASURED)
    probe.measure(CONFIG, Path("/d"), card="A")
    (file,) = folder.iterdir()
    file.write_text(broken)
    assert probe.cached(CONFIG, card="A") is None
    assert probe.measure(CONFIG, Path("/d"), card="A") == MEASURED


def test_a_folder_that_cant_be_written_caches_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv(cache.FOLDER, str(blocked))
    cache.save("probe", {"a": 1}, {"b": 2})
    assert cache.load("probe", {"a": 1}) is None


def test_the_short_run_accumulates_and_cant_diverge() -> None:
    short = probe.short_run(CONFIG)
    assert (short.batch_size, short.gradient_accumulation_steps) == (2, 2)
    assert short.max_iters == 2 * ITERATIONS
    assert short.learning_rate == 1e-6
    assert probe.short_run(CONFIG.replace(gradient_accumulation_steps=1)).gradient_accumulation_steps == 1
