"""The size of a model: its parameters and its FLOPs per token."""

from __future__ import annotations

from trainer.config import TrainConfig


def parameters(config: TrainConfig, vocab_size: int | None = None) -> int:
    """Parameters of the model, position embeddings included (nanoGPT prints them without: minus T*C).

    `vocab_size` is config's own if left out.

    N = V*C + T*C + L*(12*C**2 + 2*C) + C, and with biases 11*C more a block and C more at the end; the
    output layer is the token embedding.
    """
    vocab_size = config.vocab_size if vocab_size is None else vocab_size
    layers, width = config.n_layer, config.n_embd
    biases = 11 * layers * width + width if config.bias else 0
    blocks = layers * (12 * width**2 + 2 * width)
    return vocab_size * width + config.block_size * width + blocks + width + biases


def flops_per_token(config: TrainConfig, vocab_size: int | None = None) -> int:
    """FLOPs of training on one token, forward and backward: 6*N + 12*L*C*T (PaLM, appendix B; nanoGPT's estimate_mfu).

    N leaves the position embeddings out, as nanoGPT's does; attention is counted as if not causal.
    """
    counted = parameters(config, vocab_size) - config.block_size * config.n_embd
    return 6 * counted + 12 * config.n_layer * config.n_embd * config.block_size
