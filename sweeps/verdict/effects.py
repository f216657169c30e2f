"""A contrast in words: its size, its interval, its seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from sweeps.analysis.contrasts import Contrast
from sweeps.store.records import DataFacts
from sweeps.text import count, perplexity, signed

_SEEDS = {"layout": "paired seed", "paired": "paired seed"}
_UNPAIRED = {"permutation": ", by permutation", "unpaired": ", unpaired"}


def size(effect: Contrast) -> str:
    """0.610 nats (95 % interval 0.550 to 0.670, 5 paired seeds)."""
    return _with_interval(effect, plain)


def gain(effect: Contrast, *, p: bool = False) -> str:
    """+0.400 nats (95 % interval +0.372 to +0.428, 5 paired seeds), with p if asked for."""
    return _with_interval(effect, signed, p=p)


def loss(effect: Contrast) -> str:
    """Of a negative gain: 0.400 nats (95 % interval 0.372 to 0.428, 5 paired seeds)."""
    low, high = (None if end is None else -end for end in (effect.high, effect.low))
    return size(dataclasses.replace(effect, mean=-effect.mean, low=low, high=high))


def _with_interval(effect: Contrast, number: Callable[[float], str], *, p: bool = False) -> str:
    seeds = f"{count(effect.n, _SEEDS.get(effect.method, 'seed'))}{_UNPAIRED.get(effect.method, '')}"
    if effect.low is not None and effect.high is not None:
        noise = ", with the noise of the other runs" if effect.n == 1 else ""
        known = f"95 % interval {number(effect.low)} to {number(effect.high)}, {seeds}{noise}"
    else:
        known = f"{seeds}, {'noise unknown' if effect.p is None else 'too few for an interval'}"
    return f"{number(effect.mean)} nats ({known}{_p(effect) if p else ''})"


def _p(effect: Contrast) -> str:
    if effect.p is None:
        return ""
    return ", p < 0.001" if effect.p < 0.001 else f", p = {effect.p:.3f}"


def bound(effect: Contrast) -> str:
    """What a one-sided test goes by."""
    if effect.lower is None:
        return f"one-sided{_p(effect).removeprefix(',')}"
    return f"the one-sided 95 % lower bound is {signed(effect.lower)}"


def share(effect: Contrast) -> str:
    """Of outcomes that differ in kind between seeds, how many are of which."""
    if effect.method != "permutation" and effect.share in (0, 1):
        return ""
    above, least = f"{round(effect.share * effect.n)} of {count(effect.n, 'seed')}", f"more than {effect.threshold:g}"
    return (
        f"; {above} broke through (gained {least})" if effect.mean > effect.threshold else f"; {above} gained {least}"
    )


def plain(nats: float) -> str:
    """0.610, with a true minus."""
    return f"{nats:.3f}".replace("-", "−")


def in_other_units(loss: float, reference: float, data: DataFacts) -> str:
    """A loss and what it is held against, in nats, as perplexities and bits a byte."""
    text = f"perplexity {perplexity(loss):.4g} instead of {perplexity(reference):.4g}"
    bits, reference_bits = data.bits_per_byte(loss), data.bits_per_byte(reference)
    if bits is None or reference_bits is None:
        return text
    return f"{text}, {bits:.3f} bits a byte instead of {reference_bits:.3f}"
