"""Fitting: what a study was written around its own baseline is made to fit another from the command line.

Ranges reach beyond the new baseline, lengths are at most its run's, races keep their proportion to its shape. What has
no effect or can't be run is left out. Each change is a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sweeps.study.baseline import Baseline, Value, complete, head_unit
from sweeps.study.knobs import ChoicesKnob, Knobs, RangeKnob
from sweeps.study.model import Number
from sweeps.study.resolve import Resolved
from sweeps.study.sections import MIN_ITERS
from sweeps.study.start import GROWN, MIN_ORIGIN_ITERS
from sweeps.study.study import OF_THE_CONTROL, knob_value
from sweeps.study.widening import note_on, widened

_KNOBS: TypeAdapter[dict[str, RangeKnob | ChoicesKnob]] = TypeAdapter(Knobs)
_BASELINE: TypeAdapter[dict[str, Value]] = TypeAdapter(Baseline)
OF_DECAY = ("min_lr", "warmup_iters", "lr_decay_iters")
"""settings without effect where the rate doesn't decay"""
NO_DECAY = "decay_lr is False, so it has no effect"
_MOST_TIMES = 2
"""times as wide or deep as the baseline that a race is, at most, if it was written around another"""


def fit_to_baseline(resolved: Resolved) -> None:
    """Fit knobs, lengths, races and candidates to a baseline from the command line, and note the changes.

    Invalid knobs and an invalid baseline are left for the check of the whole study.
    """
    try:
        knobs = _KNOBS.validate_python(resolved.value.get("knobs"))
        settings = complete(_BASELINE.validate_python(resolved.value.get("baseline")))
        example = complete(_BASELINE.validate_python(resolved.example))
    except ValidationError:
        return
    in_branches = resolved.value.get("start", "scratch") != "scratch"
    if not settings["decay_lr"] and not in_branches:
        _without_decay(resolved, knobs)
    if resolved.own is not None:
        _fit_lengths(resolved, settings)
        _fit_race(resolved, settings, example)
    for name, knob in knobs.items():
        if in_branches and name in (*OF_THE_CONTROL, *GROWN):
            continue  # the control's values are known once the origin is, and shapes can only grow
        if int(settings["n_embd"]) % head_unit(settings):
            continue  # the check of the baseline explains it
        value = knob_value(settings, name)
        if name == "warmup_iters" and value > 1:
            why = f"warmup_iters={settings[name]} is longer than the run of {settings['max_iters']} iterations"
            del resolved.value["knobs"][name]
            resolved.notes.append(left_out(resolved, f"knobs.{name}", why))
            continue
        wider = widened(name, knob, settings, unit=head_unit(settings), was=knob_value(example, name))
        if name == "warmup_iters" and isinstance(wider, RangeKnob):
            wider = _before_the_decay_ends(wider, value, settings)
        if wider != knob:
            resolved.value["knobs"][name] = wider.model_dump(exclude_defaults=True)
            resolved.notes.append(note_on(name, knob, wider, whose=f"the value of {resolved.baseline},", value=value))


def _without_decay(resolved: Resolved, knobs: dict[str, RangeKnob | ChoicesKnob]) -> None:
    """Leave out the knobs that have no effect at a constant rate."""
    for name in [name for name in knobs if name in OF_DECAY]:
        del knobs[name], resolved.value["knobs"][name]
        resolved.notes.append(left_out(resolved, f"knobs.{name}", NO_DECAY))


def _fit_lengths(resolved: Resolved, settings: Mapping[str, Value]) -> None:
    """Make no trial, origin or race longer than the baseline's run."""
    longest = int(settings["max_iters"])
    per_iter = int(settings["batch_size"]) * int(settings["gradient_accumulation_steps"]) * int(settings["block_size"])
    _fit_length(resolved, ("horizon", "iters"), least=MIN_ITERS, most=longest, why=f"{longest} iterations")
    in_tokens = f"{longest * per_iter} tokens, {per_iter} per iteration"
    least, most = MIN_ITERS * per_iter, longest * per_iter
    _fit_length(resolved, ("horizon", "tokens"), least=least, most=most, why=in_tokens)
    train = ("start", "train", "max_iters")
    _fit_length(resolved, train, least=MIN_ORIGIN_ITERS, most=longest, why=f"{longest} iterations")
    origin = _at(resolved, train)
    most = min(longest, origin) if isinstance(origin, int) else longest
    _fit_length(resolved, ("race", "iters"), least=MIN_ITERS, most=most, why=f"{longest} iterations")


def _fit_length(resolved: Resolved, path: tuple[str, ...], *, least: int, most: int, why: str) -> None:
    length = _at(resolved, path)
    fitting = min(max(least, most), max(length, least)) if isinstance(length, int) else length
    if fitting != length and (path[-1] != "iters" or length >= least):
        resolved.put(path, fitting, resolved.place(path))
        resolved.notes.append(
            f"{'.'.join(path)}: {fitting} instead of {length}; the run of {resolved.baseline} has {why}"
        )


def _at(resolved: Resolved, path: tuple[str, ...]) -> Any:
    value: Any = resolved.value
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return None if isinstance(value, bool) else value


def _fit_race(resolved: Resolved, settings: Mapping[str, Value], example: Mapping[str, Value]) -> None:
    """Give raced shapes the proportion to the baseline that they had to the study's own, at most twice its size."""
    for name in GROWN:
        sizes, now, was = _at(resolved, ("race", name)), int(settings[name]), int(example[name])
        if not isinstance(sizes, list) or now == was or not all(type(size) is int and size > 0 for size in sizes):
            continue
        unit = head_unit(settings) if name == "n_embd" else 1
        fitting = list(dict.fromkeys(_scaled(size / was, now, unit) for size in sizes))
        if fitting != sizes:
            path = ("race", name)
            resolved.put(path, fitting, resolved.place(path))
            resolved.notes.append(
                f"race.{name}: {fitting} instead of {sizes}, in proportion to the {now} of {resolved.baseline}"
            )


def _scaled(times: float, now: int, unit: int) -> int:
    """Return a shape of about `times` the baseline's `now`, a multiple of `unit`, on the same side of it."""
    times = min(_MOST_TIMES, max(1 / _MOST_TIMES, times))
    size = max(1, round(now * times / unit)) * unit
    return size if times <= 1 or size > now else now + unit


def _before_the_decay_ends(knob: RangeKnob, value: Number, settings: Mapping[str, Value]) -> RangeKnob:
    """Return a range of warm-ups that end before the decay does."""
    end = float(settings["lr_decay_iters"]) / float(settings["max_iters"])
    if knob.high < end or not value < end:
        return knob
    high = max(0.9 * end, (value + end) / 2)
    low = knob.low if knob.low < high else 0.0
    return RangeKnob.model_validate({**knob.model_dump(), "low": min(low, value), "high": float(f"{high:.12g}")})


def left_out(resolved: Resolved, what: str, why: str) -> str:
    """Say that a candidate or knob of the study doesn't fit the baseline."""
    return f"{what}: left out; with {resolved.baseline}, {' and '.join(why.splitlines())}"
