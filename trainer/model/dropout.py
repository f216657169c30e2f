"""Dropout for a CPU: masks of one random byte an element, eight of them cut from each 64-bit word.

torch's own draws a 64-bit number an element, which makes dropout the largest cost of a small model's step. A byte can
be kept with a probability of n/256 alone, so `p` is rounded to the nearest 1/256, and what is kept is scaled by 256/n
of that: the mean stays exactly what it was. From the default generator of torch, whose state a checkpoint holds.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def kept_256ths(p: float) -> int:
    """How many 256ths of the elements dropout at `p` keeps: 1 to 256, of which 256 is no dropout."""
    return max(1, round(256 * (1.0 - p)))


def keep_mask(shape: tuple[int, ...], kept: int) -> Tensor:
    """Independent elements, 1 with probability kept/256 and else 0: uint8, of `shape`."""
    size = math.prod(shape)
    words = torch.empty(-(-size // 8), dtype=torch.int64).random_(-(2**63), None)
    # 255 must stay below 256, which a byte doesn't hold; that is no dropout, and nobody needs a mask for it
    return words.view(torch.uint8)[:size].lt_(kept).view(shape)


def dropout(x: Tensor, p: float) -> Tensor:
    """x with elements set to zero at the rate `p`, rounded to 1/256, the others scaled so that the mean stays."""
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
