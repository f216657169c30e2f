"""Micro-batches: the split of an iteration's sequences into parts that fit into memory and run fast.

A run's batch is fixed by its config, and its split by the machine. A micro-batch is a divisor of the sequences per
iteration, and gradient accumulation makes up the rest. Whatever the split, a step sees the same data; losses differ by
rounding, and with dropout by its masks. Evaluations keep their windows.

On a CPU the config's micro-batch is as fast as any, so it is used if it fits. On a card the three largest that fit by
the estimate are tried out, and the smallest of those within 3 % of the fastest is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from trainer.config import TrainConfig
from trainer.machine.memory import needed

SPARE_NEEDED, USABLE = 1.05, 0.92
"""Factor on an estimate, and the usable share of the free memory; the rest is for cuBLAS and fragmentation."""
PROBED = 3
"""micro-batches tried out on a card at a time"""
AS_FAST = 0.97
"""share of the best tokens/s at which a smaller micro-batch is preferred, because it leaves memory to others"""
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The result of trying out a micro-batch on a card."""

    batch_size: int
    tokens_per_s: float | None
    """training speed; None: out of memory"""
    peak_bytes: int
    """most bytes allocated; 0: out of memory"""
    retries: int
    """times that the allocator had to empty its cache, a sign of too little memory"""


class Infeasible(Exception):
    """No split of a run fits. The text says how many MiB are missing."""


def divisors(sequences: int) -> list[int]:
    """Return all divisors of `sequences`, the largest first."""
    small = [number for number in range(1, int(sequences**0.5) + 1) if sequences % number == 0]
    return sorted({*small, *(sequences // number for number in small)}, reverse=True)


def smaller(config: TrainConfig, batch_size: int) -> int | None:
    """Return the run's largest micro-batch below `batch_size`; None if there is none."""
    return next((size for size in divisors(config.sequences_per_iter) if size < batch_size), None)


def split(config: TrainConfig, batch_size: int) -> TrainConfig:
    """Return the same run in micro-batches of `batch_size`, a divisor of its sequences per iteration."""
    accumulation, remainder = divmod(config.sequences_per_iter, batch_size)
    if remainder:
        raise ValueError(f"a micro-batch of {batch_size} doesn't divide {config.sequences_per_iter} sequences")
    return config.replace(
        batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        eval_windows=config.windows,
        final_windows=config.windows_at_the_end,
    )


def fits(peak: float, free: float) -> bool:
    """Whether a run with a peak of `peak` bytes fits into `free` bytes."""
    return peak * SPARE_NEEDED <= free * USABLE


def missing_bytes(peak: float, free: float) -> int:
    """Return the bytes that a run with a peak of `peak` bytes needs beyond the `free` ones."""
    return max(0, round(peak * SPARE_NEEDED / USABLE - free))


def share(free: int, total: int, sharers: int) -> int:
    """Return the bytes that each of `sharers` workers on a device can rely on: all may reach their peak at once."""
    return min(free, total // sharers)


def fitting(
    config: TrainConfig, *, kind: str, mixed: bool, free: float, largest: int | None = None
) -> list[TrainConfig]:
    """Return the splits of the run that fit by the estimate, the largest micro-batch first, none above `largest`.

    `kind` and `mixed` are those of `memory.needed`. Raises Infeasible if no split fits.
    """
    sizes = [size for size in divisors(config.sequences_per_iter) if largest is None or size <= largest]
    splits = [split(config, size) for size in sizes]
    peaks = [needed(candidate, kind=kind, mixed=mixed).total for candidate in splits]
    feasible = [candidate for candidate, peak in zip(splits, peaks, strict=True) if fits(peak, free)]
    if not feasible:
        raise Infeasible(
            f"a micro-batch of {sizes[-1]} needs {peaks[-1] / MIB:,.0f} MiB and some to spare, {free / MIB:,.0f} MiB "
            f"are free: {missing_bytes(peaks[-1], free) / MIB:,.0f} MiB are missing"
        )
    return feasible


def as_asked(splits: Sequence[TrainConfig], config: TrainConfig) -> TrainConfig:
    """Return the split with the config's micro-batch or the next smaller one. `splits` fit, the largest first.

    Returns the smallest split if all are larger than the config's.
    """
    return next((candidate for candidate in splits if candidate.batch_size <= config.batch_size), splits[-1])


def fastest(measurements: Iterable[Measured]) -> int | None:
    """Return the smallest micro-batch within 3 % of the best tokens/s; None if none ran with memory to spare."""
    speeds = {run.batch_size: run.tokens_per_s for run in measurements if run.tokens_per_s and not run.retries}
    best = max(speeds.values(), default=0.0)
    return min((size for size, speed in speeds.items() if speed >= AS_FAST * best), default=None)


def tried_out(splits: Sequence[TrainConfig], measure: Callable[[TrainConfig], Measured], *, free: int) -> TrainConfig:
    """Choose a split for a card by trying out three at a time. `splits` fit by the estimate, the largest first.

    The next three are tried only if none of these fits. Raises Infeasible if no split fits.
    """
    if len(splits) == 1:
        return splits[0]  # without a choice, the run itself will show whether it fits
    for first in range(0, len(splits), PROBED):
        candidates = splits[first : first + PROBED]
        measurements = [
            measured
            for measured in map(measure, candidates)
            if measured.tokens_per_s is None or fits(measured.peak_bytes, free)
        ]
        chosen = fastest(measurements)
        if chosen is not None:
            return next(candidate for candidate in candidates if candidate.batch_size == chosen)
    raise Infeasible(
        f"a micro-batch of {splits[-1].batch_size} ran out of memory when tried out, with {free / MIB:,.0f} MiB free"
    )


@dataclass
class Limits:
    """The largest micro-batches still allowed for shapes that ran out of memory on a device."""

    _largest: dict[tuple[object, ...], int] = field(default_factory=dict)

    def of(self, config: TrainConfig, device: str) -> int | None:
        """Return the largest micro-batch that the run may use on the device; None: no limit."""
        return self._largest.get((*shape_of(config), device))

    def ran_out(self, config: TrainConfig, device: str, *, batch_size: int) -> bool:
        """Record that the run ran out of memory on the device at `batch_size`. Returns whether a smaller one exists."""
        next_smaller = smaller(config, batch_size)
        if next_smaller is not None:
            self._largest[(*shape_of(config), device)] = next_smaller
        return next_smaller is not None


def shape_of(config: TrainConfig) -> tuple[object, ...]:
    """Return the settings that a micro-batch's memory depends on, apart from the device."""
    model = (config.n_layer, config.n_head, config.n_embd, config.block_size, config.vocab_size, config.bias)
    return (*model, config.dropout > 0, config.dtype, config.compile)
