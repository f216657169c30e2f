"""Written-out attention against torch's attention, finite differences and its definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.model import attention
from trainer.model.attention import causal_attention
from trainer.model.dropout import keep_mask


def torch_attention(qkv: Tensor, n_head: int) -> Tensor:
    B, T, C3 = qkv.shape
    q, k, v = (part.view(B, T, n_head, -1).transpose(1, 2) for part in qkv.split(C3 // 3, dim=2))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C3 // 3)


@pytest.mark.parametrize(("T", "n_head", "D"), [(1, 1, 4), (63, 2, 8), (64, 1, 4), (65, 3, 4), (200, 2, 16)])
def test_attention_equals_torchs(T: int, n_head: int, D: int) -> None:
    generator = torch.Generator().manual_seed(T)
    qkv = torch.randn(3, T, 3 * n_head * D, generator=generator, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(3, T, n_head * D, generator=generator, dtype=torch.float64)
    expected, actual = torch_attention(qkv, n_head), causal_attention(qkv, n_head=n_head, dropout=0.0)
    assert torch.allclose(actual, expected, atol=1e-12)
    (ours,) = torch.autograd.grad(actual, qkv, gradient)
    (theirs,) = torch.autograd.grad(expected, qkv, gradient)
    assert torch.allclose(ours, theirs, atol=1e-11)


@pytest.mark.parametrize("queries", [2, 3, 100])
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_gradients_are_those_of_finite_differences(monkeypatch: pytest.MonkeyPatch, queries: int, p: float) -> None:
    monkeypatch.setattr(attention, "QUERIES", queries)
    qkv = torch.randn(2, 7, 3 * 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)

    def same_masks(qkv: Tensor) -> Tensor:
        torch.manual_seed(9)
        return causal_attention(qkv, n_head=2, dropout=p)

    assert torch.autograd.gradcheck(same_masks, (qkv,))


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_all_heads_are_in_one_product(p: float) -> None:
    """torch silently multiplies a batch's matrices one by one if the result is a part of another tensor."""
    qkv = torch.randn(4, 130, 3 * 16, generator=torch.Generator().manual_seed(4), requires_grad=True)
    gradient = torch.randn(4, 130, 16, generator=torch.Generator().manual_seed(5))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        causal_attention(qkv, n_head=2, dropout=p).backward(gradient)
    calls = [event.name for event in profile.events() or ()]
    assert sum(name in ("aten::bmm", "aten::baddbmm", "aten::baddbmm_") for name in calls) == 6 * 3
    assert not {"aten::mm", "aten::addmm", "aten::addmm_"} & set(calls)


def test_dropout_acts_on_the_softmax() -> None:
    """By the definition of dropout, with the mask of the same draw."""
    T, D = 12, 4
    qkv = torch.randn(1, T, 3 * D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.manual_seed(7)
    actual = causal_attention(qkv, n_head=1, dropout=0.25)
    torch.manual_seed(7)
    mask = keep_mask((1, T, T), 192)
    q, k, v = qkv.split(D, dim=2)
    scores = (q @ k.transpose(1, 2) / math.sqrt(D)).masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
    expected = (scores.softmax(-1) * mask / 0.75) @ v
    assert torch.allclose(actual, expected, atol=1e-12)


def test_dropout_keeps_the_mean() -> None:
    qkv = torch.randn(1, 70, 3 * 8, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(8)
    draws = torch.stack([causal_attention(qkv, n_head=2, dropout=0.3) for _ in range(2000)])
    standard_error = draws.std(dim=0) / math.sqrt(len(draws))
    difference = (draws.mean(dim=0) - torch_attention(qkv, 2)).abs()
    assert float((difference / (standard_error + 1e-6)).max()) < 5.5
