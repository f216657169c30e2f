"""How fast a worker trains, estimated: FLOPs over FLOP/s.

The FLOPs are exact (6*N + 12*L*C*T a trained token, a third of that an evaluated one). The FLOP/s are an assumption:
half of a card's dense peak, or on a CPU a share of the measured peak that falls with the width.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.results import DataFacts
from sweeps.study import Study
from trainer.config import TrainConfig
from trainer.device import Device, flops_per_token

CUDA_EFFICIENCY = 0.5
"""Share of a card's dense peak that a trial reaches; a narrow model on a large card reaches less."""
CPU_EFFICIENCY, CPU_HALF_WIDTH = 0.75, 40
"""A step of width C reaches 0.75*C/(C + 40) of the peak of a large product. Measured on one core (AVX2, float32,
dropout 0): .27 to .31 at width 32, .46 to .56 at 64, .62 to .73 at 128, .66 to .70 at 256. Whole runs of the trainer
took .85 to 1.4 times what this says."""
CPU_DROPOUT = 0.7
"""Speed with any dropout, against none: measured .82 at .1 and width 128, .63 at .2 and width 64."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What one worker does in a second."""

    device: Device
    share: float
    """of a device, or of a core"""
    data: DataFacts
    dtype: str

    def tokens_per_s(self, config: TrainConfig) -> float | None:
        """Trained on; None where the device's peak for this precision isn't known."""
        if self.device.peak is None or (self.device.kind == "cuda" and self.dtype == "float32"):
            return None
        efficiency = CUDA_EFFICIENCY
        if self.device.kind == "cpu":
            efficiency = CPU_EFFICIENCY * config.n_embd / (config.n_embd + CPU_HALF_WIDTH)
            efficiency *= CPU_DROPOUT if config.dropout else 1.0
        return efficiency * self.share * self.device.peak / flops_per_token(config)

    def seconds(self, config: TrainConfig) -> float | None:
        """A run of `config`: its training, and its evaluations at a third of a trained token's cost."""
        speed = self.tokens_per_s(config)
        if speed is None:
            return None
        evaluations = math.ceil(config.max_iters / config.eval_interval) + 1
        train, val = (windows(split, config) for split in (self.data.train_tokens, self.data.val_tokens))
        small = min(config.windows, train) + min(config.windows, val)
        evaluated = (evaluations * small + min(config.windows_at_the_end, val)) * config.block_size
        return (config.max_iters * config.tokens_per_iter + evaluated / 3) / speed


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
