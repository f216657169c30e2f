"""The check of a card, without one: its steps on the CPU, its clock, and what counts as failed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn import functional as F

from benchmarks.speed import gpu_check
from benchmarks.speed.gpu_check import Line, Step, lines_of
from benchmarks.speed.throughput import random_tokens
from trainer.model import flash
from trainer.points import Result

SMALL = gpu_check.CASE.replace(
    n_layer=1, n_head=2, n_embd=16, block_size=8, vocab_size=50, batch_size=2, eval_windows=2, final_windows=2
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return random_tokens(tmp_path / "data", SMALL.vocab_size)


def test_a_step_without_enough_time_is_left_out_and_said_so() -> None:
    now = 0.0

    def taking(name: str, seconds: float, *, needs: float) -> Step:
        def run(left: float) -> Iterator[Line]:
            nonlocal now
            now += seconds
            yield Line(step=name, text=f"{left:.0f} s were left")

        return Step(name=name, seconds=needs, run=run)

    steps = [taking("a", 100, needs=100), taking("b", 9, needs=21), taking("c", 9, needs=20)]
    assert [(line.step, line.text) for line in lines_of(steps, seconds=120, clock=lambda: now)] == [
        ("a", "120 s were left"),
        ("b", "left out: it may take 21 s, and 20 s are left"),
        ("c", "20 s were left"),
    ]


def test_all_steps_may_take_eight_minutes_together() -> None:
    steps = gpu_check.steps(Path("data"))
    assert [step.name for step in steps] == [
        "card",
        "tests",
        "flash attention",
        "dropout 0.1",
        "dropout 0",
        "other rates",
    ]
    assert sum(step.seconds for step in steps) <= 480


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_both_loops_are_timed_on_the_same_tokens(data: Path, dropout: float) -> None:
    (line,) = gpu_check.training(SMALL.replace(dropout=dropout), data, device="cpu")
    assert line.step == f"dropout {dropout:g}"
    assert line.text.startswith("the trainer makes ")
    assert "of the peak), a plain loop" in line.text


def test_the_plain_loop_learns(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch is the same here, so its loss must fall."""
    batch = torch.randint(50, (2, 8)), torch.randint(50, (2, 8))
    losses: list[float] = []
    monkeypatch.setattr(gpu_check, "plain_batch", lambda *_: batch)
    forward = gpu_check.PlainGPT.forward

    def recorded(*arguments: Any) -> Any:
        loss = forward(*arguments)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(gpu_check.PlainGPT, "forward", recorded)
    steps = gpu_check.plain_steps(SMALL.replace(dropout=0.0, learning_rate=0.01), data, device="cpu", precision=None)
    for _ in range(40):
        next(steps)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("allocated", "failed"), [(950, False), (1000, False), (1049, False), (1051, True)])
def test_more_memory_than_the_margin_fails(allocated: int, failed: bool) -> None:
    line = gpu_check.memory_line("a", allocated=allocated << 20, planned=1000 << 20)
    assert line.failed is failed
    assert f"{allocated:,} MiB allocated at most, the plan says 1,000: {allocated / 1000:.3f}" in line.text


@pytest.mark.parametrize(("added", "failed"), [(0, False), (1, True)])
def test_a_graph_too_many_fails(data: Path, monkeypatch: pytest.MonkeyPatch, added: int, failed: bool) -> None:
    """The compiler is a fake: it makes two graphs for the shape, and `added` ones for another rate."""
    trained: list[tuple[float, float]] = []

    def fake_train(config: Any, *_: Any) -> Result:
        trained.append((config.dropout, config.learning_rate))
        counters["stats"]["unique_graphs"] += 2 if len(trained) == 1 else added
        return Result(outcome="complete", step=4, points=())

    monkeypatch.setattr(gpu_check, "train", fake_train)
    (line,) = gpu_check.other_rates(SMALL, data)
    assert line.failed is failed
    assert line.text.startswith(f"{added} more graphs")
    assert len(set(trained)) == 2


@pytest.mark.parametrize("wrong", [False, True])
def test_the_ops_fault_fails(monkeypatch: pytest.MonkeyPatch, wrong: bool) -> None:
    def attention(q: Any, k: Any, v: Any, rate: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=rate.item(), is_causal=not wrong)

    monkeypatch.setattr(flash, "flash_attention", attention)
    (line,) = gpu_check.flash_attention("cpu", torch.float32)
    assert line.failed is wrong
    assert ("differs from plain attention" in line.text) is wrong


@pytest.mark.parametrize(
    ("done", "text", "failed"),
    [
        ((0, "......\n8 passed in 9.00s\n"), "8 passed in 9.00s", False),
        ((1, "F\nFAILED tests/a.py::b - assert\n1 failed\n"), "FAILED tests/a.py::b - assert\n  1 failed", True),
        (None, "took more than 220 s", True),
    ],
)
def test_the_tests_are_summed_up(monkeypatch: pytest.MonkeyPatch, done: Any, text: str, failed: bool) -> None:
    def run(command: list[str], *, timeout: float, **_: Any) -> Any:
        assert command[1:5] == ["-m", "pytest", "-m", "cuda"]
        if done is None:
            raise subprocess.TimeoutExpired(command, timeout)
        return SimpleNamespace(returncode=done[0], stdout=done[1], stderr="")

    monkeypatch.setattr(gpu_check.subprocess, "run", run)
    assert list(gpu_check.tests(500.0)) == [Line(step="tests", text=text, failed=failed)]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch finds none here")
def test_memory_on_a_card_is_as_planned(tmp_path: Path) -> None:
    config = SMALL.replace(n_layer=4, n_head=4, n_embd=256, block_size=256, vocab_size=5000, batch_size=16)
    tokens = random_tokens(tmp_path / "large", config.vocab_size)
    assert not [line for line in gpu_check.training(config, tokens) if line.failed]
