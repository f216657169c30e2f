"""Stopped trials, sentinels and complete trials with known numbers."""

from __future__ import annotations

from typing import Any

from sweeps.store.records import Run
from tests.helpers import synthetic

CURVE = synthetic.points(synthetic.BASELINE, 3.5)


def stopped(number: int, *, at: int, predicted: float | None = 4.0, best: float = 3.5, **changes: Any) -> Run:
    """Return a trial pruned at evaluation `at` of 30."""
    decision = synthetic.pruning(CURVE[at], synthetic.BASELINE, predicted=predicted, best=best, **changes)
    return synthetic.run(number, outcome="pruned", val_loss=None, points=CURVE[: at + 1], pruning=decision)


def sentinel(number: int, final: float | None, *, predicted: float = 4.0, best: float = 3.5, **changes: Any) -> Run:
    """Return a trial that would have been pruned at evaluation 10."""
    decision = synthetic.pruning(CURVE[10], synthetic.BASELINE, predicted=predicted, best=best, sentinel=True)
    return synthetic.run(number, val_loss=final, points=CURVE, pruning=decision, **changes)


def complete(count: int, *, start: int = 100, loss: float = 3.5) -> list[Run]:
    """Return `count` complete trials, each 0.001 nats worse than the one before."""
    return [synthetic.run(start + index, val_loss=loss + index / 1000) for index in range(count)]
