"""Ranges of knobs that hold a new baseline's values, where they were written around another's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from sweeps.errors import SpecError
from sweeps.knobs import ChoicesKnob, Number, RangeKnob, show
from sweeps.settings import WHOLE, Value
from sweeps.study import knob_value

_K = TypeVar("_K", RangeKnob, ChoicesKnob)


def widened(
    name: str, knob: RangeKnob | ChoicesKnob, settings: Mapping[str, Value], *, unit: int
) -> RangeKnob | ChoicesKnob:
    """`knob` with the value that the baseline's `settings` have; itself where it has it.

    Widths stay multiples of `unit` (the size or the number of heads) and whole numbers on steps,
    which become finer where they must. Raises SpecError where a log scale would have to hold 0.
    """
    value = knob_value(settings, name)
    if isinstance(knob, ChoicesKnob):
        return knob if knob.contains(value) else _changed(knob, choices=(*knob.choices, value))
    if knob.log and value <= 0:
        raise SpecError(
            f"{name}={show(value)} can't be on the log scale of knobs.{name}; "
            f"add --set knobs.{name}.log=false, or leave the knob out: --set knobs.{name}=null"
        )
    if name == "n_embd" and not knob.round:
        return _on_units(knob, int(value), unit)
    if knob.contains(value):
        return knob
    low, high = min(knob.low, value), max(knob.high, value)
    if name in WHOLE and isinstance(value, int):
        step = None if knob.step is None else math.gcd(int(knob.step), int(high - value), int(value - low))
        return _changed(knob, low=low, high=high, step=step)
    return _changed(knob, low=low, high=high, step=None)


def _on_units(knob: RangeKnob, value: int, unit: int) -> RangeKnob:
    if knob.contains(value) and all(width % unit == 0 for width in knob.wholes()):
        return knob
    low = min(value, max(unit, math.floor(knob.low / unit) * unit))
    high = max(value, math.ceil(knob.high / unit) * unit)
    high = high if high > low else high + unit
    step = max(unit, round((knob.step or unit) / unit) * unit)
    return _changed(knob, low=low, high=high, step=math.gcd(step, high - value, value - low), log=False)


def _changed(knob: _K, **changes: Number | tuple[Number, ...] | None) -> _K:
    return type(knob).model_validate({**knob.model_dump(), **changes})
