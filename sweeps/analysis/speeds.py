"""Measured speed of training by what decides it: the shape, the batch and whether there is dropout.

Other settings change no computation. Runs that differ in these alone count as equally fast, however busy the machine
was while each of them ran.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping

from sweeps.store.records import Run
from trainer.config import TrainConfig

_SETTINGS = ("n_layer", "n_head", "n_embd", "block_size", "bias", "batch_size", "gradient_accumulation_steps")

Speeds = Mapping[Hashable, float]
"""tokens/s by `cost_of`"""


def cost_of(config: TrainConfig) -> Hashable:
    """Return what decides the time per token."""
    return (*(getattr(config, name) for name in _SETTINGS), config.dropout > 0)


def speeds(runs: Iterable[Run]) -> Speeds:
    """Return the tokens/s of training, without evaluations: medians over runs of the median within a run."""
    by_cost: dict[Hashable, list[float]] = defaultdict(list)
    for run in runs:
        measured = [point.tokens_per_s for point in run.points if point.tokens_per_s]
        if measured:
            by_cost[cost_of(run.config)].append(statistics.median(measured))
    return {cost: statistics.median(values) for cost, values in by_cost.items()}


def relative_time(config: TrainConfig, reference: TrainConfig, measured: Speeds) -> float | None:
    """Return the time per token of a config as a multiple of another's. None: one of them was not measured."""
    if cost_of(config) == cost_of(reference):
        return 1.0
    mine, other = measured.get(cost_of(config)), measured.get(cost_of(reference))
    return None if mine is None or other is None else other / mine
