"""The check of flash attention: what passes, what each kind of fault is called, and that the plain way is taken then.

The attention under test is torch's, on the CPU in float32. The kernels themselves need a card (test_cuda).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.helpers.data_folders import random_walk_folder
from trainer.config import TrainConfig
from trainer.model import flash
from trainer.points import Answer
from trainer.run import fast_paths, loop
from trainer.run.fast_paths import fault_of

CONFIG = TrainConfig(
    n_layer=1, n_head=2, n_embd=16, block_size=8, batch_size=2, gradient_accumulation_steps=1, learning_rate=1e-3,
    min_lr=1e-4, warmup_iters=1, lr_decay_iters=4, max_iters=4, eval_interval=2, dropout=0.1, device="cpu",
)  # fmt: skip
CUDA = torch.device("cuda")


def right(q: Tensor, k: Tensor, v: Tensor, rate: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, dropout_p=rate.item(), is_causal=True)


class MaskOfValues(torch.autograd.Function):
    """M v, with another mask in dv than in the output."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, v: Tensor, rate: float) -> Tensor:
        ctx.save_for_backward(F.dropout(weights, rate), v)
        return F.dropout(weights, rate) @ v

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        weights, v = ctx.saved_tensors
        return gradient @ v.transpose(2, 3), weights.transpose(2, 3) @ gradient, None


def softmax(q: Tensor, k: Tensor, *, causal: bool = True) -> Tensor:
    scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    allowed = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril_()
    return torch.softmax(scores.masked_fill(~allowed, -torch.inf) if causal else scores, dim=-1)


def unmasked(q: Tensor, k: Tensor, v: Tensor, rate: Tensor) -> Tensor:
    return F.dropout(softmax(q, k, causal=False), rate.item()) @ v


def never_dropping(q: Tensor, k: Tensor, v: Tensor, rate: Tensor) -> Tensor:
    return softmax(q, k) @ v


def unscaled(q: Tensor, k: Tensor, v: Tensor, rate: Tensor) -> Tensor:
    return right(q, k, v, rate) * (1 - rate)


def another_mask(q: Tensor, k: Tensor, v: Tensor, rate: Tensor) -> Tensor:
    y: Tensor = MaskOfValues.apply(softmax(q, k), v, rate.item())  # type: ignore[no-untyped-call]
    return y


def no_gradient_of_keys(q: Tensor, k: Tensor, v: Tensor, rate: Tensor) -> Tensor:
    return right(q, k * 0.5 + k.detach() * 0.5, v, rate)


def not_a_number(q: Tensor, k: Tensor, v: Tensor, rate: Tensor) -> Tensor:
    return right(q, k, v, rate) * torch.nan


def raising(q: Tensor, k: Tensor, v: Tensor, rate: Tensor) -> Tensor:
    raise RuntimeError("no kernel image is available\nfor execution on the device")


def without_gradient(q: Tensor, k: Tensor, v: Tensor, rate: Tensor) -> Tensor:
    return right(q.detach(), k.detach(), v.detach(), rate)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_that_is_right_has_no_fault(dtype: torch.dtype) -> None:
    assert fault_of(right, device="cpu", dtype=dtype) == ""


@pytest.mark.parametrize(
    ("attention", "said"),
    [
        (unmasked, "its output differs from plain attention by"),
        (not_a_number, "its output differs from plain attention by nan"),
        (no_gradient_of_keys, "dk differs from plain attention by 0.5 of its norm, more than 0.02"),
        (never_dropping, "with dropout 0.25 a row's weights are 1.00 in sum, sd 0.00"),
        (unscaled, "with dropout 0.25 a row's weights are 0.7"),
        (another_mask, "with dropout 0.25 its gradient has another mask"),
        (raising, "RuntimeError: no kernel image is available"),
        (without_gradient, "RuntimeError: element 0 of tensors does not require grad"),
    ],
)
def test_a_fault_is_named(attention: Callable[..., Tensor], said: str) -> None:
    fault = fault_of(attention, device="cpu", dtype=torch.float32)
    assert fault.startswith(said)
    assert "\n" not in fault


def test_the_check_leaves_the_random_state_as_it_was() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    fault_of(right, device="cpu", dtype=torch.float32)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has checked nothing yet, with Triton."""
    monkeypatch.setattr(flash, "_trusted", True)
    monkeypatch.setattr(fast_paths.importlib.util, "find_spec", lambda name: name == "triton" or None)
    fast_paths._fault_on.cache_clear()
    yield
    fast_paths._fault_on.cache_clear()


@pytest.mark.usefixtures("trusting")
def test_a_fault_is_found_once_and_the_plain_way_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checks = []

    def faulty(attention: Any, *, device: str, dtype: torch.dtype) -> str:
        checks.append((attention, device, dtype))
        return "its output differs"

    monkeypatch.setattr(fast_paths, "fault_of", faulty)
    for _ in range(3):
        (said,) = fast_paths.fallbacks(CONFIG, CUDA, torch.bfloat16)
        assert said == "torch's attention instead of flash attention with dropout as an input: its output differs"
    assert checks == [(flash.flash_attention, "cuda", torch.bfloat16)]
    assert not flash._trusted
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize(
    ("config", "device", "precision", "checked"),
    [
        (CONFIG, CUDA, torch.bfloat16, True),
        (CONFIG.replace(dropout=0.0), CUDA, torch.bfloat16, False),
        (CONFIG.replace(compile=False), CUDA, torch.bfloat16, False),
        (CONFIG.replace(sampling="nanogpt"), CUDA, torch.bfloat16, False),
        (CONFIG.replace(dtype="float16"), CUDA, torch.float16, False),
        (CONFIG.replace(dtype="float32"), CUDA, None, False),
        (CONFIG, torch.device("cpu"), None, False),
    ],
)
def test_it_is_checked_where_it_would_be_used(
    monkeypatch: pytest.MonkeyPatch, config: TrainConfig, device: torch.device, precision: Any, checked: bool
) -> None:
    monkeypatch.setattr(fast_paths, "fault_of", lambda *_, **__: "a fault")
    assert bool(fast_paths.fallbacks(config, device, precision)) is checked
    assert flash._trusted is not checked


@pytest.mark.parametrize(
    ("precision", "said"),
    [
        (torch.float16, ("float16 instead of bfloat16, which the card doesn't have",)),
        (None, ("float32 instead of bfloat16, which the card doesn't have",)),
        (torch.bfloat16, ()),
    ],
)
def test_another_type_than_asked_for_is_said(precision: Any, said: tuple[str, ...]) -> None:
    config = CONFIG.replace(dropout=0.0, compile=False)
    assert fast_paths.fallbacks(config, CUDA, precision) == said
    assert fast_paths.fallbacks(config, torch.device("cpu"), None) == ()


@pytest.mark.usefixtures("trusting")
def test_without_triton_a_run_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fast_paths.compiles(CONFIG, CUDA)
    monkeypatch.setattr(fast_paths.importlib.util, "find_spec", lambda _: None)
    assert not fast_paths.compiles(CONFIG, CUDA)
    assert fast_paths.fallbacks(CONFIG, CUDA, torch.bfloat16) == (
        "not compiled: torch.compile needs Triton, which is not installed here",
    )
    assert not fast_paths.compiles(CONFIG.replace(compile=False), CUDA, triton=True)
    assert not fast_paths.compiles(CONFIG, torch.device("cpu"), triton=True)


def test_a_result_says_what_was_done_the_plain_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(loop.fast_paths, "fallbacks", lambda *_: ("a sentence",))
    data = random_walk_folder(tmp_path / "data", tokens=4000)
    assert loop.train(CONFIG, data, lambda _: Answer.GO).fallbacks == ("a sentence",)
    assert loop.train(CONFIG, data, lambda _: Answer.STOP).fallbacks == ("a sentence",)
