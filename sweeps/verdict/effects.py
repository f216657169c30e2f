"""Contrasts in words: the size of an effect, its interval and its seeds."""

from __future__ import annotations

import dataclasses

from sweeps.analysis.contrasts import Contrast
from sweeps.store.records import DataFacts
from sweeps.text import count, decimals, nats, p_value, perplexity, signed

_SEEDS = {"layout": "paired seed", "paired": "paired seed"}
_UNPAIRED = {"unpaired": ", unpaired"}


def size(effect: Contrast) -> str:
    """Return the size without a sign: 0.61 nats (95 % interval 0.55 to 0.67, 5 paired seeds)."""
    return _with_interval(effect, sign=False)


def gain(effect: Contrast, *, p: bool = False) -> str:
    """Return the signed gain: +0.40 nats (95 % interval +0.37 to +0.43, 5 paired seeds). `p` adds the p-value."""
    return _with_interval(effect, sign=True, p=p)


def harm(effect: Contrast, *, p: bool = False) -> str:
    """Return the size of a negative gain: 0.40 nats (95 % interval 0.37 to 0.43, 5 paired seeds)."""
    low, high = (None if end is None else -end for end in (effect.high, effect.low))
    mirrored = dataclasses.replace(effect, mean=-effect.mean, low=low, high=high)
    return _with_interval(mirrored, sign=False, p=p)


def moved(effect: Contrast, *, p: bool = False) -> str:
    """Return what a change does: gains 0.40 nats (...), loses 0.23 nats (...). `p` adds the p-value."""
    return f"loses {harm(effect, p=p)}" if _is_negative(effect) else f"gains {_with_interval(effect, sign=False, p=p)}"


def loses(effect: Contrast) -> str:
    """Return what is lost, where `effect` is the loss: loses 0.31 nats (...), gains 0.02 nats (...)."""
    return f"gains {harm(effect)}" if _is_negative(effect) else f"loses {size(effect)}"


def _is_negative(effect: Contrast) -> bool:
    """Whether the effect is below 0 in the decimals that it carries."""
    return nats(effect.mean, _digits(effect)).startswith("−")


def _digits(effect: Contrast) -> int:
    if effect.low is None or effect.high is None:
        return 3
    return decimals((effect.high - effect.low) / 2)


def _with_interval(effect: Contrast, *, sign: bool, p: bool = False) -> str:
    """Return a size with the decimals that its interval carries."""
    seeds = f"{count(effect.n, _SEEDS.get(effect.method, 'seed'))}{_UNPAIRED.get(effect.method, '')}"
    seeds += " because kinds of device differ" if effect.kinds_differ else ""
    digits = _digits(effect)
    if effect.low is not None and effect.high is not None:
        noise = ", noise estimated from the other runs" if effect.n == 1 else ""
        low, high = (nats(end, digits, sign=sign) for end in (effect.low, effect.high))
        known = f"95 % interval {low} to {high}, {seeds}{noise}"
    else:
        known = f"{seeds}, noise unknown"
    return f"{nats(effect.mean, digits, sign=sign)} nats ({known}{_p(effect) if p else ''})"


def _p(effect: Contrast) -> str:
    return "" if effect.p is None else f", p {p_value(effect.p)}"


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


def plain(loss: float) -> str:
    """Return 0.610, with a true minus."""
    return f"{loss:.3f}".replace("-", "−")


def in_other_units(loss: float, reference: float, data: DataFacts) -> str:
    """Return a loss and its reference, both in nats per token, as perplexities and as bits per byte."""
    text = f"perplexity {perplexity(loss):.4g} instead of {perplexity(reference):.4g}"
    bits, reference_bits = data.bits_per_byte(loss), data.bits_per_byte(reference)
    if bits is None or reference_bits is None:
        return text
    return f"{text}, {bits:.3f} bits per byte instead of {reference_bits:.3f}"
