"""Points, answers and results: what a run reports at each evaluation, the reply to it, and how the run ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Point:
    """One evaluation. Losses are in nats per token, without dropout, on windows that never change."""

    step: int
    """optimizer updates done before the evaluation"""
    tokens: int
    """tokens trained on before the evaluation"""
    train_loss: float
    train_se: float
    """standard error of train_loss over the windows"""
    val_loss: float
    """on the small set of validation windows"""
    val_se: float
    """standard error of val_loss over the windows"""
    lr: float
    """learning rate of the next update"""
    grad_norm: float | None
    """gradient norm of the last update, before clipping; None before the first update"""
    tokens_per_s: float | None
    """training speed since the previous evaluation, evaluations excluded; None before the first update"""
    seconds: float
    """duration of the run so far, over all its processes, evaluations included"""


class Answer(enum.Enum):
    """The reply to a reported Point."""

    GO = "go"
    STOP = "stop"
    """end the run for good (pruned)"""
    PAUSE = "pause"
    """write a checkpoint and end the process; the run will be resumed"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended."""

    outcome: str
    """complete, stopped, paused, diverged (NaN, infinity or an exploded loss) or infeasible (too little memory). A
    sweep's worker reports oom instead of infeasible where a smaller micro-batch may fit."""
    step: int
    """optimizer updates done"""
    points: tuple[Point, ...]
    val_loss: float | None = None
    """validation loss of a complete run on the large window set at max_iters, nats per token"""
    val_se: float | None = None
    """standard error of val_loss over the windows"""
    reason: str = ""
    """why the run did not complete"""
    seconds: float = 0.0
    """duration of the run, over all its processes"""
    fallbacks: tuple[str, ...] = ()
    """what the run did the plain way because a fast path of its card can't be trusted, and why"""
    notes: tuple[str, ...] = ()
    """what befell the run: a checkpoint that was damaged and dropped"""
    batch_size: int | None = None
    """sequences per micro-batch as fitted to the machine; None: nothing was trained, or as in the config"""
