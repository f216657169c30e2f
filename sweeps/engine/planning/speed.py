"""How fast a worker trains, estimated: FLOPs over FLOP/s.

The FLOPs are exact (6*N + 12*L*C*T a trained token, a third of that an evaluated one). The FLOP/s are an assumption:
half of a card's dense peak, or on a CPU a share of the measured peak that falls with the width.
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
"""n_layer, n_embd"""
CUDA_EFFICIENCY = 0.5
"""Share of a card's dense peak that a trial reaches; a narrow model on a large card reaches less."""
CPU_EFFICIENCY, CPU_HALF_WIDTH = 0.75, 40
"""A step of width C reaches 0.75*C/(C + 40) of the peak of a large product. Measured on one core (AVX2, float32,
dropout 0): .27 to .31 at width 32, .46 to .56 at 64, .62 to .73 at 128, .66 to .70 at 256. Whole runs of the trainer
took .85 to 1.4 times what this says."""
CPU_DROPOUT = 0.93
"""Speed with any dropout, against none: measured .94 at .2 and width 128."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What one worker does in a second."""

    device: Device
    share: float
    """of a device, or of a core"""
    data: DataFacts
    dtype: str
    fit: Fit | None = None
    """of a horizon in minutes whose workers were measured: with the most dropout that the study uses"""
    seen: Mapping[Shape, float] = field(default_factory=dict)
    """tokens/s that a worker reached in earlier runs (`seen`)"""

    def tokens_per_s(self, config: TrainConfig) -> float | None:
        """Trained on, as measured or estimated; None where the device's peak for this precision isn't known."""
        if self.fit is not None:
            return speed_of(self.fit.speeds, config)
        if known := self.seen.get((config.n_layer, config.n_embd)):
            return known
        if self.device.peak is None or (self.device.kind == "cuda" and self.dtype == "float32"):
            return None
        efficiency = CUDA_EFFICIENCY
        if self.device.kind == "cpu":
            efficiency = CPU_EFFICIENCY * config.n_embd / (config.n_embd + CPU_HALF_WIDTH)
            efficiency *= CPU_DROPOUT if config.dropout else 1.0
        return efficiency * self.share * self.device.peak / flops_per_token(config)

    def measured(self, config: TrainConfig) -> bool:
        """Whether it is no estimate."""
        return self.fit is not None or (config.n_layer, config.n_embd) in self.seen

    def seconds(self, config: TrainConfig) -> float | None:
        """A run of `config`: its training, and its evaluations at a third of a trained token's cost."""
        speed = self.tokens_per_s(config)
        return None if speed is None else seconds_at(speed, config, self.data)


def seconds_at(tokens_per_s: float, config: TrainConfig, data: DataFacts) -> float:
    """A run that trains so fast: its training, and its evaluations at a third of a trained token's cost."""
    return (config.max_iters * config.tokens_per_iter + evaluated_tokens(config, data) / 3) / tokens_per_s


def evaluated_tokens(config: TrainConfig, data: DataFacts) -> int:
    """Tokens that a run of `config` is evaluated on in all."""
    evaluations = math.ceil(config.max_iters / config.eval_interval) + 1
    train, val = (windows(split, config) for split in (data.train_tokens, data.val_tokens))
    small = min(config.windows, train) + min(config.windows, val)
    return (evaluations * small + min(config.windows_at_the_end, val)) * config.block_size


def windows(tokens: int, config: TrainConfig) -> int:
    """Windows of block_size tokens and their targets that a split of `tokens` holds."""
    return max(0, (tokens - 1) // config.block_size)


def makespan(seconds: Sequence[float | None], *, workers: int) -> float | None:
    """Time until the last of these runs ends, each started in order by the first worker that is free."""
    free = [0.0] * workers
    for cost in seconds:
        if cost is None:
            return None
        heapq.heapreplace(free, free[0] + cost)
    return max(free)


def share_of(study: Study, device: Device, workers: int) -> float:
    """What a worker has: part of a card that several share; a core of its own, or less where there are fewer."""
    if device.kind == "cuda":
        listed = study.workers.devices
        return 1.0 if listed == "auto" else len(set(listed)) / len(listed)
    return min(1.0, device.count / workers)


def seen(runs: Iterable[Run], config: TrainConfig, *, device: str) -> dict[Shape, float]:
    """Tokens/s by depth and width of the runs that were trained on a `device` ("cpu", "cuda") in the batches of
    `config`: of each run the median over its evaluations, of these the median."""
    shape = ("block_size", "batch_size", "gradient_accumulation_steps")
    by_shape: dict[Shape, list[float]] = defaultdict(list)
    for run in runs:
        alike = all(getattr(run.config, name) == getattr(config, name) for name in shape)
        speeds = [point.tokens_per_s for point in run.points if point.tokens_per_s]
        if alike and speeds and run.device.partition(":")[0] == device:
            by_shape[run.config.n_layer, run.config.n_embd].append(statistics.median(speeds))
    return {each: statistics.median(speeds) for each, speeds in by_shape.items()}
