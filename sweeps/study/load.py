"""From a YAML file to a Study that is known to run, and what may change about one that has begun."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from sweeps.errors import SpecError
from sweeps.study import messages
from sweeps.study.baseline import WHOLE, Baseline, Value, complete, head_unit
from sweeps.study.horizon import provisional
from sweeps.study.knobs import PARAM, ChoicesKnob, Knobs, RangeKnob
from sweeps.study.model import Number, as_yaml
from sweeps.study.proposals import baseline_config, baseline_params, candidate_proposal, config_of
from sweeps.study.resolve import Resolved, resolve
from sweeps.study.sections import NOT_WRITTEN
from sweeps.study.study import Study, knob_value, setting_named
from trainer.errors import ConfigError
from trainer.strict_yaml import YamlPath


def load(
    path: str | Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    data: str | None = None,
    baseline: str | Path | None = None,
    devices_have_cuda: bool,
) -> Study:
    """The study in the YAML file at `path`, resolved and checked: each trial known beforehand can run.

    `profile` is one of its profiles (default: cuda or cpu by `devices_have_cuda`, if it has that);
    `overrides` are KEY=VALUE; `data` stands in for its data and `baseline`, a nanoGPT config file, for
    its baseline. Raises SpecError, or ConfigError for a file that cannot be read, naming file and line.
    """
    resolved = resolve(
        path, profile=profile, overrides=overrides, data=data, baseline=baseline, devices_have_cuda=devices_have_cuda
    )
    if "notes" in resolved.value:
        raise resolved.error(("notes",), "unknown key 'notes'; write a comment instead")
    horizon = resolved.value.get("horizon")
    if isinstance(horizon, dict) and NOT_WRITTEN in horizon:
        raise resolved.error(("horizon", NOT_WRITTEN), f"unknown key '{NOT_WRITTEN}'; `sweep run` measures it")
    if resolved.baseline is not None:
        _widen(resolved)
    resolved.value["notes"] = resolved.notes
    try:
        study = Study.model_validate(resolved.value)
    except ValidationError as error:
        raise resolved.error(*messages.first(error)) from error
    return _noted(_checked(study, resolved))


def _noted(study: Study) -> Study:
    """A schedule that never ends, which nanoGPT's defaults make of a short run, is worth a word."""
    end, last = int(study.baseline["lr_decay_iters"]), int(study.baseline["max_iters"])
    if not study.baseline["decay_lr"] or end <= last:
        return study
    note = f"baseline: lr_decay_iters={end} is beyond max_iters={last}, so trials too end before the rate has decayed"
    return study.model_copy(update={"notes": (*study.notes, note)})


def _widen(resolved: Resolved) -> None:
    """Make the knobs hold the new baseline's values, and note what was changed.

    Knobs that are none, and a baseline that is none, stay for the study's own check to refuse.
    """
    try:
        knobs = _KNOBS.validate_python(resolved.value.get("knobs"))
        settings = complete(_BASELINE.validate_python(resolved.value.get("baseline")))
    except ValidationError:
        return
    for name, knob in knobs.items():
        try:
            new = widened(name, knob, settings, unit=head_unit(settings))
        except SpecError as error:
            raise resolved.error(("baseline", name), str(error)) from error
        if new != knob:
            resolved.value["knobs"][name] = new.model_dump(exclude_defaults=True)
            resolved.notes.append(
                f"knobs.{name}: {new.words()} instead of {knob.words()}, to hold what {resolved.baseline} has: "
                f"{as_yaml(knob_value(settings, name))}"
            )


_KNOBS: TypeAdapter[dict[str, RangeKnob | ChoicesKnob]] = TypeAdapter(Knobs)
_BASELINE: TypeAdapter[dict[str, Value]] = TypeAdapter(Baseline)


def _checked(study: Study, resolved: Resolved) -> Study:
    """Build every trial that is known beforehand. Raises SpecError at the path of one that can't be run.

    A candidate must change something. Under a new baseline, which may have followed the advice
    already, one that doesn't is left out.
    """
    whole, study = study, provisional(study)
    remedy = "; to leave out the study's candidates: --set candidates=[]" if resolved.baseline is not None else ""
    try:
        first = baseline_config(study, seed=study.seed, vocab_size=0)
    except ConfigError as error:
        raise resolved.error(("baseline",), str(error)) from error
    for path, name, value in _edges(study):
        try:
            params = {**baseline_params(study), PARAM.get(name, name): value}
            config_of(study, params, seed=study.seed, vocab_size=0)
        except ConfigError as error:
            raise resolved.error(path, str(error)) from error
    seen, idle = {first: "the baseline"}, []
    for index in range(len(study.candidates)):
        path = ("candidates", index)
        try:
            config = candidate_proposal(study, index, vocab_size=0).config
        except ConfigError as error:
            named = setting_named(error, study.candidates[index])
            raise resolved.error((*path, *named), str(error) + remedy) from error
        if config == first and resolved.baseline is not None:
            idle.append(index)
        elif config in seen:
            raise resolved.error(path, f"is the same trial as {seen[config]}; drop it{remedy}")
        seen.setdefault(config, f"candidates.{index}")
    if not idle:
        return whole
    kept = tuple(each for index, each in enumerate(study.candidates) if index not in idle)
    notes = tuple(f"candidates.{index}: left out, {resolved.baseline} has it already" for index in idle)
    return whole.model_copy(update={"candidates": kept, "notes": whole.notes + notes})


def _edges(study: Study) -> Iterator[tuple[YamlPath, str, Number]]:
    """The values of each knob that may be impossible, where they are written: its ends, and every batch size."""
    for name, knob in study.knobs.items():
        for end, value in knob.ends().items():
            yield ("knobs", name, end if isinstance(knob, RangeKnob) else "choices"), name, value
        if name == "batch_size" and isinstance(knob, RangeKnob):
            for value in knob.wholes():
                yield ("knobs", name), name, value


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
    if knob.contains(value) and all(width % unit == 0 for width in knob.wholes()):
        return knob
    low = min(value, max(unit, math.floor(knob.low / unit) * unit))
    high = max(value, math.ceil(knob.high / unit) * unit)
    high = high if high > low else high + unit
    step = max(unit, round((knob.step or unit) / unit) * unit)
    return _changed(knob, low=low, high=high, step=math.gcd(step, high - value, value - low), log=False)


def _changed(knob: _K, **changes: Number | tuple[Number, ...] | None) -> _K:
    return type(knob).model_validate({**knob.model_dump(), **changes})
