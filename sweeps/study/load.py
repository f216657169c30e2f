"""Loading: a YAML file becomes a Study whose known trials can all be run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from sweeps.errors import SpecError
from sweeps.study import messages, origin_runs
from sweeps.study.candidate_files import lay_candidates
from sweeps.study.fitting import NO_DECAY, OF_DECAY, fit_to_baseline, left_out
from sweeps.study.horizon import provisional
from sweeps.study.knobs import RangeKnob
from sweeps.study.proposals import (
    Designed,
    DesignError,
    baseline_params,
    candidate_proposal,
    config_of,
    designed,
    one_at_a_time_proposals,
)
from sweeps.study.resolve import Resolved, resolve
from sweeps.study.sections import NOT_WRITTEN
from sweeps.study.study import Study, setting_named
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
    candidates: Sequence[str] = (),
) -> Study:
    """Return the study in the YAML file at `path`, resolved and checked: every trial known beforehand can be run.

    `profile` names one of its profiles (default: cuda or cpu by `devices_have_cuda`, if the study has it).
    `overrides` are KEY=VALUE. `data` replaces its data, and `baseline`, a nanoGPT config file, replaces its baseline.
    `start` is a checkpoint to start from, and `log` what was printed while it trained. `candidates` are nanoGPT configs
    of which each is a candidate.
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
    lay_candidates(resolved, candidates)
    if "notes" in resolved.value:
        raise resolved.error(("notes",), "unknown key 'notes'; write a comment instead")
    if "origin" in resolved.value:
        raise resolved.error(("origin",), "unknown key 'origin'; the checkpoint is named by start")
    if "chosen" in resolved.value:
        raise resolved.error(("chosen",), "unknown key 'chosen'; the pilot chooses the length of trials")
    horizon = resolved.value.get("horizon")
    if isinstance(horizon, dict) and NOT_WRITTEN in horizon:
        raise resolved.error(("horizon", NOT_WRITTEN), f"unknown key '{NOT_WRITTEN}'; `sweep run` measures it")
    if "own" in resolved.value:
        raise resolved.error(("own",), "unknown key 'own'; --baseline names a config of your own")
    if resolved.baseline is not None and not resolved.mistakes:
        fit_to_baseline(resolved)
    return _with_note_on_decay(_ending_with_candidates(_with_checked_trials(_validated(resolved), resolved)))


def _validated(resolved: Resolved) -> Study:
    """Return the study. Raises SpecError for the first mistake in it, or for all in a baseline from the command line.

    While a setting couldn't be read, nothing is said of settings that don't go together.
    """
    found = list(resolved.mistakes.values())
    try:
        study = Study.model_validate({**resolved.value, "notes": resolved.notes, "own": resolved.own})
    except ValidationError as error:
        if resolved.baseline is not None:
            mistakes = messages.of_baseline(error, together=not found)
            found += [str(resolved.error(path, text)) for path, text in mistakes]
        if not found:
            raise resolved.error(*messages.first(error)) from error
    if found:
        raise SpecError("\n".join(dict.fromkeys(found)))
    return study


def _ending_with_candidates(study: Study) -> Study:
    """Let the search of a study without knobs end with its candidates: there is nothing to sample."""
    if study.knobs:
        return study
    return study.model_copy(update={"trials": len(study.candidates)})


def check_card(study: Study, path: str, *, profile: str | None, cards: int) -> None:
    """Raise SpecError if the profile cuda was asked for on a machine without `cards`, and no devices are named."""
    if profile == "cuda" and not cards and study.workers.devices == "auto" and study.workers.ray is None:
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

    With a baseline from the command line, candidates that it contains already, that repeat another or can't be run are
    left out, and so are knobs that have an end which can't be run, all with a note. Raises SpecError at the path of a
    trial that can't be run, or that repeats another.
    """
    numbers = list(range(len(study.candidates)))  # in the study file
    if resolved.baseline is not None:
        study, numbers = _without_misfits(study, resolved)
    known = _known_trials(study, resolved)
    names = {known.baseline[0].config: "the baseline"}
    kept, notes = [], []
    for number, candidate, proposal in zip(numbers, study.candidates, known.candidates, strict=True):
        same = names.setdefault(proposal.config, f"candidates.{number}")
        if same == f"candidates.{number}":
            kept.append(candidate)
        elif resolved.baseline is None:
            raise resolved.error(("candidates", number), f"is the same trial as {same}; drop it")
        else:
            contains = f"{resolved.baseline} contains it already" if same == "the baseline" else f"it is {same}"
            notes.append(f"candidates.{number}: left out, {contains}")
    return study.model_copy(update={"candidates": tuple(kept), "notes": (*study.notes, *notes)})


def _without_misfits(study: Study, resolved: Resolved) -> tuple[Study, list[int]]:
    """Leave out the candidates and knobs that can't be run with a baseline from the command line, with a note each.

    Returns the study and the numbers of the candidates that are left, as in the study file.
    """
    numbers, knobs, notes = [], dict(study.knobs), list(study.notes)
    fitted = provisional(study)
    for index, candidate in enumerate(study.candidates):
        constant = candidate and candidate.keys() <= set(OF_DECAY) and not study.control["decay_lr"]
        why = NO_DECAY if constant else ""
        try:
            candidate_proposal(fitted, index, vocab_size=0)
        except ConfigError as error:
            why = str(error)
        if why:
            notes.append(left_out(resolved, f"candidates.{index}", why))
        else:
            numbers.append(index)
    candidates = [study.candidates[index] for index in numbers]
    fitted = fitted.model_copy(update={"candidates": tuple(candidates)})
    while len(knobs) > 1:
        try:
            one_at_a_time_proposals(fitted.model_copy(update={"knobs": knobs}), vocab_size=0)
        except DesignError as error:
            name = str(error.path[1])
            del knobs[name]
            notes.append(left_out(resolved, f"knobs.{name}", str(error)))
        except ConfigError:
            break  # the baseline itself can't be run, and the check of all trials says why
        else:
            break
    changes = {"candidates": tuple(candidates), "knobs": knobs, "notes": tuple(notes)}
    return study.model_copy(update=changes), numbers


def _known_trials(study: Study, resolved: Resolved) -> Designed:
    """Build the trials known beforehand and one of every batch size. Raises SpecError for one that can't be run."""
    study = provisional(study)
    try:
        known = designed(study, vocab_size=0)
    except DesignError as error:
        match error.path:
            case ("candidates", int(index)):
                setting = setting_named(error, study.candidates[index])
                raise resolved.error((*error.path, *setting), str(error)) from error
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
