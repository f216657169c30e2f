"""A run as its log tells it. Losses are in nats per token; bits per byte are kept apart from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainer.nanogpt import Value


@dataclass(frozen=True, kw_only=True)
class LoggedPoint:
    """An evaluation. Losses may be NaN or infinite; None where the line has no such loss."""

    step: int
    train_loss: float | None
    val_loss: float | None
    lr: float | None
    """learning rate, if printed"""
    line: int
    """line of the file, from 1"""


@dataclass(frozen=True, kw_only=True)
class LoggedIter:
    """A training loss: in nanoGPT the last micro-batch alone, with dropout; in nanochat a running mean."""

    step: int
    loss: float
    lr: float | None
    """learning rate, if printed"""
    lr_share: float | None
    """learning rate as a share of its peak, if printed (nanochat's lrm)"""
    seconds: float | None
    """time since the previous line's iteration, or of the iteration; where there was an evaluation, with it"""
    mfu: float | None
    """FLOPs as a share of the accelerator's peak (nanoGPT: an A100's); None before it is measured"""
    line: int


@dataclass(frozen=True, kw_only=True)
class LoggedBits:
    """An evaluation in bits per byte, which don't compare with nats per token."""

    step: int
    val_bits: float
    line: int


@dataclass(frozen=True, kw_only=True)
class LoggedRun:
    """One run of a log. Points, iters and bits are in the order of their steps, each step once."""

    name: str
    """the log's name, as given"""
    trainer: str
    """nanoGPT or nanochat: the trainer whose lines these are"""
    points: tuple[LoggedPoint, ...]
    iters: tuple[LoggedIter, ...]
    bits: tuple[LoggedBits, ...]
    settings: Mapping[str, Value]
    """the settings printed at its head, with nanoGPT's names and types; empty where there were none"""
    parameters: int | None
    """as printed, without the position embedding; rounded to 10,000 by nanoGPT"""
    tokens_per_iter: int | None
    vocab_size: int | None
    """as printed, which is the model's"""
    resumed_at: tuple[int, ...]
    """steps at which the run was resumed"""
    lines: tuple[int, int]
    """first and last line of the file, from 1"""
    notes: tuple[str, ...]
    """what was passed over or joined, in sentences"""

    @property
    def last_step(self) -> int:
        """The last step of which the log has a loss."""
        return max(records[-1].step for records in (self.points, self.iters, self.bits) if records)
