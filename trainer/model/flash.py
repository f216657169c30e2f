"""Flash attention for a compiled model on a card, with the dropout rate as a tensor.

torch compiles a numeric rate as a constant, so every trial with another dropout would compile the model again, which
takes most of a minute. Here the rate is an input like the weights, and a shape is compiled once. The kernels are those
that `F.scaled_dot_product_attention` calls for bfloat16, wrapped in a custom op.

Shapes: B sequences, H heads, T tokens, D a head's width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

WIDEST_HEAD = 192
"""Widest head for which all cards have a backward pass with dropout; capabilities 8.6, 8.9 and 12.0 stop here."""

_trusted = True
_BUILT = torch.backends.cuda.is_flash_attention_available()
_forward_kernel = torch.ops.aten._scaled_dot_product_flash_attention.default
_backward_kernel = torch.ops.aten._scaled_dot_product_flash_attention_backward.default


def takes(q_BHTD: Tensor) -> bool:
    """Whether the kernels accept such queries. bfloat16 implies compute capability 8.0 (`device.precision`)."""
    width = q_BHTD.shape[-1]
    return (
        _BUILT
        and _trusted
        and q_BHTD.is_cuda
        and q_BHTD.dtype is torch.bfloat16
        and width % 8 == 0
        and width <= WIDEST_HEAD
    )


def distrust() -> None:
    """Take torch's own attention from now on in this process (`trainer.run.fast_paths`)."""
    global _trusted
    _trusted = False


def flash_attention(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, rate: Tensor) -> Tensor:
    """Return causal attention with dropout at `rate`, a 0-dim tensor on the CPU, so that reading it waits for no card.

    (B, H, T, D), as F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True).
    """
    y_BHTD: Tensor = _forward(q_BHTD, k_BHTD, v_BHTD, rate)[0]
    return y_BHTD


@torch.library.custom_op("plateau_sweep::flash_attention", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def _forward(q: Tensor, k: Tensor, v: Tensor, rate: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return y, the rows' log-sum-exp, and the seed and offset from which the backward pass draws the same mask."""
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
def _fake_forward(q: Tensor, _k: Tensor, _v: Tensor, _rate: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logsumexp = q.new_empty(q.shape[:3], dtype=torch.float32)
    seed, offset = q.new_empty(2, dtype=torch.uint64), q.new_empty((), dtype=torch.uint64)
    return _empty(q), logsumexp, seed, offset


@_backward.register_fake
def _fake_backward(_gradient: Tensor, q: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(q), _empty(q), _empty(q)


def _by_token(x_BHTD: Tensor) -> Tensor:
    """Return x with the memory layout of the kernels' output, token by token. Free if x has it already."""
    return x_BHTD.transpose(1, 2).contiguous().transpose(1, 2)


def _empty(like_BHTD: Tensor) -> Tensor:
    B, H, T, D = like_BHTD.shape
    return like_BHTD.new_empty(B, T, H, D).transpose(1, 2)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    q, k, v, rate = inputs
    ctx.save_for_backward(q, k, v, *output, rate)


def _differentiate(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    dq, dk, dv = _backward(gradient, *ctx.saved_tensors)
    return dq, dk, dv, None


_forward.register_autograd(_differentiate, setup_context=_setup_context)
