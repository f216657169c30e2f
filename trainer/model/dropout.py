"""Dropout for a CPU: masks of one random byte per element, eight bytes cut from each 64-bit word.

torch's dropout draws a 64-bit number per element, which makes it the largest cost of a small model's step. A byte
allows only probabilities of n/256, so `p` is rounded to the nearest 1/256. Kept elements are scaled by 256/n, so the
mean is preserved exactly. The bytes come from torch's default generator, whose state a checkpoint holds.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def kept_256ths(p: float) -> int:
    """Return how many 256ths of the elements dropout at `p` keeps: 1 to 256, where 256 means no dropout."""
    return max(1, round(256 * (1.0 - p)))


def keep_mask(shape: tuple[int, ...], kept: int) -> Tensor:
    """Draw independent elements, 1 with probability kept/256 and else 0: uint8, of `shape`. `kept` is at most 255."""
    size = math.prod(shape)
    words = torch.empty(-(-size // 8), dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.uint8)[:size].lt_(kept).view(shape)


def dropout(x: Tensor, p: float) -> Tensor:
    """Set elements of `x` to zero at the rate `p`, rounded to 1/256, and scale the others to preserve the mean."""
    kept = kept_256ths(p)
    if kept == 256:
        return x
    dropped: Tensor = _Dropout.apply(x, kept)  # type: ignore[no-untyped-call]
    return dropped


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: int) -> Tensor:
        ctx.mask, ctx.kept = keep_mask(x.shape, kept), kept
        return _masked(x, ctx.mask, kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _masked(gradient, ctx.mask, ctx.kept), None


def _masked(x: Tensor, mask: Tensor, kept: int) -> Tensor:
    return mask.to(x.dtype).mul_(256 / kept).mul_(x)
