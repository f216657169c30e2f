"""Flash attention for a compiled model on a card, whose dropout rate is a tensor.

What torch compiles has a rate that is a number built in, so that each trial of another dropout would compile the model
anew, most of a minute. Here the rate is an input like the weights: a shape is compiled once. The kernels are those that
torch itself calls for bfloat16 (`F.scaled_dot_product_attention`), under a name of our own.

Shapes: B sequences, H heads, T tokens, D a head's width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

WIDEST_HEAD = 192
"""Beyond, some cards (compute capability 8.6, 8.9, 12.0) have no backward pass with dropout."""

_BUILT = torch.backends.cuda.is_flash_attention_available()
_forward_kernel = torch.ops.aten._scaled_dot_product_flash_attention.default
_backward_kernel = torch.ops.aten._scaled_dot_product_flash_attention_backward.default


def takes(q_BHTD: Tensor) -> bool:
    """Whether the kernels are there for such queries: bfloat16 means a card of compute capability 8.0 (`device`)."""
    width = q_BHTD.shape[-1]
    return _BUILT and q_BHTD.is_cuda and q_BHTD.dtype is torch.bfloat16 and width % 8 == 0 and width <= WIDEST_HEAD


def flash_attention(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, rate: Tensor) -> Tensor:
    """Causal attention with dropout at `rate`, a 0-dim tensor on the CPU, where to read it waits for no card.

    (B, H, T, D), as F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True).
    """
    y_BHTD: Tensor = _forward(q_BHTD, k_BHTD, v_BHTD, rate)[0]
    return y_BHTD


@torch.library.custom_op("plateau_sweep::flash_attention", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def _forward(q: Tensor, k: Tensor, v: Tensor, rate: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, the rows' log-sum-exp, and the two tensors from which the backward pass draws the same mask."""
    y, logsumexp, _, _, _, _, seed, offset, _ = _forward_kernel(q, k, v, rate.item(), True)
    return _by_token(y), logsumexp, seed, offset


@torch.library.custom_op("plateau_sweep::flash_attention_backward", mutates_args=())
def _backward(
    gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    y: Tensor,
    logsumexp: Tensor,
    seed: Tensor,
    offset: Tensor,
    rate: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    T = q.shape[2]
    gradients = _backward_kernel(gradient, q, k, v, y, logsumexp, None, None, T, T, rate.item(), True, seed, offset)
    dq, dk, dv = map(_by_token, gradients)
    return dq, dk, dv


@_forward.register_fake
def _made(q: Tensor, _k: Tensor, _v: Tensor, _rate: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logsumexp = q.new_empty(q.shape[:3], dtype=torch.float32)
    seed, offset = q.new_empty(2, dtype=torch.uint64), q.new_empty((), dtype=torch.uint64)
    return _empty(q), logsumexp, seed, offset


@_backward.register_fake
def _made_backwards(_gradient: Tensor, q: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(q), _empty(q), _empty(q)


def _by_token(x_BHTD: Tensor) -> Tensor:
    """x as it lies in memory after the kernels: token by token. (Free, if it does.)"""
    return x_BHTD.transpose(1, 2).contiguous().transpose(1, 2)


def _empty(like_BHTD: Tensor) -> Tensor:
    B, H, T, D = like_BHTD.shape
    return like_BHTD.new_empty(B, T, H, D).transpose(1, 2)


def _note(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    q, k, v, rate = inputs
    ctx.save_for_backward(q, k, v, *output, rate)


def _differentiated(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    dq, dk, dv = _backward(gradient, *ctx.saved_tensors)
    return dq, dk, dv, None


_forward.register_autograd(_differentiated, setup_context=_note)
