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

from trainer.model.chunks import QUERIES
from trainer.model.dropout import keep_mask, kept_256ths


def causal_attention(qkv_BTC3: Tensor, *, n_head: int, dropout: float) -> Tensor:
    """softmax(q k^T / sqrt(D)) v of every head over itself and what came before: (B, T, C).

    `qkv_BTC3` (B, T, 3*C) has queries, keys and values side by side, heads within them. `dropout` acts on the
    softmax, at the rate of `trainer.model.dropout`. Keeps the weights for the backward pass, Z*T*T/2 of them, twice
    with dropout. Differentiable once.
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
        y_BTHD: Tensor = q.new_empty(B, T, n_head, D)
        weights = []
        for first in range(0, T, QUERIES):
            last = min(first + QUERIES, T)
            here = slice(first, last)
            scores = torch.baddbmm(future_TT[here, :last], q[:, here], k[:, :last].transpose(1, 2), alpha=D**-0.5)
            P = torch.softmax(scores, dim=-1, out=scores)
            M = P if kept == 256 else keep_mask(P.shape, kept).to(P.dtype).mul_(P)
            y_BTHD[:, here] = _heads_inside(_product(M, v[:, :last], scale=256 / kept), n_head)
            weights += [P, M]
        ctx.save_for_backward(q, k, v, y_BTHD, *weights)
        ctx.kept = kept
        return y_BTHD.view(B, T, n_head * D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BTC: Tensor) -> tuple[Tensor, None, None]:
        q, k, v, y_BTHD, *weights = ctx.saved_tensors
        B, T, H, D = y_BTHD.shape
        g_BTHD = gradient_BTC.view(B, T, H, D)
        g = g_BTHD.transpose(1, 2).reshape(B * H, T, D)
        along_y = (g_BTHD * y_BTHD).sum(dim=-1).transpose(1, 2).reshape(B * H, T, 1)
        gradients = g.new_empty(B, T, 3, H, D)
        scale, kept_scale = D**-0.5, 256 / ctx.kept
        for block in reversed(range(len(weights) // 2)):  # the last one first, whose keys are all
            first, last = block * QUERIES, min((block + 1) * QUERIES, T)
            here = slice(first, last)
            P, M = weights[2 * block : 2 * block + 2]
            d = _product(g[:, here], v[:, :last].transpose(1, 2), scale=kept_scale)
            if ctx.kept == 256:
                d.sub_(along_y[:, here]).mul_(P)
            else:
                d.mul_(M).addcmul_(P, along_y[:, here], value=-1.0)
            gradients[:, here, 0] = _heads_inside(_product(d, k[:, :last], scale=scale), H)
            dk_here = _product(d.transpose(1, 2), q[:, here], scale=scale)
            dv_here = _product(M.transpose(1, 2), g[:, here], scale=kept_scale)
            if last == T:
                dk, dv = dk_here, dv_here
            else:
                dk[:, :last] += dk_here
                dv[:, :last] += dv_here
        gradients[:, :, 1], gradients[:, :, 2] = _heads_inside(dk, H), _heads_inside(dv, H)
        return gradients.view(B, T, 3 * H * D), None, None


def _product(a: Tensor, b: Tensor, *, scale: float) -> Tensor:
    """scale * a @ b, batches of matrices, which torch takes one by one if their result is a part of something else."""
    result = a.new_empty(len(a), a.shape[1], b.shape[2])
    return torch.baddbmm(result, a, b, beta=0, alpha=scale, out=result)


def _heads_inside(x_ZTD: Tensor, n_head: int) -> Tensor:
    """(B, T, H, D) of (B*H, T, D)."""
    Z, T, D = x_ZTD.shape
    return x_ZTD.view(Z // n_head, n_head, T, D).transpose(1, 2)
