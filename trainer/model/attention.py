"""Causal self-attention for a CPU, written out in batched matrix products, with or without dropout.

Queries are taken one block at a time, each block against the keys up to its last query. So most of the half that
causality masks is never computed. torch's kernel does that too, but its products are too small for a CPU, and with
dropout it falls back to a kernel that computes everything.

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
    """Return softmax(q k^T / sqrt(D)) v for every head, over each token and the tokens before it: (B, T, C).

    `qkv_BTC3` (B, T, 3*C) holds queries, keys and values side by side, each divided into heads. `dropout` acts on the
    softmax, rounded as in `trainer.model.dropout`. The backward pass keeps Z*T*T/2 weights, twice as many with dropout.
    Differentiable once.
    """
    y_BTC: Tensor = _CausalAttention.apply(qkv_BTC3, n_head, kept_256ths(dropout))  # type: ignore[no-untyped-call]
    return y_BTC


class _CausalAttention(torch.autograd.Function):
    """Attention and its gradients.

    P are the softmax weights, M the weights after dropout, and y = M v. For a gradient g of y: dM = g v^T,
    dv = M^T g, and d(scores) = M * dM - P * rowsum(g * y), since the rows of M * dM and of g * y have equal sums.
    """

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
            block = slice(first, last)
            scores = torch.baddbmm(future_TT[block, :last], q[:, block], k[:, :last].transpose(1, 2), alpha=D**-0.5)
            P = torch.softmax(scores, dim=-1, out=scores)
            M = P if kept == 256 else keep_mask(P.shape, kept).to(P.dtype).mul_(P)
            y_BTHD[:, block] = _heads_inside(_product(M, v[:, :last], scale=256 / kept), n_head)
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
        rowsum_gy = (g_BTHD * y_BTHD).sum(dim=-1).transpose(1, 2).reshape(B * H, T, 1)
        gradients = g.new_empty(B, T, 3, H, D)
        scale, kept_scale = D**-0.5, 256 / ctx.kept
        for index in reversed(range(len(weights) // 2)):  # the last block first, because its keys are all keys
            first, last = index * QUERIES, min((index + 1) * QUERIES, T)
            block = slice(first, last)
            P, M = weights[2 * index : 2 * index + 2]
            d = _product(g[:, block], v[:, :last].transpose(1, 2), scale=kept_scale)
            if ctx.kept == 256:
                d.sub_(rowsum_gy[:, block]).mul_(P)
            else:
                d.mul_(M).addcmul_(P, rowsum_gy[:, block], value=-1.0)
            gradients[:, block, 0] = _heads_inside(_product(d, k[:, :last], scale=scale), H)
            dk_block = _product(d.transpose(1, 2), q[:, block], scale=scale)
            dv_block = _product(M.transpose(1, 2), g[:, block], scale=kept_scale)
            if last == T:
                dk, dv = dk_block, dv_block
            else:
                dk[:, :last] += dk_block
                dv[:, :last] += dv_block
        gradients[:, :, 1], gradients[:, :, 2] = _heads_inside(dk, H), _heads_inside(dv, H)
        return gradients.view(B, T, 3 * H * D), None, None


def _product(a: Tensor, b: Tensor, *, scale: float) -> Tensor:
    """Return scale * a @ b for batches of matrices, as a new tensor.

    If the result were a part of another tensor, torch would multiply the matrices one by one.
    """
    result = a.new_empty(len(a), a.shape[1], b.shape[2])
    return torch.baddbmm(result, a, b, beta=0, alpha=scale, out=result)


def _heads_inside(x_ZTD: Tensor, n_head: int) -> Tensor:
    """Reshape (B*H, T, D) to (B, T, H, D)."""
    Z, T, D = x_ZTD.shape
    return x_ZTD.view(Z // n_head, n_head, T, D).transpose(1, 2)
