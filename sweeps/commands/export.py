"""The command export."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.commands.opening import findings_of
from sweeps.commands.options import AsJson, Out, StudyName

if TYPE_CHECKING:
    from sweeps.outputs import ExportJson


def export(
    study: StudyName,
    out: Out = None,
    trial: Annotated[int | None, typer.Option(metavar="N", help="trial to export, instead of the best")] = None,
    race: Annotated[
        str | None, typer.Option(metavar="KEY=VALUE", help="race to export, from scratch: --race n_embd=768")
    ] = None,
    iters: Annotated[int | None, typer.Option(metavar="N", help="length of the real run, iterations")] = None,
    file: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="file to write the config to")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="DIR", help="also write a ckpt.pt there to resume from; a branch needs it")
    ] = None,
    trained: Annotated[
        bool, typer.Option("--trained", help="write the end of the branch to --checkpoint, not its start")
    ] = False,
    ladder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="also write configs of 1, 2 and 4 times the length, three rates each"),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="take over all that the best trial changes, not only what is shown")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="export the best even if it is not shown to be better")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write your config, changed in what the best trial shows, for nanoGPT. Comments hold the evidence."""
    from sweeps.export.branch import is_branch
    from sweeps.export.checkpoint import write_checkpoint
    from sweeps.export.nanogpt_config import write_config
    from sweeps.export.race import export_race, race_of
    from sweeps.export.trial import check_best, check_options, export_ladder, export_run, trial_of

    check_options(race=race, trial=trial, checkpoint=checkpoint, ladder=ladder, trained=trained)
    located, findings = findings_of(study, out)
    if trial is None and race is None and not force:
        check_best(findings, whole=all_)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    folder = checkpoint.absolute() if checkpoint else None
    if race is not None:
        runs = race_of(findings, race)
        run, config = runs[0], export_race(findings, runs, date=today, iters=iters)
    else:
        whole = all_ or trial is not None
        run = trial_of(findings, trial, whole=whole)
        config = export_run(findings, run, date=today, iters=iters, checkpoint=folder, trained=trained, whole=whole)
    rungs = export_ladder(findings, run, ladder.absolute(), date=today) if ladder else []
    config_file = write_config(config, file.absolute()) if file else None
    checkpoint_file = (
        write_checkpoint(findings.study, run, located.paths, config, folder, trained=trained) if folder else None
    )
    if as_json:
        exported: ExportJson = {
            "trial": run.trial if race is None else None,
            "race": race,
            "config": dict(config.settings),
            "changed": {key: list(pair) for key, pair in config.changed.items()},
            "why": dict(config.why),
            "kept": dict(config.kept),
            "notes": list(config.notes),
            "file": _text(config_file),
            "checkpoint": _text(checkpoint_file),
            "ladder": [*map(str, rungs)],
            "text": config.text,
        }
        print(json.dumps(exported))
        return
    if rungs:
        print(f"{ladder}: LADDER.txt and {len(rungs)} configs", file=sys.stderr)
    print(config.text if config_file is None else f"{config_file}: changes {', '.join(config.changed)}\n", end="")
    if checkpoint_file is not None:
        options = "this config" if is_branch(run) else f"--init_from=resume --out_dir={checkpoint_file.parent}"
        print(f"{checkpoint_file}: nanoGPT resumes from it with {options}", file=sys.stderr)
    for note in config.notes:
        print(f"note: {note}", file=sys.stderr)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
