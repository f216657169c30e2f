"""The commands that read a study: status, verdict and report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.commands.opening import findings_of
from sweeps.commands.options import AsJson, Full, Out, StudyName
from sweeps.commands.printing import print_answer

if TYPE_CHECKING:
    from sweeps.outputs import ReportJson, StatusJson


def status(study: StudyName, out: Out = None, as_json: AsJson = False) -> None:
    """Show the progress of a study, also while it runs."""
    from sweeps.engine.progress import planned_runs
    from sweeps.store.database import database_of, is_running
    from sweeps.terminal import status_lines
    from sweeps.verdict.as_json import summarize

    located, findings = findings_of(study, out, sampled_curves=as_json)
    results, planned = findings.results, planned_runs(findings)
    if as_json:
        store, report_file = database_of(located.url).name, located.paths.report
        summary = summarize(findings, store=store, report=report_file)
        state: StatusJson = {**summary, "planned": planned}
        print(json.dumps(state))
        return
    for line in status_lines(results, planned=planned, running=is_running(located.url, located.name)):
        print(line)


def verdict(study: StudyName, out: Out = None, full: Full = False, as_json: AsJson = False) -> None:
    """Say which knob breaks the plateau, and how surely. The verdict rests on the runs so far."""
    from sweeps.store.database import database_of
    from sweeps.verdict.as_json import found

    located, findings = findings_of(study, out)
    if as_json:
        print(json.dumps(found(findings)))
    else:
        print_answer(findings, full=full, report=located.paths.report, store=database_of(located.url).name)


def report(
    study: StudyName,
    out: Out = None,
    file: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="file to write the report to")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a study's report: one HTML file that needs no network."""
    from sweeps.errors import DiskError
    from sweeps.report.publish import page_of
    from trainer.atomic import write_text

    located, findings = findings_of(study, out)
    report_file = (file or located.paths.report).absolute()
    page = page_of(findings)
    try:
        write_text(report_file, page)
    except OSError as error:
        why = error.strerror or error
        raise DiskError(f"{report_file}: cannot be written: {why}; name another file with -o") from error
    written: ReportJson = {"report": str(report_file)}
    print(json.dumps(written) if as_json else report_file)
