"""Widening of knobs: ranges that don't hold the value of a baseline from the command line are extended to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from sweeps.errors import SpecError
from sweeps.study.baseline import WHOLE, Baseline, Value, complete, head_unit
from sweeps.study.knobs import ChoicesKnob, Knobs, RangeKnob, batch_sizes_around
from sweeps.study.model import Number, as_yaml
from sweeps.study.resolve import Resolved
from sweeps.study.start import GROWN
from sweeps.study.study import OF_THE_CONTROL, Study, knob_value

_KNOBS: TypeAdapter[dict[str, RangeKnob | ChoicesKnob]] = TypeAdapter(Knobs)
_BASELINE: TypeAdapter[dict[str, Value]] = TypeAdapter(Baseline)


def widen_knobs(resolved: Resolved) -> None:
    """Make the knobs contain the values of a baseline from the command line, and note the changes.

    Invalid knobs and an invalid baseline are left for the check of the whole study. Raises SpecError for a log scale
    that would have to contain 0.
    """
    try:
        knobs = _KNOBS.validate_python(resolved.value.get("knobs"))
        settings = complete(_BASELINE.validate_python(resolved.value.get("baseline")))
    except ValidationError:
        return
    in_branches = resolved.value.get("start", "scratch") != "scratch"
    for name, knob in knobs.items():
        if in_branches and name in (*OF_THE_CONTROL, *GROWN):
            continue  # the control's values are known once the origin is, and shapes can only grow
        try:
            wider = widened(name, knob, settings, unit=head_unit(settings))
        except SpecError as error:
            raise resolved.error(("baseline", name), str(error)) from error
        if wider != knob:
            resolved.value["knobs"][name] = wider.model_dump(exclude_defaults=True)
            resolved.notes.append(
                f"knobs.{name}: {wider.words()} instead of {knob.words()}, to contain the value of "
                f"{resolved.baseline}: {as_yaml(knob_value(settings, name))}"
            )


def containing_the_control(study: Study) -> Study:
    """Return a study of branches whose knobs contain the control's values, with a note on every knob that is wider.

    Raises SpecError for a log scale that would have to contain 0.
    """
    knobs, notes = dict(study.knobs), list(study.notes)
    for name, knob in study.sampled.items():
        wider = widened(name, knob, study.control, unit=study.head_unit)
        if wider != knob:
            knobs[name] = wider
            value = as_yaml(study.knob_value(name))
            notes.append(
                f"knobs.{name}: {wider.words()} instead of {knob.words()}, to contain the control's value, {value}"
            )
    return study.model_copy(update={"knobs": knobs, "notes": tuple(notes)})


_K = TypeVar("_K", RangeKnob, ChoicesKnob)


def widened(
    name: str, knob: RangeKnob | ChoicesKnob, settings: Mapping[str, Value], *, unit: int
) -> RangeKnob | ChoicesKnob:
    """Return `knob` with the value of the baseline's `settings` added, or `knob` itself if it contains the value.

    Widths stay multiples of `unit`, the size or the number of heads. Whole numbers stay on steps, which become finer
    where necessary. Choices of batch sizes become half, the same and twice the baseline's. Raises SpecError for a log
    scale that would have to contain 0.
    """
    value = knob_value(settings, name)
    if isinstance(knob, ChoicesKnob):
        if knob.contains(value):
            return knob
        if name == "batch_size":  # another run's sizes may see its tokens in no whole number of iterations
            return _changed(knob, choices=batch_sizes_around(int(value)))
        return _changed(knob, choices=(*knob.choices, value))
    if knob.log and value <= 0:
        raise SpecError(
            f"{name}={as_yaml(value)} can't be on the log scale of knobs.{name}; "
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
    """Return a range of widths that contains `value`, with steps that are multiples of `unit`."""
    if knob.contains(value) and all(width % unit == 0 for width in knob.wholes()):
        return knob
    low = min(value, max(unit, math.floor(knob.low / unit) * unit))
    high = max(value, math.ceil(knob.high / unit) * unit)
    high = high if high > low else high + unit
    step = max(unit, round((knob.step or unit) / unit) * unit)
    return _changed(knob, low=low, high=high, step=math.gcd(step, high - value, value - low), log=False)


def _changed(knob: _K, **changes: Number | tuple[Number, ...] | None) -> _K:
    return type(knob).model_validate({**knob.model_dump(), **changes})
