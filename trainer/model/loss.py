"""Cross-entropy of a linear layer's outputs, without holding the outputs of a whole batch.

On a CPU a batch's logits are the largest tensor to write and read back, several times each way. Here they are computed
one chunk of rows at a time, together with the chunk's part of the gradients while the chunk is in the cache. So the
backward pass only scales the gradients.

Shapes: N rows (tokens), C width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trainer.model.chunks import CHUNK, evaluated_rows, padded


def linear_cross_entropy(x_NC: Tensor, weight_VC: Tensor, y_N: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy of `x_NC @ weight_VC.T` with the classes `y_N`, nats (a 0-dim tensor).

    Equals F.cross_entropy(F.linear(x, weight), y, label_smoothing=...). Differentiable once.
    """
    if not torch.is_grad_enabled():
        return token_losses(x_NC, weight_VC, y_N, label_smoothing=label_smoothing).mean()
    loss: Tensor = _LinearCrossEntropy.apply(x_NC, weight_VC, y_N, label_smoothing)  # type: ignore[no-untyped-call]
    return loss


def token_losses(x_NC: Tensor, weight_VC: Tensor, y_N: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of every row, nats: (N,). Call it without gradients: a graph would hold all logits."""
    rows = evaluated_rows(x_NC.device.type, vocab_size=len(weight_VC))
    chunks = zip(torch.split(x_NC, rows), torch.split(y_N, rows), strict=True)
    return torch.cat(
        [
            F.cross_entropy(F.linear(x, weight_VC), y, label_smoothing=label_smoothing, reduction="none")
            for x, y in chunks
        ]
    )


class _LinearCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass over the chunks.

    For a row with logits z, target y and smoothing e the loss is log(sum exp z) - (1 - e) z_y - e mean(z), and its
    gradient in z is softmax(z) - (1 - e) onehot(y) - e / V. The loss equals -log softmax(z)_y + e (z_y - mean(z)),
    which needs only the softmax, unless the softmax underflows.
    """

    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, weight_VC: Tensor, y_N: Tensor, label_smoothing: float) -> Tensor:
        N, V = len(x_NC), len(weight_VC)
        loss = x_NC.new_zeros(())
        dx_NC, dweight_VC = torch.empty_like(x_NC), torch.zeros_like(weight_VC)
        buffer = x_NC.new_empty(min(CHUNK, N), padded(V))
        for x, y, dx in zip(*(torch.split(tensor, CHUNK) for tensor in (x_NC, y_N, dx_NC)), strict=True):
            rows, y = buffer[: len(x)], y.unsqueeze(1)
            z = torch.mm(x, weight_VC.t(), out=rows[:, :V])
            rows[:, V:] = -math.inf
            above_mean = z.gather(1, y) - z.mean(dim=1, keepdim=True) if label_smoothing else 0.0
            torch.softmax(rows, dim=1, out=rows)  # z, a view of rows, now holds the softmax
            p = z.gather(1, y)
            if p.min() < torch.finfo(p.dtype).tiny:
                loss += token_losses(x, weight_VC, y.squeeze(1), label_smoothing=label_smoothing).sum()
            else:
                loss += (label_smoothing * above_mean - p.log()).sum()
            if label_smoothing:
                z.sub_(label_smoothing / V)
            z.scatter_add_(1, y, torch.full_like(p, label_smoothing - 1.0))
            torch.mm(z, weight_VC, out=dx)
            dweight_VC.addmm_(z.t(), x)
        ctx.save_for_backward(dx_NC, dweight_VC)
        return loss / N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        dx_NC, dweight_VC = ctx.saved_tensors
        gradient = gradient / len(dx_NC)
        return dx_NC * gradient, dweight_VC * gradient, None, None
