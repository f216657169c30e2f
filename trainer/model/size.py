"""The size of a model: its parameters and its FLOPs per token."""

from __future__ import annotations

from trainer.config import TrainConfig


def parameters(config: TrainConfig, vocab_size: int | None = None) -> int:
    """Return the number of parameters, position embeddings included (nanoGPT prints the number without their T*C).

    `vocab_size` defaults to the config's.

    N = V*C + T*C + L*(12*C**2 + 2*C) + C. Biases add 11*C per block and C at the end. The output layer shares the
    weight of the token embedding.
    """
    vocab_size = config.vocab_size if vocab_size is None else vocab_size
    layers, width = config.n_layer, config.n_embd
    biases = 11 * layers * width + width if config.bias else 0
    blocks = layers * (12 * width**2 + 2 * width)
    return vocab_size * width + config.block_size * width + blocks + width + biases


def flops_per_token(config: TrainConfig, vocab_size: int | None = None) -> int:
    """Return the FLOPs of training on one token, forward and backward.

    6*N + 12*L*C*T (PaLM, appendix B; nanoGPT's estimate_mfu), where N leaves out the position embeddings and attention
    counts as if it were not causal.
    """
    without_positions = parameters(config, vocab_size) - config.block_size * config.n_embd
    return 6 * without_positions + 12 * config.n_layer * config.n_embd * config.block_size
