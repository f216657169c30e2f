"""Contrasts in words: the size of an effect, its interval and its seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from sweeps.analysis.contrasts import Contrast
from sweeps.store.records import DataFacts
from sweeps.text import count, perplexity, signed

_SEEDS = {"layout": "paired seed", "paired": "paired seed"}
_UNPAIRED = {"unpaired": ", unpaired"}


def size(effect: Contrast) -> str:
    """Return the size without a sign: 0.610 nats (95 % interval 0.550 to 0.670, 5 paired seeds)."""
    return _with_interval(effect, plain)


def gain(effect: Contrast, *, p: bool = False) -> str:
    """Return the signed gain: +0.400 nats (95 % interval +0.372 to +0.428, 5 paired seeds). `p` adds the p-value."""
    return _with_interval(effect, signed, p=p)


def harm(effect: Contrast) -> str:
    """Return the size of a negative gain: 0.400 nats (95 % interval 0.372 to 0.428, 5 paired seeds)."""
    low, high = (None if end is None else -end for end in (effect.high, effect.low))
    return size(dataclasses.replace(effect, mean=-effect.mean, low=low, high=high))


def _with_interval(effect: Contrast, number: Callable[[float], str], *, p: bool = False) -> str:
    seeds = f"{count(effect.n, _SEEDS.get(effect.method, 'seed'))}{_UNPAIRED.get(effect.method, '')}"
    if effect.low is not None and effect.high is not None:
        noise = ", noise estimated from the other runs" if effect.n == 1 else ""
        known = f"95 % interval {number(effect.low)} to {number(effect.high)}, {seeds}{noise}"
    else:
        known = f"{seeds}, noise unknown"
    return f"{number(effect.mean)} nats ({known}{_p(effect) if p else ''})"


def _p(effect: Contrast) -> str:
    if effect.p is None:
        return ""
    return ", p < 0.001" if effect.p < 0.001 else f", p = {effect.p:.3f}"


def bound(effect: Contrast) -> str:
    """Return what the one-sided test rests on: the lower bound, or the p-value where there is no bound."""
    if effect.lower is None:
        return f"one-sided{_p(effect).removeprefix(',')}"
    return f"the one-sided 95 % lower bound is {signed(effect.lower)}"


def share(effect: Contrast) -> str:
    """Return how many seeds exceed the threshold. Empty where all seeds, or none, do and none differ in kind.

    Where they differ in kind, the interval of that share follows.
    """
    if not effect.bimodal and effect.share in (0, 1):
        return ""
    seeds = f"{effect.through} of {count(effect.n, 'seed')}"
    least = f"gained more than {effect.threshold:g} nats"
    of_all = ""
    if effect.bimodal:
        low, high = (f"{100 * end:.0f}" for end in effect.share_interval)
        of_all = f"95 % interval of that share {low} to {high} %"
    if effect.mean > effect.threshold:
        return f"; {seeds} broke through ({'; '.join(filter(None, (least, of_all)))})"
    return f"; {seeds} {least}{f' ({of_all})' if of_all else ''}"


def plain(nats: float) -> str:
    """Return 0.610, with a true minus."""
    return f"{nats:.3f}".replace("-", "−")


def in_other_units(loss: float, reference: float, data: DataFacts) -> str:
    """Return a loss and its reference, both in nats per token, as perplexities and as bits per byte."""
    text = f"perplexity {perplexity(loss):.4g} instead of {perplexity(reference):.4g}"
    bits, reference_bits = data.bits_per_byte(loss), data.bits_per_byte(reference)
    if bits is None or reference_bits is None:
        return text
    return f"{text}, {bits:.3f} bits per byte instead of {reference_bits:.3f}"
