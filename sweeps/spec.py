"""From a YAML file to a Study that is known to run, and what may change about one that has begun."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sweeps import mistakes
from sweeps.errors import SpecError
from sweeps.horizon import provisional
from sweeps.json_schema import json_schema
from sweeps.knobs import PARAM, ChoicesKnob, Knobs, Number, RangeKnob, show
from sweeps.proposals import baseline_config, baseline_params, candidate_proposal, config_of
from sweeps.resolve import Resolved, resolve
from sweeps.sections import NOT_WRITTEN
from sweeps.settings import Baseline, Value, complete, head_unit
from sweeps.study import Study, knob_value, setting_named
from sweeps.widen import widened
from trainer.errors import ConfigError
from trainer.yaml12 import YamlPath

__all__ = ["Study", "changes", "json_schema", "load"]

_GROWING = ("trials", "baseline_seeds")
_FREE = ("hours", "workers", "store", "notes")
"""What may change about a study that has begun: none of it changes what a trial is or which comes next."""
_FREE_OF_CONFIRM = {"seeds", "max_trials"}


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
        raise resolved.error(*mistakes.first(error)) from error
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
                f"{show(knob_value(settings, name))}"
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


def changes(stored: Study, new: Study) -> list[str]:
    """How `new` differs from the `stored` study in ways that make it another study, each in words.

    trials and baseline_seeds may grow; hours, workers, the store's place and confirm's budget may change; how long a
    trial of so many minutes is was measured for the stored one. The rest decides what a trial is, or which one comes
    next.
    """
    found = []
    for name in _GROWING:
        before, after = getattr(stored, name), getattr(new, name)
        if after < before:
            found.append(
                f"{name}: {before} → {after} (it can grow, not shrink: keep {before}, or give the study a new name)"
            )
    left_out: Any = {**dict.fromkeys((*_GROWING, *_FREE), True), "confirm": _FREE_OF_CONFIRM, "horizon": {NOT_WRITTEN}}
    before, after = (study.model_dump(mode="json", exclude=left_out) for study in (stored, new))
    return found + list(_differences("", before, after))


def _differences(path: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, list) and isinstance(after, list):
        before, after = (dict(enumerate(each)) for each in (before, after))
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _differences(f"{path}.{key}".lstrip("."), before.get(key), after.get(key))
    elif before != after:
        yield f"{path}: {_in_words(before)} → {_in_words(after)}"


def _in_words(value: Any) -> str:
    """A value in YAML's flow style; absent is 'none'."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_in_words(each)}" for key, each in value.items() if each is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_in_words(each) for each in value) + "]"
    return show(value)
