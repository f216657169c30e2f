"""Speed of a worker, estimated as FLOPs over FLOP/s.

The FLOPs are exact: 6*N + 12*L*C*T per trained token, and a third of that per evaluated token. The FLOP/s are an
assumption: a share of a card's dense peak, or of a core's measured one, that grows with the width.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sweeps.store.records import DataFacts, Run
from sweeps.study.horizon import speed_of
from sweeps.study.sections import Fit
from sweeps.study.study import Study
from trainer.config import TrainConfig
from trainer.machine.device import Device
from trainer.model.size import flops_per_token

Shape = tuple[int, int]
"""n_layer and n_embd"""
CUDA_EFFICIENCY, CUDA_HALF_WIDTH = 0.7, 150
"""A step of width C is assumed to reach 0.7*C/(C + 150) of a card's dense peak, because a narrow model waits for memory
and for launches: 0.21 at width 64, 0.32 at 128, 0.50 at 384, 0.59 at 768. Not measured. The one recorded run, nanoGPT's
with 12 layers of width 384, vocabulary 50304, bfloat16, compiled, on an RTX 4070, reached 0.69. Small micro-batches,
small vocabularies and large cards reach less."""
CPU_EFFICIENCY, CPU_HALF_WIDTH, CPU_STEEPNESS = 0.72, 39, 1.5
"""A step of width C reaches 0.72/(1 + (39/C)**1.5) of the peak of a large matrix product. Measured on one core (AVX2,
float32, dropout 0): 0.06 to 0.07 at width 8, 0.27 to 0.31 at 32, 0.46 to 0.56 at 64, 0.62 to 0.73 at 128, 0.66 to 0.70
at 256. Whole runs of the trainer took 0.85 to 1.4 times the estimated time."""
CPU_DROPOUT = 0.93
"""Speed with dropout relative to no dropout. Measured: 0.94 at dropout 0.2 and width 128."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The speed of one worker on one device."""

    device: Device
    share: float
    """share of the device, or of a core, that the worker has"""
    data: DataFacts
    dtype: str
    fit: Fit | None = None
    """the fitted horizon in minutes, whose speeds were measured with the most dropout that the study uses"""
    seen: Mapping[Shape, float] = field(default_factory=dict)
    """tokens/s per worker in earlier runs (see the function `seen`)"""

    def tokens_per_s(self, config: TrainConfig) -> float | None:
        """Return the training speed, measured or estimated; None where the device's peak at `dtype` is unknown."""
        if self.fit is not None:
            return speed_of(self.fit.speeds, config)
        if known := self.seen.get((config.n_layer, config.n_embd)):
            return known
        peak = self.device.peak_in(self.dtype)
        if peak is None:
            return None
        return self.share * peak / flops_at_peak(config, self.device.kind)

    def measured(self, config: TrainConfig) -> bool:
        """Whether the speed of `config` was measured rather than estimated."""
        return self.fit is not None or (config.n_layer, config.n_embd) in self.seen

    def seconds(self, config: TrainConfig) -> float | None:
        """Return the seconds of a run; see `seconds_at`. None where the speed is unknown."""
        speed = self.tokens_per_s(config)
        return None if speed is None else seconds_at(speed, config, self.data)


def efficiency(config: TrainConfig, kind: str) -> float:
    """Return the share of its peak that a device of this `kind` is assumed to reach (model FLOPs utilization)."""
    if kind == "cuda":
        return CUDA_EFFICIENCY * config.n_embd / (config.n_embd + CUDA_HALF_WIDTH)
    share = float(CPU_EFFICIENCY / (1 + (CPU_HALF_WIDTH / config.n_embd) ** CPU_STEEPNESS))
    return share * (CPU_DROPOUT if config.dropout else 1.0)


def flops_at_peak(config: TrainConfig, kind: str) -> float:
    """Return the FLOPs for which a device of this `kind` at its peak would take as long as it does for a token."""
    return flops_per_token(config) / efficiency(config, kind)


def seconds_at(tokens_per_s: float, config: TrainConfig, data: DataFacts) -> float:
    """Return the seconds of a run: its training, and its evaluations at a third of the cost of a trained token."""
    return tokens_of(config, data) / tokens_per_s


def tokens_of(config: TrainConfig, data: DataFacts, *, iters: int | None = None) -> float:
    """Return the trained tokens that a run costs as much as, with its evaluations; see `evaluated_tokens`."""
    trained = config.max_iters if iters is None else iters
    return trained * config.tokens_per_iter + evaluated_tokens(config, data, iters=iters) / 3


def evaluated_tokens(config: TrainConfig, data: DataFacts, *, iters: int | None = None) -> int:
    """Return the tokens of all evaluations of a run, or of those in `iters` iterations, without the final loss."""
    train, val = (windows(split, config) for split in (data.train_tokens, data.val_tokens))
    final = min(config.windows_at_the_end, val) if iters is None else 0
    evaluations = math.ceil((config.max_iters if iters is None else iters) / config.eval_interval) + 1
    return (evaluations * (min(config.windows, train) + min(config.windows, val)) + final) * config.block_size


def windows(tokens: int, config: TrainConfig) -> int:
    """Return the windows, block_size tokens and their targets, in a split of `tokens`."""
    return max(0, (tokens - 1) // config.block_size)


def makespan(seconds: Sequence[float | None], *, workers: int) -> float | None:
    """Return the time until the last run ends; runs start in order on the first free worker. None if one is unknown."""
    free = [0.0] * workers
    for cost in seconds:
        if cost is None:
            return None
        heapq.heapreplace(free, free[0] + cost)
    return max(free)


def share_of(study: Study, device: Device, workers: int, *, busy: float = 0.0) -> float:
    """Return a worker's share of its card, or of a core where workers and `busy` others are more than the cores."""
    if study.workers.ray is not None:
        return 1.0
    if device.kind == "cuda":
        listed = study.workers.devices
        return 1.0 if listed == "auto" else len(set(listed)) / len(listed)
    return min(1.0, device.count / (workers + busy))


def seen(runs: Iterable[Run], config: TrainConfig, *, device: str) -> dict[Shape, float]:
    """Return the tokens/s by shape of the runs on a `device` ("cpu" or "cuda") with the context and batch of `config`.

    They are medians over runs of the median over a run's evaluations.
    """
    settings = ("block_size", "batch_size", "gradient_accumulation_steps")
    by_shape: dict[Shape, list[float]] = defaultdict(list)
    for run in runs:
        alike = all(getattr(run.config, name) == getattr(config, name) for name in settings)
        speeds = [point.tokens_per_s for point in run.points if point.tokens_per_s]
        if alike and speeds and run.device.partition(":")[0] == device:
            by_shape[run.config.n_layer, run.config.n_embd].append(statistics.median(speeds))
    return {shape: statistics.median(speeds) for shape, speeds in by_shape.items()}
