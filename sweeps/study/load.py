"""Loading: a YAML file becomes a Study whose known trials can all be run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from sweeps.errors import SpecError
from sweeps.study import messages, origin_runs
from sweeps.study.horizon import provisional
from sweeps.study.knobs import RangeKnob
from sweeps.study.proposals import Designed, DesignError, baseline_params, config_of, designed
from sweeps.study.resolve import Resolved, resolve
from sweeps.study.sections import NOT_WRITTEN
from sweeps.study.study import Study, setting_named
from sweeps.study.widening import widen_knobs
from trainer.errors import ConfigError


def load(
    path: str | Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    data: str | None = None,
    baseline: str | Path | None = None,
    devices_have_cuda: bool,
    start: str | None = None,
    log: str | None = None,
) -> Study:
    """Return the study in the YAML file at `path`, resolved and checked: every trial known beforehand can be run.

    `profile` names one of its profiles (default: cuda or cpu by `devices_have_cuda`, if the study has it).
    `overrides` are KEY=VALUE. `data` replaces its data, and `baseline`, a nanoGPT config file, replaces its baseline.
    `start` is a checkpoint to start from, and `log` what was printed while it trained.
    Raises SpecError, or ConfigError for a file that cannot be read, with file and line.
    """
    resolved = resolve(
        path,
        profile=profile,
        overrides=overrides,
        data=data,
        baseline=baseline,
        devices_have_cuda=devices_have_cuda,
        start=start,
        log=log,
    )
    if "notes" in resolved.value:
        raise resolved.error(("notes",), "unknown key 'notes'; write a comment instead")
    if "origin" in resolved.value:
        raise resolved.error(("origin",), "unknown key 'origin'; the checkpoint is named by start")
    if "chosen" in resolved.value:
        raise resolved.error(("chosen",), "unknown key 'chosen'; the pilot chooses the length of trials")
    horizon = resolved.value.get("horizon")
    if isinstance(horizon, dict) and NOT_WRITTEN in horizon:
        raise resolved.error(("horizon", NOT_WRITTEN), f"unknown key '{NOT_WRITTEN}'; `sweep run` measures it")
    if resolved.baseline is not None:
        widen_knobs(resolved)
    resolved.value["notes"] = resolved.notes
    try:
        study = Study.model_validate(resolved.value)
    except ValidationError as error:
        raise resolved.error(*messages.first(error)) from error
    return _with_note_on_decay(_with_checked_trials(_ending_with_candidates(study), resolved))


def _ending_with_candidates(study: Study) -> Study:
    """Let the search of a study without knobs end with its candidates: there is nothing to sample."""
    if study.knobs:
        return study
    return study.model_copy(update={"trials": len(study.candidates)})


def check_card(study: Study, path: str, *, profile: str | None, cards: int) -> None:
    """Raise SpecError if the profile cuda was asked for on a machine without `cards`, and no devices are named."""
    if profile == "cuda" and not cards and study.workers.devices == "auto":
        raise SpecError(
            "--profile cuda: torch finds no CUDA device here (check nvidia-smi), and on a CPU these trials would take "
            f'days; leave --profile out, or see `sweep plan {path} --profile cuda --device "RTX 4070"`, or insist with '
            "--set workers.devices=[cpu]"
        )


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
    try:
        list(origin_runs.races(study, vocab_size=0))
    except ConfigError as error:
        raise resolved.error(("race", *setting_named(error, study.baseline)), str(error)) from error
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
