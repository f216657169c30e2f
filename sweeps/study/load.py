"""Loading: a YAML file becomes a Study whose known trials can all be run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from sweeps.errors import SpecError
from sweeps.study import messages
from sweeps.study.baseline import WHOLE, Baseline, Value, complete, head_unit
from sweeps.study.horizon import provisional
from sweeps.study.knobs import ChoicesKnob, Knobs, RangeKnob
from sweeps.study.model import Number, as_yaml
from sweeps.study.proposals import Designed, DesignError, baseline_params, config_of, designed
from sweeps.study.resolve import Resolved, resolve
from sweeps.study.sections import NOT_WRITTEN
from sweeps.study.study import Study, knob_value, setting_named
from trainer.errors import ConfigError


def load(
    path: str | Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    data: str | None = None,
    baseline: str | Path | None = None,
    devices_have_cuda: bool,
) -> Study:
    """Return the study in the YAML file at `path`, resolved and checked: every trial known beforehand can be run.

    `profile` names one of its profiles (default: cuda or cpu by `devices_have_cuda`, if the study has it).
    `overrides` are KEY=VALUE. `data` replaces its data, and `baseline`, a nanoGPT config file, replaces its baseline.
    Raises SpecError, or ConfigError for a file that cannot be read, with file and line.
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
        _widen_knobs(resolved)
    resolved.value["notes"] = resolved.notes
    try:
        study = Study.model_validate(resolved.value)
    except ValidationError as error:
        raise resolved.error(*messages.first(error)) from error
    return _with_note_on_decay(_with_checked_trials(study, resolved))


def _with_note_on_decay(study: Study) -> Study:
    """Note a decay that ends after the run, as nanoGPT's default lr_decay_iters does in a short run."""
    decay, last = int(study.baseline["lr_decay_iters"]), int(study.baseline["max_iters"])
    if not study.baseline["decay_lr"] or decay <= last:
        return study
    note = f"baseline: lr_decay_iters={decay} is beyond max_iters={last}, so trials too end before the rate has decayed"
    return study.model_copy(update={"notes": (*study.notes, note)})


def _with_checked_trials(study: Study, resolved: Resolved) -> Study:
    """Build every trial that is known beforehand, and refuse candidates that change nothing.

    A baseline from the command line may contain a candidate's advice already. Such candidates are left out, with a
    note. Raises SpecError at the path of a trial that can't be run, or that repeats another.
    """
    known = _known_trials(study, resolved)
    redundant = _redundant_candidates(known, resolved)
    if not redundant:
        return study
    kept = tuple(candidate for index, candidate in enumerate(study.candidates) if index not in redundant)
    notes = tuple(f"candidates.{index}: left out, {resolved.baseline} contains it already" for index in redundant)
    return study.model_copy(update={"candidates": kept, "notes": study.notes + notes})


def _known_trials(study: Study, resolved: Resolved) -> Designed:
    """Build the trials known beforehand and one of every batch size. Raises SpecError for one that can't be run."""
    study = provisional(study)
    try:
        known = designed(study, vocab_size=0)
    except DesignError as error:
        match error.path:
            case ("candidates", int(index)):
                setting = setting_named(error, study.candidates[index])
                raise resolved.error((*error.path, *setting), f"{error}{_remedy(resolved)}") from error
        raise resolved.error(error.path, str(error)) from error
    # A batch size between the ends of its range may be impossible though both ends are possible.
    sizes = study.knobs.get("batch_size")
    for size in sizes.wholes() if isinstance(sizes, RangeKnob) else ():
        try:
            config_of(study, {**baseline_params(study), "batch_size": size}, seed=study.seed, vocab_size=0)
        except ConfigError as error:
            raise resolved.error(("knobs", "batch_size"), str(error)) from error
    return known


def _redundant_candidates(known: Designed, resolved: Resolved) -> list[int]:
    """Return the candidates that equal a baseline from the command line. Raises SpecError for other repetitions."""
    baseline = known.baseline[0].config
    redundant, names = [], {baseline: "the baseline"}
    for index, proposal in enumerate(known.candidates):
        if proposal.config == baseline and resolved.baseline is not None:
            redundant.append(index)
        elif proposal.config in names:
            text = f"is the same trial as {names[proposal.config]}; drop it{_remedy(resolved)}"
            raise resolved.error(("candidates", index), text)
        names.setdefault(proposal.config, f"candidates.{index}")
    return redundant


def _remedy(resolved: Resolved) -> str:
    """Return the way out for a study whose candidates don't suit a baseline from the command line."""
    return "; to leave out the study's candidates: --set candidates=[]" if resolved.baseline is not None else ""


_KNOBS: TypeAdapter[dict[str, RangeKnob | ChoicesKnob]] = TypeAdapter(Knobs)
_BASELINE: TypeAdapter[dict[str, Value]] = TypeAdapter(Baseline)


def _widen_knobs(resolved: Resolved) -> None:
    """Make the knobs contain the values of a baseline from the command line, and note the changes.

    Invalid knobs and an invalid baseline are left for the check of the whole study. Raises SpecError for a log scale
    that would have to contain 0.
    """
    try:
        knobs = _KNOBS.validate_python(resolved.value.get("knobs"))
        settings = complete(_BASELINE.validate_python(resolved.value.get("baseline")))
    except ValidationError:
        return
    for name, knob in knobs.items():
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


_K = TypeVar("_K", RangeKnob, ChoicesKnob)


def widened(
    name: str, knob: RangeKnob | ChoicesKnob, settings: Mapping[str, Value], *, unit: int
) -> RangeKnob | ChoicesKnob:
    """Return `knob` with the value of the baseline's `settings` added, or `knob` itself if it contains the value.

    Widths stay multiples of `unit`, the size or the number of heads. Whole numbers stay on steps, which become finer
    where necessary. Raises SpecError for a log scale that would have to contain 0.
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
