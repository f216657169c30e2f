"""Growing a model: the same function at first, copies that part, and shapes that can't be reached."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.config import TrainConfig
from trainer.errors import CheckpointError
from trainer.model import grow
from trainer.model.gpt import GPT
from trainer.run.checkpoint import SHAPE

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY = 29


def trained(config: TrainConfig, seed: int = 1) -> GPT:
    """Return a model whose every parameter is far from its beginning."""
    torch.manual_seed(seed)
    model = GPT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def shape_of(config: TrainConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in SHAPE}


def config_of(layers: int, width: int, heads: int, bias: bool, block: int) -> TrainConfig:
    return TrainConfig(
        n_layer=layers, n_embd=width, n_head=heads, bias=bias, block_size=block, vocab_size=VOCABULARY, device="cpu"
    )


def grown_model(model: GPT, factor: int, deeper: int, seed: int = 3) -> GPT:
    old = model.config
    config = old.replace(n_layer=old.n_layer + deeper, n_embd=old.n_embd * factor, n_head=old.n_head * factor)
    growth = grow.growth_to(config, shape_of(old))
    weights, _ = grow.grown(model.state_dict(), {}, growth, seed=seed)
    result = GPT(config)
    assert list(weights) == list(result.state_dict())
    result.load_state_dict(weights)
    return result


@torch.no_grad()
def logits(model: GPT, x_BT: Tensor) -> Tensor:
    return model.lm_head(model.hidden(x_BT))


def worst_difference(config: TrainConfig, factor: int, deeper: int, seed: int = 1) -> float:
    model = trained(config, seed)
    x_BT = torch.randint(VOCABULARY, (3, config.block_size), generator=torch.Generator().manual_seed(seed))
    expected = logits(model, x_BT)
    assert expected.std() > 0.05  # of a model that says something
    return float((logits(grown_model(model, factor, deeper, seed), x_BT) - expected).abs().max())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("deeper", [0, 1, 3])
def test_a_grown_model_is_the_same_function(factor: int, deeper: int, bias: bool) -> None:
    for layers, (width, heads), block in itertools.product((1, 3), ((8, 1), (24, 3)), (5, 16)):
        assert worst_difference(config_of(layers, width, heads, bias, block), factor, deeper) < 1e-4


@settings(max_examples=15, deadline=None)
@given(
    layers=st.integers(1, 3), heads=st.integers(1, 3), head=st.integers(2, 9), bias=st.booleans(),
    block=st.integers(1, 9), factor=st.integers(1, 5), deeper=st.integers(0, 3), seed=st.integers(0, 99),
)  # fmt: skip
def test_whatever_the_shape(
    layers: int, heads: int, head: int, bias: bool, block: int, factor: int, deeper: int, seed: int
) -> None:
    config = config_of(layers, heads * head, heads, bias, block)
    assert worst_difference(config, factor, deeper, seed) < 1e-4


def test_small_activations_meet_the_norms_eps() -> None:
    """Where the variance is about 1e-5, the size of eps, a copy of another scale would show."""
    config = config_of(2, 8, 2, bias=False, block=8)
    model = trained(config)
    with torch.no_grad():
        model.lm_head.weight *= 0.01
        model.transformer["wpe"].weight *= 0.01  # type: ignore[operator, union-attr]
    x_BT = torch.arange(8)[None]
    scale = float(logits(model, x_BT).abs().max())
    assert float((logits(grown_model(model, 2, 1), x_BT) - logits(model, x_BT)).abs().max()) < 1e-4 * scale


def test_new_blocks_learn() -> None:
    model = grown_model(trained(config_of(1, 8, 2, bias=True, block=8)), factor=1, deeper=2)
    x_BT = torch.arange(8)[None]
    for _ in range(2):  # the first update reaches the projections, the second what is before them
        model.zero_grad()
        model(x_BT, x_BT + 1).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter -= 0.1 * parameter.grad
    new = [name for name, _ in model.named_parameters() if name.startswith(("transformer.h.1.", "transformer.h.2."))]
    assert len(new) == 2 * 12
    for name in new:
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        if "c_attn.bias" not in name:  # a bias of all keys alike has no effect
            assert gradient.abs().max() > 0, name


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_noise_keeps_the_spread_of_a_new_matrix(factor: int) -> None:
    """At k = 2 it is half a standard deviation."""
    torch.manual_seed(0)
    matrix = torch.randn(256, 64) * 0.3
    name = "transformer.h.0.mlp.c_fc.weight"
    wide = grow.widened({name: matrix}, factor=factor, generator=torch.Generator().manual_seed(1))[name]
    noise = wide - matrix.repeat(factor, factor) / factor
    assert float(noise.std()) == pytest.approx(0.3 * math.sqrt(factor - 1) / factor, rel=0.02)
    assert float(wide.std()) == pytest.approx(0.3 / math.sqrt(factor), rel=0.02)
    rows = wide.view(factor, 256, -1)
    assert not torch.allclose(rows[0], rows[1], atol=0.1)  # so the copies receive unequal gradients


def test_the_seed_draws_the_noise() -> None:
    model = trained(config_of(1, 8, 2, bias=False, block=8))
    one, again, other = (grown_model(model, 2, 1, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["transformer.h.0.mlp.c_fc.weight"], other["transformer.h.0.mlp.c_fc.weight"])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("factor", [2, 3])
def test_moments_are_those_of_the_gradients_that_copies_receive(factor: int, bias: bool) -> None:
    config = config_of(2, 12, 3, bias=bias, block=8)
    model = trained(config)
    wide = grown_model(model, factor, 0)
    with torch.no_grad():
        for name, parameter in wide.named_parameters():
            if ".h." in name and parameter.dim() == 2:  # without the noise
                rows = parameter.view(len(parameter), factor, -1)
                rows.copy_(rows.mean(dim=1, keepdim=True).expand_as(rows))
    x_BT = torch.randint(VOCABULARY, (4, 8))
    for each in (model, wide):
        each(x_BT, x_BT.roll(1)).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    moments = {name: {"exp_avg": g, "exp_avg_sq": g**2, "step": torch.tensor(7.0)} for name, g in gradients.items()}
    carried = grow.widened_moments(moments, factor=factor)
    for name, parameter in wide.named_parameters():
        gradient = parameter.grad
        assert gradient is not None
        torch.testing.assert_close(carried[name]["exp_avg"], gradient, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(carried[name]["exp_avg_sq"], gradient**2, atol=1e-6, rtol=1e-4)
        assert carried[name]["step"] == 7


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_layer": 1}, "n_layer=1 is below the origin's 2; .*race the smaller model"),
        ({"n_embd": 8, "n_head": 1}, "n_embd=8 is below the origin's 16"),
        ({"n_embd": 40}, "n_embd=40 is not a multiple of the origin's 16; .*nearest widths are 32 and 48"),
        ({"n_embd": 32}, "n_head=2, but at n_embd=32 a branch has 4 heads: .*a head, 8, is kept; set n_head to 4"),
        ({"n_head": 4}, "n_head=4, but at n_embd=16 a branch has 2 heads"),
        ({"block_size": 32}, "block_size=32, but the origin's is 8; .*race it from scratch"),
        ({"bias": True}, "bias=True, but the origin's is False"),
        ({"vocab_size": 30}, "vocab_size=30, but the origin's is 29"),
    ],
)
def test_shapes_that_a_branch_cannot_have(changes: dict[str, Any], words: str) -> None:
    origin = config_of(2, 16, 2, bias=False, block=8)
    with pytest.raises(CheckpointError, match=words):
        grow.growth_to(origin.replace(**changes), shape_of(origin))
