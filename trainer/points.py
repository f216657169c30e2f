"""What a run reports while it trains, what it is answered, and what it ends with."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Point:
    """One evaluation. Losses are in nats a token, dropout off, on windows that never change."""

    step: int
    """optimizer updates done when it was taken"""
    tokens: int
    """tokens trained on until then"""
    train_loss: float
    train_se: float
    """standard error over the windows"""
    val_loss: float
    """on the small set of validation windows"""
    val_se: float
    lr: float
    """learning rate of the next update"""
    grad_norm: float | None
    """of the last update, before clipping; None before the first"""
    tokens_per_s: float | None
    """training speed since the evaluation before, evaluations excluded; None before the first update"""
    seconds: float
    """time the run has taken so far, over all its processes, evaluations included"""


class Answer(enum.Enum):
    """What `report(Point)` answers."""

    GO = "go"
    STOP = "stop"
    """end here for good (pruned)"""
    PAUSE = "pause"
    """write a checkpoint and end; the run will be resumed"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended."""

    outcome: str
    """complete, stopped, paused, diverged (NaN, infinity or an exploded loss) or infeasible (no memory for it); a
    sweep's worker says oom where the run had no memory in this split, and smaller micro-batches may have it"""
    step: int
    """optimizer updates done"""
    points: tuple[Point, ...]
    val_loss: float | None = None
    """complete runs: validation loss on the large window set at max_iters, nats a token"""
    val_se: float | None = None
    """its standard error over the windows"""
    reason: str = ""
    """why it did not complete"""
    seconds: float = 0.0
    """time the run took, over all its processes"""
    batch_size: int | None = None
    """sequences a micro-batch that the machine was given; None: nothing was trained, or as the config says"""
