"""The commands that run a study: run and confirm."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps import signals
from sweeps.commands.opening import load_study, results_of
from sweeps.commands.options import (
    AsJson,
    Baseline,
    Begun,
    Candidates,
    Data,
    From,
    Full,
    Log,
    Out,
    Profile,
    Set,
    StudyName,
)
from sweeps.commands.printing import print_answer, saying
from sweeps.errors import SpecError

if TYPE_CHECKING:
    from sweeps.paths import StudyPaths
    from sweeps.store.records import Results
    from sweeps.study.study import Study


def run(
    study: Begun,
    profile: Profile = None,
    set_: Set = None,
    data: Data = None,
    baseline: Baseline = None,
    from_: From = None,
    log: Log = None,
    candidate: Candidates = None,
    out: Out = None,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Run a study, or continue it. Ends with the verdict so far and a report.

    A study that has begun goes on by its name alone, with the data, the baseline and the start it was begun with.
    """
    from sweeps.workers.launch import warm_up

    warm_up()
    from sweeps.paths import paths_of
    from sweeps.store.locate import is_file

    if is_file(study):
        loaded = load_study(study, profile, set_, data, baseline, start=from_, log=log, candidates=candidate)
        _sweep(loaded, paths_of(loaded.name, out=out), full=full, as_json=as_json)
        return
    changing = {"--profile": profile, "--set": set_, "--data": data, "--baseline": baseline, "--from": from_}
    if given := [option for option, value in {**changing, "--log": log, "--candidate": candidate}.items() if value]:
        raise SpecError(
            f"{', '.join(given)}: a study that goes on by its name stays as it was begun; to change it, name its YAML "
            f"file instead of {study!r}"
        )
    located, results = results_of(study, out)
    _sweep(
        results.study.model_copy(update={"store": located.url}),
        located.paths,
        full=full,
        as_json=as_json,
        stored=results,
    )


def confirm(
    study: StudyName,
    out: Out = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, max=32, metavar="N", help="seeds per comparison where fewer don't decide it")
    ] = None,
    max_trials: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="further runs of the confirm phase at most; by default as many as the study says"
        ),
    ] = None,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Test what a study has found on more fresh seeds. Ends like `sweep run`; no run is made twice."""
    from sweeps.workers.launch import warm_up

    warm_up()
    from sweeps.engine.confirm import extended

    located, results = results_of(study, out)
    changes = {"confirm": extended(results, seeds=seeds, max_trials=max_trials), "store": located.url}
    _sweep(results.study.model_copy(update=changes), located.paths, full=full, as_json=as_json, stored=results)


def _sweep(study: Study, paths: StudyPaths, *, full: bool, as_json: bool, stored: Results | None = None) -> None:
    """Run the study until it ends or pauses, and print the verdict. `stored`: the results of a study that goes on."""
    from rich.console import Console

    from sweeps import api

    say = saying(as_json)
    swept, summary = api.sweep(study, paths, stored=stored, console=Console(stderr=as_json))
    if as_json:
        print(json.dumps(swept.as_json()))
    else:
        print()
        print_answer(swept.findings, full=full, report=swept.report, store=swept.store)
    if summary.interrupted and swept.unpublished is None:
        say(f"interrupted: {swept.results.command('run')} goes on")
        raise typer.Exit(signals.exit_code(summary.interrupted))
    if summary.truncated:
        say(f"hours: {study.hours:g} are over; raise hours in the study's YAML file and run that to continue")
    if swept.unpublished is not None:
        raise swept.unpublished
