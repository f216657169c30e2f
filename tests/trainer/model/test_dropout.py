"""Dropout: the randomness of its masks, and its values and gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from trainer.model.dropout import dropout, keep_mask, kept_256ths


@pytest.mark.parametrize(("p", "kept"), [(0.0, 256), (0.001, 256), (0.002, 255), (0.2, 205), (0.5, 128), (0.999, 1)])
def test_the_rate_is_the_nearest_256th(p: float, kept: int) -> None:
    assert kept_256ths(p) == kept


@pytest.mark.parametrize("kept", [1, 13, 128, 205, 255])
def test_mean_and_variance_are_those_of_the_rate(kept: int) -> None:
    torch.manual_seed(kept)
    n = 400_000
    mask = keep_mask((n,), kept).double()
    rate = kept / 256
    assert sorted(mask.unique().tolist()) == [0.0, 1.0]
    # five standard errors
    assert float(mask.mean()) == pytest.approx(rate, abs=5 * math.sqrt(rate * (1 - rate) / n))
    torch.manual_seed(kept + 1)
    dropped = dropout(torch.ones(n, dtype=torch.float64), 1 - rate)
    error = math.sqrt((1 - rate) / rate / n)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=5 * error)
    fourth = ((1 - rate) ** 4 * rate + rate**4 * (1 - rate)) / rate**4
    variance = (1 - rate) / rate
    assert float(dropped.var()) == pytest.approx(variance, abs=5 * math.sqrt(abs(fourth - variance**2) / n) + 1e-3)


@pytest.mark.parametrize("lag", [*range(1, 17), 512])
def test_neighbours_are_independent(lag: int) -> None:
    """A chi-square test of the four outcomes of disjoint pairs, within a word (lags below 8) and across words."""
    torch.manual_seed(3)
    mask = keep_mask((1 << 19,), 205).numpy().astype(np.int64)
    first = mask[: len(mask) // (2 * lag) * 2 * lag].reshape(-1, 2, lag)
    table = np.bincount((2 * first[:, 0] + first[:, 1]).ravel(), minlength=4).reshape(2, 2)
    assert stats.chi2_contingency(table, correction=False).pvalue > 1e-4


def test_draws_are_independent_of_each_other() -> None:
    """Draws stand for the masks of different layers and steps."""
    torch.manual_seed(4)
    draws = np.stack([keep_mask((1 << 16,), 128).numpy() for _ in range(12)]).astype(float)
    correlation = np.corrcoef(draws)[np.triu_indices(12, 1)]
    assert np.abs(correlation).max() < 5 / math.sqrt(1 << 16)


def test_masks_come_from_torchs_generator() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = keep_mask((33, 7), 205), keep_mask((33, 7), 205)
    torch.set_rng_state(state)
    assert torch.equal(keep_mask((33, 7), 205), first)
    assert not torch.equal(first, second)


def test_gradients_go_where_values_went() -> None:
    torch.manual_seed(6)
    x = torch.randn(50, 20, requires_grad=True)
    y = dropout(x, 0.25)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.where(y == 0, 0.0, 256 / 192))
    assert torch.allclose(y, x * x.grad)
    assert float((y == 0).float().mean()) == pytest.approx(0.25, abs=0.07)


def test_a_rate_that_rounds_to_zero_changes_nothing() -> None:
    x = torch.randn(5)
    assert dropout(x, 0.001) is x
