"""Widths of a study's model: memory, micro-batch and speed of the baseline at each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sweeps.engine.planning.speed import Speed, efficiency
from sweeps.engine.planning.workload import spread
from sweeps.study.study import Study
from trainer.config import TrainConfig
from trainer.machine import microbatch
from trainer.machine.device import Device
from trainer.machine.memory import needed
from trainer.model.size import parameters


@dataclass(frozen=True, kw_only=True)
class Width:
    """The baseline at one width, on one worker."""

    n_embd: int
    """width of the residual stream"""
    n_params: int
    """parameters, position embeddings included"""
    peak_bytes: int
    """memory of the micro-batch, as estimated by trainer.machine.memory; of one sequence if no micro-batch fits"""
    micro_batch: int | None
    """sequences: on a card the largest that fits (a trial tries three), on a CPU the configured one; None: none fits"""
    accumulation: int | None
    """micro-batches per iteration"""
    tokens_per_s: float | None
    """while training"""
    measured: bool
    """whether `tokens_per_s` was measured in earlier runs of this study rather than estimated"""
    efficiency: float | None
    """share of the device's peak that `tokens_per_s` assumes; None: measured, or the peak is not known"""
    seconds_per_trial: float | None
    """evaluations included"""


def widths(study: Study, baseline: TrainConfig, speed: Speed, device: Device, *, workers: int) -> tuple[Width, ...]:
    """Return the widths of `study`, narrowest first; the baseline's is among them."""
    swept = spread(study, ("n_embd",), vocab_size=baseline.vocab_size, changes={})
    by_width = {config.n_embd: config for config in (*swept, baseline)}
    sharers = workers if device.kind == "cpu" else 1
    return tuple(_width(by_width[n_embd], speed, device, sharers=sharers) for n_embd in sorted(by_width))


def _width(config: TrainConfig, speed: Speed, device: Device, *, sharers: int) -> Width:
    """Return one width on a device whose memory is shared by `sharers` workers."""
    kind, mixed = device.kind, device.kind == "cuda" and config.dtype != "float32"
    free = math.inf
    if device.free is not None and device.memory is not None:
        free = microbatch.share(device.free, device.memory, sharers)
    try:
        splits = microbatch.fitting(config, kind=kind, mixed=mixed, free=free)
    except microbatch.Infeasible:
        split, fits = microbatch.split(config, 1), False
    else:
        as_configured = kind == "cpu" or device.free is None
        split, fits = microbatch.as_asked(splits, config) if as_configured else splits[0], True
    tokens_per_s = speed.tokens_per_s(config)
    return Width(
        n_embd=config.n_embd,
        n_params=parameters(config),
        peak_bytes=needed(split, kind=kind, mixed=mixed).total,
        micro_batch=split.batch_size if fits else None,
        accumulation=split.gradient_accumulation_steps if fits else None,
        tokens_per_s=tokens_per_s,
        measured=speed.measured(config),
        efficiency=None if speed.measured(config) or tokens_per_s is None else efficiency(config, speed.device.kind),
        seconds_per_trial=speed.seconds(config),
    )
