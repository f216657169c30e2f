"""A model's parameters and FLOPs against nanoGPT's figures and the model itself."""

from __future__ import annotations

import pytest
import torch

from trainer.config import TrainConfig
from trainer.model.gpt import GPT
from trainer.model.size import flops_per_token, parameters


def test_parameters_are_those_that_nanogpt_prints():
    """nanoGPT's `number of parameters` leaves out the position embeddings."""
    small, gpt2 = TrainConfig(n_layer=12, n_head=12, n_embd=384), TrainConfig()
    assert f"{(parameters(small, 50304) - 384 * 1024) / 1e6:.2f}M" == "40.56M"
    assert f"{(parameters(gpt2, 50304) - 768 * 1024) / 1e6:.2f}M" == "123.59M"


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("n_layer", "n_embd", "block_size", "vocab_size"), [(1, 4, 1, 3), (3, 24, 16, 97)])
def test_parameters_are_the_models(bias, n_layer, n_embd, block_size, vocab_size):
    config = TrainConfig(
        n_layer=n_layer, n_head=2, n_embd=n_embd, block_size=block_size, vocab_size=vocab_size, bias=bias
    )
    with torch.device("meta"):
        counted = sum(parameter.numel() for parameter in GPT(config).parameters())
    assert parameters(config) == counted
    assert parameters(config.replace(vocab_size=0), vocab_size) == counted


def test_flops_per_token():
    # GPT-2 124M in nanoGPT: 6 * 123,587,328 + 12 * 12 layers * 12 heads * 64 * 1024 tokens
    assert flops_per_token(TrainConfig(), 50304) == 741_523_968 + 113_246_208
