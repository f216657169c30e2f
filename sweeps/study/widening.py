"""Widening of knobs: a range that doesn't reach beyond a baseline from the command line is extended on both sides.

A baseline at the end of a range leaves one of its sides unasked. How far a range reaches is a matter of scale: three
times on a log scale, a third in width and depth, half of the range elsewhere. Nature's bounds, such as a dropout of 0,
end it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from sweeps.study.baseline import WHOLE, Value
from sweeps.study.knobs import ChoicesKnob, RangeKnob, batch_sizes_around
from sweeps.study.model import Number
from sweeps.study.study import Study, knob_value
from sweeps.text import short

_ON_A_LOG_SCALE = 3
_IN_SHAPE = 4 / 3
_ELSEWHERE = 0.5
_SHARES = ("min_lr", "warmup_iters")
_MOST: dict[str, Number] = {
    "learning_rate": 1e3,
    "weight_decay": 1e3,
    "n_embd": 65536,
    "n_layer": 256,
    "batch_size": 2**20,
    "grad_clip": math.inf,
}
"""TrainConfig's limits; of the other settings it is 1"""
_BELOW_ONE = ("dropout", "beta2", "label_smoothing")
"""settings that may come near to 1, and not be 1"""


def containing_the_control(study: Study) -> Study:
    """Return a study of branches whose knobs reach beyond the control, with a note on every knob that is wider."""
    knobs, notes = dict(study.knobs), list(study.notes)
    for name, knob in study.sampled.items():
        wider = widened(name, knob, study.control, unit=study.head_unit)
        if wider != knob:
            knobs[name] = wider
            notes.append(note_on(name, knob, wider, whose="the control's", value=study.knob_value(name)))
    return study.model_copy(update={"knobs": knobs, "notes": tuple(notes)})


def note_on(
    name: str, knob: RangeKnob | ChoicesKnob, wider: RangeKnob | ChoicesKnob, *, whose: str, value: Number
) -> str:
    """Say what became of a knob, and which value it was made for."""
    linear = (
        ", on a linear scale" if isinstance(knob, RangeKnob) and knob.log and not getattr(wider, "log", True) else ""
    )
    return f"knobs.{name}: {wider.words()}{linear} instead of {knob.words()}, to reach beyond {whose} {short(value)}"


_K = TypeVar("_K", RangeKnob, ChoicesKnob)


def widened(
    name: str, knob: RangeKnob | ChoicesKnob, settings: Mapping[str, Value], *, unit: int, was: Number | None = None
) -> RangeKnob | ChoicesKnob:
    """Return `knob` with values on both sides of the baseline's in `settings`, or `knob` itself if it has them.

    Widths stay multiples of `unit`, the size or the number of heads. Whole numbers stay on steps, which become finer
    where necessary. Choices of batch sizes become half, the same and twice the baseline's. `was` is the value that the
    knob was written around: a range of shapes that doesn't hold the baseline is scaled from it. A log scale that would
    have to hold 0 becomes linear.
    """
    value = knob_value(settings, name)
    if isinstance(knob, ChoicesKnob):
        return _choices(name, knob, value)
    if name == "n_embd" and not knob.round:
        return _widths(knob, int(value), unit, was)
    if knob.log and value <= 0:
        knob = _changed(knob, low=0.0, log=False)
    if name in WHOLE and name not in _SHARES:
        return _wholes(name, knob, int(value), was)
    return _numbers(name, knob, value)


def _choices(name: str, knob: ChoicesKnob, value: Number) -> ChoicesKnob:
    if name == "batch_size":  # another run's sizes may see its tokens in no whole number of iterations
        around = knob.contains(value) and min(knob.choices) < value < max(knob.choices)
        return (
            knob
            if around or value == 1 == min(knob.choices)
            else _changed(knob, choices=batch_sizes_around(int(value)))
        )
    return knob if knob.contains(value) else _changed(knob, choices=(*knob.choices, value))


def _numbers(name: str, knob: RangeKnob, value: Number) -> RangeKnob:
    """Return a range of numbers with a fraction that reaches beyond `value`."""
    if knob.low < value < knob.high and knob.contains(value):
        return knob
    most = _MOST.get(name, 1)
    if knob.log:
        below, above = value / _ON_A_LOG_SCALE, value * _ON_A_LOG_SCALE
    else:
        reach = _ELSEWHERE * (knob.high - knob.low)
        below, above = max(0.0, value - reach), value + reach
    above = _two_digits(above)
    if name in _BELOW_ONE and above >= most:
        above = most - _two_digits((most - value) / 2)
    low = knob.low if knob.low < value else min(value, _two_digits(below))
    high = knob.high if knob.high > value else min(most, max(value, above))
    wider = {"low": low, "high": high}
    on_steps = knob.step is not None and RangeKnob.model_construct(**{**knob.model_dump(), **wider}).contains(value)
    kept = on_steps and abs((high - low) / knob.step - round((high - low) / knob.step)) < 1e-9  # type: ignore[operator]
    return _changed(knob, **wider, step=knob.step if kept else None)


def _wholes(name: str, knob: RangeKnob, value: int, was: Number | None) -> RangeKnob:
    """Return a range of whole numbers that reaches beyond `value`."""
    if knob.low < value < knob.high and knob.contains(value):
        return knob
    step = int(knob.step or 1)
    low, high = int(knob.low), int(knob.high)
    if was and not low <= value <= high:
        low, high = round(low * value / was), round(high * value / was)
    low, high = max(1, min(low, value)), max(high, value)
    step = math.gcd(step, high - value, value - low) or step
    reach = math.ceil(value * (_IN_SHAPE - 1) / step) * step
    high = high if high > value else min(int(_MOST.get(name, 2**20)), value + reach)
    low = low if low < value else value - reach * (value > reach)
    return _changed(knob, low=low, high=high, step=None if knob.step is None else step)


def _widths(knob: RangeKnob, value: int, unit: int, was: Number | None) -> RangeKnob:
    """Return a range of widths that reaches beyond `value`, with steps that are multiples of `unit`."""
    fits = all(width % unit == 0 for width in knob.wholes())
    if fits and knob.low < value < knob.high and knob.contains(value):
        return knob
    times = value / was if was and not knob.low <= value <= knob.high else 1.0
    step = max(unit, round((knob.step or unit) * times / unit) * unit)
    low = min(value, max(unit, math.floor(knob.low * times / unit) * unit))
    high = max(value, math.ceil(knob.high * times / unit) * unit)
    step = math.gcd(step, high - value, value - low)
    reach = math.ceil(value * (_IN_SHAPE - 1) / step) * step
    high = high if high > value else value + reach
    low = low if low < value else (value - reach if value > reach else value)
    return _changed(knob, low=low, high=high, step=step, log=False)


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def _changed(knob: _K, **changes: Number | tuple[Number, ...] | None) -> _K:
    return type(knob).model_validate({**knob.model_dump(), **changes})
