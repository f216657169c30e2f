"""Peak memory of a run, in bytes, from its config alone: a closed form with named terms.

N parameters, V vocabulary, C width, L blocks, H heads, T context, B micro-batch, B*T tokens.

The peak is the largest of three moments. At the loss, its gradient meets all activations of the forward pass. At the
end of the backward pass all gradients are present, which is the peak of a model that is large beside its micro-batch.
An evaluation has no activations to keep, but it has logits and their log-softmax, which a compiled step doesn't have;
this can be the peak of a small model.

Per token, a block's forward pass in 16 bits (autocast) keeps these bytes:

    4*C  input of the first norm          2*C  the norm's output     6*C  queries, keys, values
    2*C  attention's output               4*H  its log-sum-exp
    4*C  input of the second norm         2*C  the norm's output     8*C  the MLP's hidden layer
    8*C  its GELU                         16   both norms' mean and scale

The sum is 36*C + 4*H + 16; in float32 it is 64*C + 4*H + 16. Dropout adds a byte per value that it may drop: C after
the embedding and 2*C per block (flash attention keeps only a seed). Uncompiled, a vocabulary entry takes 12 bytes per
token, for log-softmax and two gradients; compiled, with only the loss returned, it takes 4. Tests compare the
uncompiled form with a trace of the model.

The CUDA context, cuBLAS's workspace and fragmentation are not included; `microbatch` leaves space for them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from trainer.config import TrainConfig
from trainer.model.chunks import CHUNK, LONGEST_WRITTEN_OUT, QUERIES, evaluated_rows, padded
from trainer.model.size import parameters

_INDEX = 16
"""bytes per token: the token and its target, int64"""
_LOSS = 4
"""bytes per token: its loss, float32"""
_NORM = 8
"""bytes per token: a norm's mean and scale"""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of a run at its peak."""

    weights: int
    moments: int
    """AdamW's two moments"""
    gradients: int
    """gradients present at the peak: those of earlier micro-batches (accumulation), or all at the end"""
    casts: int
    """weights in 16 bits, which autocast keeps during a step"""
    activations: int
    """tensors that the blocks, the embedding and the last norm keep for the backward pass"""
    head: int
    """logits, their softmax and its gradients; on a CPU those of a chunk of rows and the loss's gradients. With a small
    vocabulary it is instead the gradients inside the last block."""

    @property
    def total(self) -> int:
        """Sum of all terms, bytes."""
        return sum(dataclasses.astuple(self))


def needed(config: TrainConfig, *, kind: str, mixed: bool) -> Memory:
    """Return the peak memory of training `config`, with its `vocab_size` set, on a "cuda" or "cpu" device.

    `mixed` means autocast to bfloat16 or float16. The result is exact for a card, up to the allocator's rounding. For a
    CPU it is an upper bound, a few per cent too high.
    """
    n, v, c = parameters(config), config.vocab_size, config.n_embd
    tokens = config.batch_size * config.block_size
    fixed = {"weights": 4 * n, "moments": 8 * n}
    accumulates = config.gradient_accumulation_steps > 1
    # log_softmax and two gradients; a compiled graph writes the gradient over the softmax
    head = (4 if config.compile and kind == "cuda" else 12) * v * tokens
    if kind == "cpu":
        head = 4 * (CHUNK * padded(v) + 2 * v * c + tokens * c)
    # during GELU's backward pass: its two gradients without the tensors freed before, and the weight gradients of the
    # output layer and of c_proj
    in_block = tokens * 3 * c * (2 if mixed else 4) + 4 * v * c + 16 * c * c
    at_loss = Memory(
        **fixed,
        gradients=4 * n if accumulates else 0,
        casts=_casts(config) if mixed else 0,
        activations=tokens * _kept(config, kind=kind, mixed=mixed),
        head=max(head, in_block),
    )
    # the output layer and the embedding share their weight: two gradients, their sum, and that of earlier micro-batches
    tied = 4 * v * c * (3 if accumulates else 2)
    at_embedding = Memory(**fixed, gradients=4 * n + tied, casts=0, activations=_INDEX * tokens, head=0)
    evaluated = Memory(
        **fixed,
        gradients=0,
        casts=_casts(config) if mixed else 0,
        activations=tokens * (4 * c + _INDEX + _LOSS),
        head=(10 if mixed else 8) * v * _evaluated_rows(config, kind),
    )
    return max(at_loss, at_embedding, evaluated, key=lambda memory: memory.total)


def _evaluated_rows(config: TrainConfig, kind: str) -> int:
    """Return the number of tokens whose logits an evaluation holds at once."""
    tokens = config.batch_size * config.block_size
    return tokens if config.sampling == "nanogpt" else min(tokens, evaluated_rows(kind, vocab_size=config.vocab_size))


def _casts(config: TrainConfig) -> int:
    """Return the bytes of the 16-bit copies of matrices and of the linear layers' biases."""
    c = config.n_embd
    biases = 9 * config.n_layer * c if config.bias else 0
    return 2 * (config.vocab_size * c + 12 * config.n_layer * c * c + biases)


def _kept(config: TrainConfig, *, kind: str, mixed: bool) -> int:
    """Return the bytes per token that the forward pass keeps."""
    c = config.n_embd
    width = 2 if mixed else 4  # bytes per value
    # inputs of both norms; their outputs, queries, keys and values, attention's output, the MLP
    block = 8 * c + width * (2 * c + 3 * c + c + 8 * c) + 2 * _NORM
    block += _attention(config) if kind == "cpu" else 4 * config.n_head
    mask = c if config.dropout else 0  # one byte per value
    last_norm = 4 * c + width * c + _NORM + _INDEX
    return config.n_layer * (block + 2 * mask) + mask + last_norm


def _attention(config: TrainConfig) -> int:
    """Return the bytes per token that attention keeps on a CPU besides queries, keys, values and its output."""
    c, t = config.n_embd, config.block_size
    written_out = config.dropout > 0 or t <= LONGEST_WRITTEN_OUT
    if config.sampling == "nanogpt" or not written_out:
        return 4 * c + 4 * config.n_head
    weights = 4 * config.n_head * (t + min(t, QUERIES)) // 2
    return 2 * weights if config.dropout else weights
