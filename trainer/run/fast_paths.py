"""A card's fast paths, checked in each process before they are trusted.

Flash attention with the dropout rate as an input is this project's own op around torch's kernels, whose arguments
differ between releases of torch, cards and ROCm. So a process that is going to use it first compares it with attention
in plain float32 arithmetic, forward and backward, which takes a fraction of a second. A mismatch or an error means the
plain way: torch's own attention. Compiling needs Triton, which torch lacks on Windows.

What is not trusted is logged and returned, so that a sweep can note it.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from trainer.config import TrainConfig
from trainer.model import flash

B, H, T, D = 2, 3, 160, 64
"""sequences, heads, tokens (no multiple of a kernel's block) and width of a head"""
TOLERANCE = 0.02
"""largest difference of a tensor, relative to its norm; bfloat16 rounds to 0.004, and a wrong mask or scale differs by
more than 0.1"""
RATE = 0.25
"""dropout rate of the check"""
MEAN_TOLERANCE = 0.05
"""of the mean of 960 rows, whose standard error is 0.003; forgetting to scale by 1/(1 - rate) differs by 0.25"""

_LOG = logging.getLogger(__name__)

Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(q, k, v, rate) to causal attention, (B, H, T, D)"""


def compiles(config: TrainConfig, device: torch.device, *, triton: bool | None = None) -> bool:
    """Whether the run is compiled on the device. `triton`: whether it is installed; by default it is looked for."""
    if not config.compile or device.type != "cuda":
        return False
    return importlib.util.find_spec("triton") is not None if triton is None else triton


def fallbacks(config: TrainConfig, device: torch.device, precision: torch.dtype | None) -> tuple[str, ...]:
    """Check the fast paths that the run would use. Returns what it does the plain way instead, and why.

    Flash attention is checked once per process, and not used in it again after a fault.
    """
    return tuple(_fallbacks(config, device, precision))


def _fallbacks(config: TrainConfig, device: torch.device, precision: torch.dtype | None) -> Iterator[str]:
    if device.type != "cuda":
        return
    used = "float32" if precision is None else str(precision).removeprefix("torch.")
    if used != config.dtype:
        yield f"{used} instead of {config.dtype}, which the card doesn't have"
    if config.compile and not compiles(config, device):
        yield "not compiled: torch.compile needs Triton, which is not installed here"
    drops = config.dropout > 0 and config.sampling != "nanogpt"
    if compiles(config, device) and drops and precision is torch.bfloat16 and (fault := _fault_on(str(device))):
        yield f"torch's attention instead of flash attention with dropout as an input: {fault}"


@functools.cache
def _fault_on(device: str) -> str:
    """Check flash attention on a card, once. After a fault it is not used any more in this process."""
    fault = fault_of(flash.flash_attention, device=device, dtype=torch.bfloat16)
    if fault:
        flash.distrust()
        _LOG.warning("flash attention is not used: %s", fault)
    return fault


def fault_of(attention: Attention, *, device: str, dtype: torch.dtype) -> str:
    """Compare `attention` with plain arithmetic, forward and backward. Returns what differs; "" if nothing does.

    The random states of torch are left as they were.
    """
    cards = [device] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cards), torch.enable_grad():
        try:
            return _without_dropout(attention, device, dtype) or _with_dropout(attention, device, dtype)
        except Exception as error:  # noqa: BLE001  # whatever the kernels raise, the plain way works
            lines = str(error).strip().splitlines()
            return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _without_dropout(attention: Attention, device: str, dtype: torch.dtype) -> str:
    """Compare the output and the three gradients at rate 0 with plain attention in float32."""
    q, k, v, gradient = _tensors(device, dtype)
    y = attention(q, k, v, torch.tensor(0.0))
    plain = [part.detach().float().requires_grad_() for part in (q, k, v)]
    expected = _plain_attention(*plain)
    found = (y, *torch.autograd.grad(y, (q, k, v), gradient))
    wanted = (expected, *torch.autograd.grad(expected, plain, gradient.float()))
    for name, ours, theirs in zip(("its output", "dq", "dk", "dv"), found, wanted, strict=True):
        distance = float((ours.detach().float() - theirs.detach()).norm() / theirs.detach().norm())
        if not distance <= TOLERANCE:  # NaN is a fault
            return f"{name} differs from plain attention by {distance:.2g} of its norm, more than {TOLERANCE}"
    return ""


def _with_dropout(attention: Attention, device: str, dtype: torch.dtype) -> str:
    """Check that dropout keeps the mean, drops something, and has one mask in both passes.

    With values of 1 an output is the sum of a row's kept weights, 1 on average. The output y = M v is linear in the
    values, so with y as its gradient, the sums of y * y and dv * v over all elements are equal if the mask in M is the
    same in both passes. With another mask the second is smaller by a fifth.
    """
    q, k, v, _ = _tensors(device, dtype)
    rate = torch.tensor(RATE)
    sums = attention(q, k, torch.ones_like(v), rate).detach().float()
    mean, spread = float(sums.mean()), float(sums.std())
    if not abs(mean - 1) <= MEAN_TOLERANCE or spread < MEAN_TOLERANCE:
        return (
            f"with dropout {RATE} a row's weights are {mean:.2f} in sum, sd {spread:.2f}, instead of 1 and more than 0"
        )
    y = attention(q, k, v, rate)
    (dv,) = torch.autograd.grad(y, (v,), y.detach())
    forward, backward = (float((a.detach().float() * b.detach().float()).sum()) for a, b in ((y, y), (dv, v)))
    if not abs(forward - backward) <= TOLERANCE * forward:
        return f"with dropout {RATE} its gradient has another mask: {backward:.4g} instead of {forward:.4g}"
    return ""


def _tensors(device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return q, k, v as in the model, views of one tensor token by token, and a gradient of the output."""
    generator = torch.Generator().manual_seed(1)
    qkv = torch.randn(B, T, 4, H, D, generator=generator).to(device=device, dtype=dtype)
    q, k, v, gradient = (part.transpose(1, 2).detach() for part in qkv.unbind(2))
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), gradient


def _plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    future = torch.full((T, T), -math.inf, device=q.device).triu_(1)
    return torch.softmax(q @ k.transpose(2, 3) / math.sqrt(D) + future, dim=-1) @ v
