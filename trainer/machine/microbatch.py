"""How an iteration's sequences are split into micro-batches, so that they fit and run fast.

A run's batch is fixed by its config; the split is the machine's. A micro-batch is a divisor of the sequences an
iteration, the accumulation is what is left, and whatever the split, a step sees the same data: losses differ by
rounding, and with dropout by its luck. Evaluations keep their windows.

On a CPU the micro-batch that was asked for is as fast as any, so it stays where it fits. On a card the largest three
that fit by the estimate are tried out, and the smallest of those that are as fast as the fastest is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from trainer.config import TrainConfig
from trainer.machine.memory import needed

SPARE_NEEDED, USABLE = 1.05, 0.92
"""An estimate and this much more must fit into this share of what is free: cuBLAS's workspace and fragmentation."""
PROBED = 3
"""micro-batches tried out on a card"""
AS_FAST = 0.97
"""of the best tokens/s: a smaller micro-batch that reaches it leaves memory to others"""
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a trial of a micro-batch on a card has shown."""

    batch_size: int
    tokens_per_s: float | None
    """None: it ran out of memory"""
    peak_bytes: int
    """allocated at most; 0: it ran out of memory"""
    retries: int
    """times that the allocator had to empty its cache to go on: there is hardly room"""


class Infeasible(Exception):
    """No split of a run fits; its text says what is missing, MiB."""


def divisors(sequences: int) -> list[int]:
    """All divisors of `sequences`, the largest first."""
    small = [number for number in range(1, int(sequences**0.5) + 1) if sequences % number == 0]
    return sorted({*small, *(sequences // number for number in small)}, reverse=True)


def smaller(config: TrainConfig, batch_size: int) -> int | None:
    """The next smaller micro-batch of the run; None: there is none."""
    return next((size for size in divisors(config.sequences_per_iter) if size < batch_size), None)


def split(config: TrainConfig, batch_size: int) -> TrainConfig:
    """The same run in micro-batches of `batch_size`, a divisor of its sequences an iteration."""
    accumulation, left = divmod(config.sequences_per_iter, batch_size)
    if left:
        raise ValueError(f"a micro-batch of {batch_size} doesn't divide {config.sequences_per_iter} sequences")
    return config.replace(
        batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        eval_windows=config.windows,
        final_windows=config.windows_at_the_end,
    )


def fits(peak: float, free: float) -> bool:
    """Whether a run that allocates `peak` bytes at most can be had with `free` bytes."""
    return peak * SPARE_NEEDED <= free * USABLE


def missing(peak: float, free: float) -> int:
    """Bytes more that would have to be free for a run that allocates `peak`."""
    return max(0, round(peak * SPARE_NEEDED / USABLE - free))


def share(free: int, total: int, sharers: int) -> int:
    """What one of `sharers` workers on a device may count on: they may all want it at once."""
    return min(free, total // sharers)


def fitting(
    config: TrainConfig, *, kind: str, mixed: bool, free: float, largest: int | None = None
) -> list[TrainConfig]:
    """Splits of the run that fit by the estimate, the largest micro-batch first, none above `largest`.

    `kind` and `mixed` as for `memory.needed`. Raises Infeasible where none does.
    """
    sizes = [size for size in divisors(config.sequences_per_iter) if largest is None or size <= largest]
    splits = [split(config, size) for size in sizes]
    found = [each for each in splits if fits(needed(each, kind=kind, mixed=mixed).total, free)]
    if not found:
        peak = needed(splits[-1], kind=kind, mixed=mixed).total
        raise Infeasible(
            f"a micro-batch of {sizes[-1]} needs {peak / MIB:,.0f} MiB and some to spare, {free / MIB:,.0f} MiB are "
            f"free: {missing(peak, free) / MIB:,.0f} MiB are missing"
        )
    return found


def as_asked(splits: Sequence[TrainConfig], config: TrainConfig) -> TrainConfig:
    """Of splits that fit, largest first, the one that `config` asks for, or the next smaller."""
    return next((each for each in splits if each.batch_size <= config.batch_size), splits[-1])


def fastest(measured: Iterable[Measured]) -> int | None:
    """The smallest micro-batch within 3 % of the best tokens/s; None where none ran with room to spare."""
    clean = {each.batch_size: each.tokens_per_s for each in measured if each.tokens_per_s and not each.retries}
    best = max(clean.values(), default=0.0)
    return min((size for size, speed in clean.items() if speed >= AS_FAST * best), default=None)


def tried_out(splits: Sequence[TrainConfig], measure: Callable[[TrainConfig], Measured], *, free: int) -> TrainConfig:
    """Of splits that fit by the estimate, largest first, the one to take on a card, by trying three of them out.

    Three more where none of these has room. Raises Infeasible where none at all does.
    """
    if len(splits) == 1:
        return splits[0]  # nothing to choose; if it has no room after all, the run will say so
    for first in range(0, len(splits), PROBED):
        some = splits[first : first + PROBED]
        seen = [each for each in map(measure, some) if each.tokens_per_s is None or fits(each.peak_bytes, free)]
        chosen = fastest(seen)
        if chosen is not None:
            return next(each for each in some if each.batch_size == chosen)
    raise Infeasible(
        f"a micro-batch of {splits[-1].batch_size} ran out of memory when tried out, with {free / MIB:,.0f} MiB free"
    )


@dataclass
class Limits:
    """The micro-batches that are still allowed, of shapes that ran out of memory on a device."""

    _largest: dict[tuple[object, ...], int] = field(default_factory=dict)

    def of(self, config: TrainConfig, device: str) -> int | None:
        """The largest micro-batch that the run may have on the device; None: any."""
        return self._largest.get((*shape_of(config), device))

    def ran_out(self, config: TrainConfig, device: str, *, batch_size: int) -> bool:
        """Remember that the run had no memory on the device with `batch_size`; whether there is a smaller one left."""
        less = smaller(config, batch_size)
        if less is not None:
            self._largest[(*shape_of(config), device)] = less
        return less is not None


def shape_of(config: TrainConfig) -> tuple[object, ...]:
    """What the memory of a micro-batch depends on, the device apart."""
    model = (config.n_layer, config.n_head, config.n_embd, config.block_size, config.vocab_size, config.bias)
    return (*model, config.dropout > 0, config.dtype, config.compile)
