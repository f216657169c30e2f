"""What a run allocates at most, in bytes, from its config alone: a closed form, each term named.

N parameters, V vocabulary, C width, L blocks, H heads, T context, B micro-batch; B*T tokens. A step's peak is where its
loss's gradient meets all that the forward pass has kept, or, where a micro-batch is small beside the model, at the end
of the backward pass, where all gradients are there. An evaluation keeps nothing, but has logits and their log-softmax,
which a compiled step has not: of a small model that may be the peak. Of a block's forward pass in 16 bits (autocast) a
token keeps, in bytes:

    4*C  what enters the first norm       2*C  the norm's output     6*C  queries, keys, values
    2*C  attention's output               4*H  its log-sum-exp
    4*C  what enters the second norm      2*C  the norm's output     8*C  the MLP's hidden layer
    8*C  its GELU                         16   both norms' mean and scale

which is 36*C + 4*H + 16; in float32 64*C + 4*H + 16. Dropout adds a byte a value that it may drop: C after the
embedding, 2*C a block (flash attention keeps a seed). Uncompiled, a vocabulary entry takes 12 bytes a token, for
log-softmax and two gradients of it; compiled and with only the loss returned 4. Tests compare the uncompiled form with
a trace of the model.

Not in it: the CUDA context, cuBLAS's workspace, fragmentation; `microbatch` leaves room for them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from trainer.config import TrainConfig
from trainer.model.chunks import CHUNK, LONGEST_WRITTEN_OUT, QUERIES, evaluated_rows, padded
from trainer.model.size import parameters

_INDEX = 16
"""a token and its target, int64"""
_LOSS = 4
"""a token's, float32"""
_NORM = 8
"""mean and scale of a norm, a token"""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of a run at its peak."""

    weights: int
    moments: int
    """AdamW's two"""
    gradients: int
    """those that are there at the peak: of micro-batches before (accumulation), or all at the end"""
    casts: int
    """weights in 16 bits, which autocast keeps for the length of a step"""
    activations: int
    """what the blocks, the embedding and the last norm keep for the backward pass"""
    head: int
    """logits, their softmax and its gradients (on a CPU those of some rows, and what the loss has of gradients), or
    where the vocabulary is small the gradients on their way through the last block"""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(dataclasses.astuple(self))


def needed(config: TrainConfig, *, kind: str, mixed: bool) -> Memory:
    """The peak of training `config` (its `vocab_size` set) on a "cuda" or "cpu" device.

    `mixed`: autocast to bfloat16 or float16. Of a card exact up to what the allocator rounds; of a CPU no less than it
    takes, by a few per cent more.
    """
    n, v, c = parameters(config), config.vocab_size, config.n_embd
    tokens = config.batch_size * config.block_size
    fixed = {"weights": 4 * n, "moments": 8 * n}
    accumulates = config.gradient_accumulation_steps > 1
    # log_softmax and two gradients of it; the compiled graph writes the gradient over the softmax
    head = (4 if config.compile and kind == "cuda" else 12) * v * tokens
    if kind == "cpu":
        head = 4 * (CHUNK * padded(v) + 2 * v * c + tokens * c)
    # at GELU's turn: its two gradients less what is freed by then, and those of the output layer and of c_proj
    in_block = tokens * 3 * c * (2 if mixed else 4) + 4 * v * c + 16 * c * c
    at_loss = Memory(
        **fixed,
        gradients=4 * n if accumulates else 0,
        casts=_casts(config) if mixed else 0,
        activations=tokens * _kept(config, kind=kind, mixed=mixed),
        head=max(head, in_block),
    )
    # the output layer is the embedding: its two gradients and their sum are there at once, beside an earlier one
    tied = 4 * v * c * (3 if accumulates else 2)
    at_embedding = Memory(**fixed, gradients=4 * n + tied, casts=0, activations=_INDEX * tokens, head=0)
    evaluated = Memory(
        **fixed,
        gradients=0,
        casts=_casts(config) if mixed else 0,
        activations=tokens * (4 * c + _INDEX + _LOSS),
        head=(10 if mixed else 8) * v * _evaluated_rows(config, kind),
    )
    return max(at_loss, at_embedding, evaluated, key=lambda each: each.total)


def _evaluated_rows(config: TrainConfig, kind: str) -> int:
    """Tokens whose logits an evaluation has at once."""
    tokens = config.batch_size * config.block_size
    return tokens if config.sampling == "nanogpt" else min(tokens, evaluated_rows(kind, vocab_size=config.vocab_size))


def _casts(config: TrainConfig) -> int:
    """The 16-bit copies of matrices, and of the linear layers' biases."""
    c = config.n_embd
    biases = 9 * config.n_layer * c if config.bias else 0
    return 2 * (config.vocab_size * c + 12 * config.n_layer * c * c + biases)


def _kept(config: TrainConfig, *, kind: str, mixed: bool) -> int:
    """Bytes a token that the forward pass keeps."""
    c = config.n_embd
    values = 2 if mixed else 4
    # into the first norm and the second; the norms' outputs; queries, keys, values; attention; the MLP
    block = 8 * c + values * (2 * c + 3 * c + c + 8 * c) + 2 * _NORM
    block += _attention(config) if kind == "cpu" else 4 * config.n_head
    dropped = c if config.dropout else 0  # a byte a value
    last = 4 * c + values * c + _NORM + _INDEX
    return config.n_layer * (block + 2 * dropped) + dropped + last


def _attention(config: TrainConfig) -> int:
    """Bytes a token that a block's attention keeps on a CPU beside queries, keys, values and its output."""
    c, t = config.n_embd, config.block_size
    written_out = config.dropout > 0 or t <= LONGEST_WRITTEN_OUT
    if config.sampling == "nanogpt" or not written_out:
        return 4 * c + 4 * config.n_head
    weights = 4 * config.n_head * (t + min(t, QUERIES)) // 2
    return 2 * weights if config.dropout else weights
