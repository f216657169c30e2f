"""Causal self-attention for a CPU, written out in batched matrix products, with dropout where there is any.

The queries are taken a block at a time, each against the keys up to its last one, so that most of the half that
causality masks is never computed. torch's own kernel does that too, but in products too small for a CPU to do well,
and with dropout it falls back to one that computes everything.

Shapes: B sequences, T tokens, H heads of width D, C = H*D; Z = B*H.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.dropout import keep_mask, kept_256ths

QUERIES = 64
"""Queries a block: of 32, 64 and 128 the fastest at T 128 and 256, heads of 32."""


def causal_attention(qkv_BTC3: Tensor, *, n_head: int, dropout: float) -> Tensor:
    """softmax(q k^T / sqrt(D)) v of every head over itself and what came before: (B, T, C).

    `qkv_BTC3` (B, T, 3*C) has queries, keys and values side by side, heads within them. `dropout` acts on the
    softmax, at the rate of `trainer.dropout`. Keeps the weights for the backward pass, Z*T*T/2 of them, twice with
    dropout. Differentiable once.
    """
    y_BTC: Tensor = _CausalAttention.apply(qkv_BTC3, n_head, kept_256ths(dropout))  # type: ignore[no-untyped-call]
    return y_BTC


class _CausalAttention(torch.autograd.Function):
    """With weights P, masked and scaled to M, and y = M v: for a gradient g of y, dM = g v^T, dv = M^T g, and
    d(scores) = M * dM - P * rowsum(g * y), since the rows of M * dM add up to the rows of g * y."""

    @staticmethod
    def forward(ctx: Any, qkv_BTC3: Tensor, n_head: int, kept: int) -> Tensor:
        B, T, C3 = qkv_BTC3.shape
        D = C3 // 3 // n_head
        q, k, v = qkv_BTC3.view(B, T, 3, n_head, D).permute(2, 0, 3, 1, 4).reshape(3, B * n_head, T, D)
        future_TT = torch.full((T, T), -math.inf, dtype=q.dtype).triu_(1)
        scaled_v = v if kept == 256 else v * (256 / kept)
        y = torch.empty_like(q)
        weights = []
        for first in range(0, T, QUERIES):
            last = min(first + QUERIES, T)
            here = slice(first, last)
            scores = torch.baddbmm(future_TT[here, :last], q[:, here], k[:, :last].transpose(1, 2), alpha=D**-0.5)
            P = torch.softmax(scores, dim=-1, out=scores)
            M = P if kept == 256 else keep_mask(P.shape, kept).to(P.dtype).mul_(P)
            torch.bmm(M, scaled_v[:, :last], out=y[:, here])
            weights += [P, M]
        ctx.save_for_backward(q, k, scaled_v, y, *weights)
        ctx.n_head, ctx.kept = n_head, kept
        return y.view(B, n_head, T, D).transpose(1, 2).reshape(B, T, n_head * D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BTC: Tensor) -> tuple[Tensor, None, None]:
        q, k, scaled_v, y, *weights = ctx.saved_tensors
        B, T, C = gradient_BTC.shape
        H, D, kept = ctx.n_head, C // ctx.n_head, ctx.kept
        g = gradient_BTC.view(B, T, H, D).transpose(1, 2).reshape(B * H, T, D)
        along_y = (g * y).sum(dim=-1, keepdim=True)
        gradients = g.new_zeros(3, B * H, T, D)
        dq, dk, dv = gradients
        for block, first in enumerate(range(0, T, QUERIES)):
            last = min(first + QUERIES, T)
            here = slice(first, last)
            P, M = weights[2 * block : 2 * block + 2]
            dv[:, :last].baddbmm_(M.transpose(1, 2), g[:, here])
            d = torch.bmm(g[:, here], scaled_v[:, :last].transpose(1, 2))
            if kept == 256:
                d.sub_(along_y[:, here]).mul_(P)
            else:
                d.mul_(M).addcmul_(P, along_y[:, here], value=-1.0)
            torch.bmm(d, k[:, :last], out=dq[:, here])
            dk[:, :last].baddbmm_(d.transpose(1, 2), q[:, here])
        gradients[:2].mul_(D**-0.5)
        if kept != 256:
            dv.mul_(256 / kept)
        return gradients.view(3, B, H, T, D).permute(1, 3, 0, 2, 4).reshape(B, T, 3 * C), None, None
