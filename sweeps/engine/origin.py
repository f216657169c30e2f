"""The origin of a study's branches: what becomes known of it, step by step, before the first trial."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.analysis.curves import losses_of, schedule_of
from sweeps.diagnose.log import read_log_file
from sweeps.diagnose.reading import offset, plateau_of
from sweeps.diagnose.run import LoggedRun
from sweeps.errors import LogError, SpecError
from sweeps.paths import StudyPaths
from sweeps.pruning import plateau
from sweeps.store.records import DataFacts, Outcome, Results, Run
from sweeps.study import origin_runs
from sweeps.study.start import CheckpointStart, Origin, min_effect_of
from sweeps.study.study import Study
from sweeps.study.widening import containing_the_control
from trainer.atomic import replacing
from trainer.digest import check_sums, sha256_of
from trainer.errors import CheckpointError
from trainer.schedule import lr_at

if TYPE_CHECKING:
    from trainer.run.origin import OriginFacts


class OriginError(SpecError):
    """The origin's run has no checkpoint to branch from."""


def known(results: Results, paths: StudyPaths, *, data: DataFacts) -> Study | None:
    """Return the study with one thing more that is known of its origin. None: there is nothing new.

    Copies the origin's checkpoint into the study's folder. Raises OriginError where the origin's run failed, and
    CheckpointError for a checkpoint that can't be read or doesn't fit the data.
    """
    study, runs = results.study, results.runs
    if not study.branches:
        return None
    if study.origin is None:
        origin = (
            _of_checkpoint(study, study.start, paths, data=data)
            if isinstance(study.start, CheckpointStart)
            else _of_run(runs, paths)
        )
        return None if origin is None else containing_the_control(with_origin(study, origin))
    if study.origin.going_on is None:
        going_on = next((run for run in runs if run.origin == origin_runs.GOING_ON), None)
        if going_on is None or going_on.unfinished:
            return None
        if going_on.outcome != Outcome.COMPLETE:
            raise OriginError(f"the origin can't go on: {going_on.reason or going_on.outcome}")
        first, last = going_on.points[0].val_loss, going_on.points[-1].val_loss
        brings = first - last
        found: dict[str, Any] = {"going_on": brings, "val_loss": first, "min_effect": min_effect_of(brings)}
        if isinstance(study.start, CheckpointStart) and study.start.log is not None:
            curve = read_log_file(Path(study.start.log).expanduser())[-1]
            known_offset = offset(curve, step=study.origin.step, val_loss=first, val_se=going_on.points[0].val_se)
            found |= {"log_offset": known_offset.nats, "log_offset_se": known_offset.se}
        return with_origin(study, study.origin.model_copy(update=found))
    return None


def with_origin(study: Study, origin: Origin) -> Study:
    """Return the study with what is known of its origin."""
    return study.model_copy(update={"origin": origin})


def _of_run(runs: tuple[Run, ...], paths: StudyPaths) -> Origin | None:
    """Return the origin that the sweep has trained. None: its run has not ended. Raises OriginError."""
    run = next((run for run in runs if run.origin == origin_runs.ORIGIN), None)
    if run is None or run.unfinished:
        return None
    if run.outcome not in (Outcome.HALTED, Outcome.COMPLETE):
        raise OriginError(
            f"the origin has no checkpoint: its run {run.outcome}: {run.reason}; change the baseline, or name a "
            "checkpoint with start: {checkpoint: out/ckpt.pt}"
        )
    trained = paths.checkpoint(run.id)
    check_sums(trained, remedy="the branches have no origin: start the study anew in another folder with --out")
    copy_checkpoint(trained, paths.origin)
    step = run.points[-1].step
    verdict = plateau.verdict(losses_of(run), schedule_of(run.config))
    since = None if verdict.since is None else run.points[min(verdict.since, len(run.points) - 1)].step
    return Origin(
        checkpoint=str(paths.origin),
        sha256=sha256_of(paths.origin),
        step=step,
        seed=run.seed,
        learning_rate=lr_at(step, run.config),
        plateau=verdict.word.value,
        since=since,
        settings=run.config.as_dict(),
    )


def _of_checkpoint(study: Study, start: CheckpointStart, paths: StudyPaths, *, data: DataFacts) -> Origin:
    """Return the origin of a checkpoint that the user names.

    It is copied first and read from the copy, because nanoGPT may write the next one meanwhile.
    """
    from trainer.run.origin import checkpoint_file, read_origin  # torch takes seconds to import

    named = checkpoint_file(Path(start.checkpoint).expanduser())
    copy_checkpoint(named, paths.origin)
    facts = read_origin(paths.origin)
    check_vocabulary(facts, data, named=named)
    config = origin_runs.origin_config(study, seed=study.seed, vocab_size=facts.vocab_size)
    curve = None if start.log is None else read_log_file(Path(start.log).expanduser())[-1]
    until = logged_until(start, facts)
    reading = None if until is None else plateau_of(until, settings=facts.settings)
    return Origin(
        checkpoint=str(paths.origin),
        sha256=facts.sha256,
        step=facts.iter_num,
        learning_rate=lr_at(facts.iter_num, config),
        settings=config.as_dict(),
        own=facts.settings,
        plateau=None if reading is None else reading.word.value,
        since=None if reading is None else reading.since,
        log=() if curve is None else _losses(curve),
        notes=(*facts.notes, *(() if curve is None else curve.notes), *(() if reading is None else reading.notes)),
    )


def check_vocabulary(facts: OriginFacts, data: DataFacts, *, named: Path) -> None:
    """Raise CheckpointError if the data hold tokens that the checkpoint `named` doesn't know."""
    if facts.vocab_size < data.vocab_size:
        raise CheckpointError(
            f"{named}: its vocabulary has {facts.vocab_size} tokens, and that of {data.path} {data.vocab_size}: "
            "name the data that it was trained on with --data"
        )


def logged_until(start: CheckpointStart, facts: OriginFacts) -> LoggedRun | None:
    """Return the last run of the start's log up to its checkpoint; None without a log.

    Raises LogError for a log that can't be read, and for a run that has no evaluation before the checkpoint.
    """
    if start.log is None:
        return None
    curve = read_log_file(Path(start.log).expanduser())[-1]
    points = tuple(point for point in curve.points if point.step <= facts.iter_num)
    if not points:
        raise LogError(
            f"{curve.name}: has no evaluation up to iteration {facts.iter_num:,}, where the checkpoint was written"
        )
    return dataclasses.replace(curve, points=points)


def _losses(curve: LoggedRun) -> tuple[tuple[int, float], ...]:
    return tuple((point.step, point.val_loss) for point in curve.points if point.val_loss is not None)


def copy_checkpoint(source: Path, target: Path) -> None:
    """Copy a checkpoint, whole or not at all: nanoGPT overwrites its own in place. Raises CheckpointError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file, source.open("rb") as original:
            shutil.copyfileobj(original, file)
    except OSError as error:
        raise CheckpointError(f"{source}: can't be copied to {target}: {error.strerror or error}") from error
