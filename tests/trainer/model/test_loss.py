"""The fused loss against torch's cross-entropy and finite differences, with several sizes of chunks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from trainer.model import loss
from trainer.model.chunks import padded
from trainer.model.loss import linear_cross_entropy, token_losses


def parts(n: int, c: int, v: int, *, spread: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n * 31 + v)
    x = torch.randn(n, c, generator=generator, dtype=torch.float64) * spread
    weight = torch.randn(v, c, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), weight.requires_grad_(), torch.randint(v, (n,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("chunk", [4, 5, 100])
def test_gradients_are_those_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch, chunk: int, smoothing: float
) -> None:
    monkeypatch.setattr(loss, "CHUNK", chunk)
    x, weight, y = parts(10, 3, 7)

    def scaled(x: Tensor, weight: Tensor) -> Tensor:
        return 0.37 * linear_cross_entropy(x, weight, y, label_smoothing=smoothing)  # as accumulation scales it

    assert torch.autograd.gradcheck(scaled, (x, weight))


@given(st.integers(1, 40), st.integers(2, 50), st.sampled_from([0.0, 0.1, 0.9]), st.sampled_from([0.1, 1.0, 300.0]))
def test_the_loss_equals_torchs_cross_entropy(n: int, v: int, smoothing: float, spread: float) -> None:
    """Includes logits in the thousands, where the softmax underflows."""
    x, weight, y = parts(n, 4, v, spread=spread)
    expected = F.cross_entropy(F.linear(x, weight), y, label_smoothing=smoothing)
    expected_gradients = torch.autograd.grad(expected, (x, weight))
    actual = linear_cross_entropy(x, weight, y, label_smoothing=smoothing)
    assert actual.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)
    for ours, theirs in zip(torch.autograd.grad(actual, (x, weight)), expected_gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_the_loss_is_the_same_without_a_graph() -> None:
    x, weight, y = parts(1030, 3, 11)  # more rows than a chunk
    with torch.no_grad():
        plain = linear_cross_entropy(x, weight, y, label_smoothing=0.2)
        rows = token_losses(x, weight, y)
    assert plain.item() == pytest.approx(linear_cross_entropy(x, weight, y, label_smoothing=0.2).item(), abs=1e-12)
    assert torch.allclose(rows, F.cross_entropy(F.linear(x, weight), y, reduction="none"))


def test_a_nan_is_not_hidden() -> None:
    x, weight, y = parts(3, 2, 5)
    with torch.no_grad():
        x[1, 0] = float("nan")
    assert not torch.isfinite(linear_cross_entropy(x, weight, y))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_target_whose_probability_underflows_has_its_loss(smoothing: float) -> None:
    """e^-200 is zero in float32. The other rows of the chunk and the gradients stay correct."""
    x, weight, y = (part.detach() for part in parts(6, 3, 7))
    x[2] *= 300 / (x[2] @ weight.t()).amax()
    y[2] = (x[2] @ weight.t()).argmin()
    x, weight = x.float().requires_grad_(), weight.float().requires_grad_()
    expected = F.cross_entropy(F.linear(x, weight), y, label_smoothing=smoothing)
    actual = linear_cross_entropy(x, weight, y, label_smoothing=smoothing)
    assert expected.item() > 200 / 6
    assert actual.item() == pytest.approx(expected.item(), rel=1e-6)
    expected_gradients = torch.autograd.grad(expected, (x, weight))
    for ours, theirs in zip(torch.autograd.grad(actual, (x, weight)), expected_gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@given(st.integers(1, 200_000))
def test_rows_of_logits_are_an_odd_number_of_cache_lines(vocab_size: int) -> None:
    """So 32 neighbouring rows begin at 32 different places of a cache of 2**n bytes, and the padding is short."""
    row = padded(vocab_size)
    assert vocab_size < row < vocab_size + 48
    assert len({row * 4 * number % 2**11 for number in range(32)}) == 32
