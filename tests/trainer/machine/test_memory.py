"""The closed form of memory against a trace of the trainer's model on the meta device, and against a real log."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from tests.helpers.fake_gpu import FakeGPU, evaluate, train_steps
from trainer.config import TrainConfig
from trainer.machine.memory import needed

MIB = 2**20


def config(*, heads: int, **changes: Any) -> TrainConfig:
    settings = {"n_head": heads, "gradient_accumulation_steps": 1, "compile": False, **changes}
    return TrainConfig(**settings)


def traced(config: TrainConfig, *, device: str = "meta", dtype: torch.dtype | None = None) -> int:
    """Return the most bytes alive at once in the second of two steps, when the moments exist."""
    card = FakeGPU()
    train_steps(config, card, device=device, dtype=dtype)
    return card.peak


SHAPES = [
    # layers, width, heads, micro-batch, context, vocabulary
    (1, 64, 4, 8, 64, 1000),
    (2, 768, 12, 1, 256, 50304),  # the embedding's gradients dominate
    (2, 256, 8, 8, 64, 256),  # a small vocabulary: the peak is in a block
    (4, 128, 4, 32, 128, 1000),
    (6, 384, 6, 2, 1024, 50304),
    (12, 384, 12, 4, 256, 4000),
    (12, 768, 12, 1, 64, 1000),  # a small micro-batch: the peak is at the end
    (5, 1024, 16, 2, 256, 50304),
]


def of_shape(shape: tuple[int, ...], **changes: Any) -> TrainConfig:
    """Return a config with a shape from SHAPES."""
    names = ("n_layer", "n_embd", "heads", "batch_size", "block_size", "vocab_size")
    return config(**dict(zip(names, shape, strict=True)), **changes)


BFLOAT16 = torch.bfloat16
KINDS = [
    # dtype, accumulation, bias, dropout
    (BFLOAT16, 1, False, 0.0),
    (None, 2, False, 0.0),
    (BFLOAT16, 2, True, 0.0),
    (BFLOAT16, 1, False, 0.1),
    (None, 1, True, 0.1),
]
GRID = [(SHAPES[i % len(SHAPES)], KINDS[i % len(KINDS)]) for i in range(len(SHAPES) * len(KINDS))]
"""every shape with every kind, since their counts have no common divisor"""


@pytest.mark.parametrize(("shape", "kind"), GRID, ids=str)
def test_the_form_is_within_1_per_cent_of_a_trace_and_2_with_dropout(
    shape: tuple[int, ...], kind: tuple[torch.dtype | None, int, bool, float]
) -> None:
    dtype, accumulation, bias, dropout = kind
    shaped = of_shape(shape, gradient_accumulation_steps=accumulation, bias=bias, dropout=dropout)
    form, peak = needed(shaped, kind="cuda", mixed=dtype is not None).total, traced(shaped, dtype=dtype)
    assert form == pytest.approx(peak, rel=0.02 if dropout else 0.01)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [BFLOAT16, None])
def test_an_evaluation_takes_no_more_than_the_form(shape: tuple[int, ...], dtype: torch.dtype | None) -> None:
    shaped, card = of_shape(shape), FakeGPU()
    evaluate(shaped, card, dtype=dtype)
    assert card.peak <= needed(shaped.replace(compile=True), kind="cuda", mixed=dtype is not None).total * 1.001


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[4]], ids=str)  # the second evaluates its logits in two parts
def test_an_evaluation_is_the_peak_of_a_small_compiled_model(shape: tuple[int, ...]) -> None:
    shaped, card = of_shape(shape), FakeGPU()
    evaluate(shaped, card, dtype=BFLOAT16)
    compiled = needed(shaped.replace(compile=True), kind="cuda", mixed=True).total
    assert compiled == pytest.approx(card.peak, rel=0.001)
    assert compiled < needed(shaped, kind="cuda", mixed=True).total  # uncompiled, a step needs more


def test_a_real_log() -> None:
    """124M parameters, compiled, bfloat16, 32 x 1024 tokens on an RTX 4090: 18 885 MiB allocated."""
    gpt2 = TrainConfig(
        n_layer=12, n_head=12, n_embd=768, block_size=1024, vocab_size=50304, batch_size=32,
        gradient_accumulation_steps=16, compile=True,
    )  # fmt: skip
    assert needed(gpt2, kind="cuda", mixed=True).total / MIB == pytest.approx(18_885, rel=0.03)


@pytest.mark.parametrize(
    ("width", "heads", "batch", "eager", "compiled"),
    [(384, 12, 4, 3720, 2148), (384, 12, 16, 12775, 6487), (768, 12, 4, 5809, 4237), (768, 12, 16, 16834, 10546)],
)
def test_published_figures(width: int, heads: int, batch: int, eager: int, compiled: int) -> None:
    """MiB for 12 layers, context 1024 and vocabulary 50304, bfloat16, with gradient accumulation."""
    uncompiled = config(n_layer=12, n_embd=width, heads=heads, block_size=1024, vocab_size=50304, batch_size=batch)
    uncompiled = uncompiled.replace(gradient_accumulation_steps=2)
    assert needed(uncompiled, kind="cuda", mixed=True).total / MIB == pytest.approx(eager, abs=1)
    fused = uncompiled.replace(compile=True)
    assert needed(fused, kind="cuda", mixed=True).total / MIB == pytest.approx(compiled, abs=1)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(("context", "vocabulary"), [(64, 512), (128, 4000), (300, 1000)])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_cpu_takes_no_more_than_the_form_and_not_much_less(
    dropout: float, context: int, vocabulary: int, accumulation: int
) -> None:
    on_cpu = config(
        n_layer=3,
        n_embd=64,
        heads=4,
        batch_size=8,
        block_size=context,
        vocab_size=vocabulary,
        gradient_accumulation_steps=accumulation,
        dropout=dropout,
        device="cpu",
    )
    peak, form = traced(on_cpu, device="cpu"), needed(on_cpu, kind="cpu", mixed=False).total
    assert 0.97 * form <= peak * 1.05
    assert peak <= 1.02 * form


def test_terms_are_named_and_add_up() -> None:
    small = config(n_layer=2, n_embd=64, heads=2, batch_size=4, block_size=32, vocab_size=100)
    memory = needed(small, kind="cuda", mixed=True)
    assert memory.total == sum(dataclasses.asdict(memory).values())
    assert memory.moments == 2 * memory.weights
