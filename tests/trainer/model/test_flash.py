"""Compiling for a card: one graph per shape, whatever the rates, and attention's kernels through a custom op.

The kernels need a card (test_cuda). Here dense attention with the same signature replaces them, and the shapes of the
real kernels come from the meta device.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.config import TrainConfig
from trainer.model import flash, gpt
from trainer.model.gpt import GPT, Dropout

CONFIG = TrainConfig(
    n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=31, batch_size=2, gradient_accumulation_steps=1,
    learning_rate=1e-3, min_lr=1e-4, warmup_iters=1, lr_decay_iters=4, max_iters=4, eval_interval=1,
)  # fmt: skip
B, H, T, D = 2, 3, 5, 8


def softmax(q: Tensor, k: Tensor) -> Tensor:
    future = torch.full((q.shape[2], q.shape[2]), -math.inf, dtype=q.dtype).triu_(1)
    return torch.softmax(q @ k.transpose(2, 3) * q.shape[3] ** -0.5 + future, dim=-1)


def dense(q: Tensor, k: Tensor, v: Tensor, kept: Tensor, p: float) -> Tensor:
    return (softmax(q, k) * kept / (1 - p)) @ v


def mask(q: Tensor, seed: Tensor, p: float) -> Tensor:
    generator = torch.Generator().manual_seed(int(seed[0].item()))
    return torch.rand(q.shape[0], q.shape[1], q.shape[2], q.shape[2], generator=generator) >= p


def forward_kernel(q: Tensor, k: Tensor, v: Tensor, p: float, causal: bool) -> tuple[Any, ...]:
    assert causal
    seed = torch.stack([torch.randint(2**31, ()), torch.zeros((), dtype=torch.int64)]).to(torch.uint64)
    y = dense(q, k, v, mask(q, seed, p), p)
    nothing = torch.zeros((), dtype=torch.uint64)
    return y, y.new_zeros(q.shape[:3], dtype=torch.float32), None, None, T, T, seed, nothing, y.new_empty(0)


def backward_kernel(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    _y, _logsumexp, cum_q, cum_k, _max_q, _max_k, p, causal, seed, _offset = rest
    assert (cum_q, cum_k, causal) == (None, None, True)
    # written out, since autograd doesn't record inside a backward pass
    weights, scale = softmax(q, k), q.shape[3] ** -0.5
    dropped = mask(q, seed, p) / (1 - p)
    dv = (weights * dropped).transpose(2, 3) @ gradient
    d = gradient @ v.transpose(2, 3) * dropped
    d = weights * (d - (d * weights).sum(dim=-1, keepdim=True)) * scale
    return d @ k, d.transpose(2, 3) @ q, dv


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flash, "_forward_kernel", forward_kernel)
    monkeypatch.setattr(flash, "_backward_kernel", backward_kernel)


def heads(dtype: torch.dtype = torch.float64, device: str = "cpu") -> list[Tensor]:
    """Return q, k, v as in the model: views of one tensor, token by token."""
    qkv = torch.randn(B, T, 3, H, D, dtype=dtype, device=device)
    return [part.transpose(1, 2).detach().requires_grad_() for part in qkv.unbind(2)]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_attention_and_its_gradients_are_those_of_one_mask(p: float) -> None:
    parts, weight = heads(), torch.randn(B, H, T, D, dtype=torch.float64)
    torch.manual_seed(3)
    y = flash.flash_attention(*parts, torch.tensor(p, dtype=torch.float64))
    torch.manual_seed(3)
    seed = torch.randint(2**31, ())[None]
    expected = dense(*parts, mask(parts[0], seed, p), p)
    assert torch.allclose(y, expected)
    gradients = torch.autograd.grad((y * weight).sum(), parts)
    expected_gradients = torch.autograd.grad((expected * weight).sum(), parts)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert torch.allclose(gradient, expected_gradient)
        assert gradient.transpose(1, 2).is_contiguous()


@pytest.mark.usefixtures("kernels")
def test_the_op_passes_torchs_checks() -> None:
    """The checks of its schema, its autograd, and its shapes without data."""
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(flash._forward, (*heads(torch.float32), torch.tensor(0.2)), test_utils=checks)


def test_shapes_without_data_are_those_of_torchs_kernels() -> None:
    q, k, v = (part.detach() for part in heads(torch.bfloat16, "meta"))
    rate = torch.tensor(0.2, device="cpu")
    outputs, fakes = flash._forward._init_fn(q, k, v, rate), flash._fake_forward(q, k, v, rate)
    gradients = flash._backward._init_fn(outputs[0], q, k, v, *outputs, rate)
    fake_gradients = flash._fake_backward(outputs[0], q)
    for ours, theirs in ((fakes, outputs), (fake_gradients, gradients)):
        assert [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in ours] == [
            (tensor.shape, tensor.stride(), tensor.dtype) for tensor in theirs
        ]


@pytest.mark.parametrize(
    ("changed", "taken"),
    [
        ({}, True),
        ({"is_cuda": False}, False),
        ({"dtype": torch.float16}, False),
        ({"dtype": torch.float32}, False),
        ({"shape": (B, H, T, 12)}, False),
        ({"shape": (B, H, T, 200)}, False),
        ({"shape": (B, H, T, 192)}, True),
    ],
)
def test_queries_that_the_kernels_take(changed: dict[str, Any], taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    q: Any = SimpleNamespace(**{"is_cuda": True, "dtype": torch.bfloat16, "shape": (B, H, T, 64), **changed})
    monkeypatch.setattr(flash, "_BUILT", True)
    assert flash.takes(q) == taken
    monkeypatch.setattr(flash, "_BUILT", False)
    assert not flash.takes(q)


class Graphs:
    """A backend that counts the graphs it compiles and runs them unchanged."""

    def __init__(self) -> None:
        self.compiled = 0

    def __call__(self, graph: torch.fx.GraphModule, examples: list[Tensor]) -> Any:
        from torch._dynamo.backends.debugging import aot_eager

        self.compiled += 1
        return aot_eager(graph, examples)


@pytest.fixture
def graphs() -> Graphs:
    torch._dynamo.reset()
    return Graphs()


@pytest.fixture
def on_a_card(kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the model take a card's paths."""
    monkeypatch.setattr(gpt, "_uses_cpu_kernels", lambda *_: False)
    monkeypatch.setattr(flash, "takes", lambda _: True)


def step(graphs: Graphs, config: TrainConfig, smoothing: float | Tensor = 0.0) -> Tensor:
    torch.manual_seed(config.seed)
    model = GPT(config).train()
    x, y = torch.randint(config.vocab_size, (2, 2, config.block_size)).unbind()
    loss: Tensor = torch.compile(model, backend=graphs, dynamic=False)(x, y, label_smoothing=smoothing)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
    return loss


@pytest.mark.usefixtures("on_a_card")
def test_a_shape_is_compiled_once_whatever_the_rates(graphs: Graphs) -> None:
    losses = [
        step(graphs, CONFIG.replace(dropout=p, seed=seed, learning_rate=rate), torch.tensor(smoothing))
        for p, seed, rate, smoothing in ((0.1, 1, 1e-3, 0.1), (0.25, 2, 2e-3, 0.2), (0.5, 3, 1e-4, 0.3))
    ]
    assert graphs.compiled == 1
    assert len({loss.item() for loss in losses}) == 3
    step(graphs, CONFIG.replace(dropout=0.1))  # another graph: no label smoothing
    step(graphs, CONFIG)  # another graph: no dropout
    assert graphs.compiled == 3
    step(graphs, CONFIG.replace(seed=4))
    step(graphs, CONFIG.replace(dropout=0.3))
    assert graphs.compiled == 3


@pytest.mark.usefixtures("on_a_card")
def test_a_compiled_model_without_dropout_is_the_eager_one(graphs: Graphs) -> None:
    compiled = step(graphs, CONFIG, torch.tensor(0.2))
    torch.manual_seed(CONFIG.seed)
    model = GPT(CONFIG).train()
    x, y = torch.randint(CONFIG.vocab_size, (2, 2, CONFIG.block_size)).unbind()
    logits = model.lm_head(model.hidden(x)).flatten(0, 1)
    assert compiled.item() == pytest.approx(F.cross_entropy(logits, y.flatten(), label_smoothing=0.2).item(), rel=1e-6)


@pytest.mark.usefixtures("on_a_card")
def test_compiled_dropout_keeps_the_mean_and_one_mask_for_both_passes(graphs: Graphs) -> None:
    x = torch.full((400, 500), 2.0, requires_grad=True)
    for p in (0.1, 0.35):
        compiled = torch.compile(Dropout(CONFIG.replace(dropout=p)).train(), backend=graphs, dynamic=False)
        y = compiled(x)
        assert torch.unique(y).tolist() == pytest.approx([0.0, 2 / (1 - p)])
        kept = (y != 0).double()
        # 200 000 draws: five standard errors
        assert abs(kept.mean().item() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / kept.numel())
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert torch.equal(gradient, y / 2)
    assert graphs.compiled == 1
