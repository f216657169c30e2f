"""What a sweep leaves when it ends: its report, and what optuna-dashboard shows of it."""

from __future__ import annotations

import datetime
from pathlib import Path

from sweeps.analysis.findings import Findings
from sweeps.paths import StudyPaths
from sweeps.report.dashboard import publish
from sweeps.report.figures import ablation_path, best_curve, candidates, curves, maps, pruning, stopped
from sweeps.report.figures.effects import effects
from sweeps.report.figures.importance import importance
from sweeps.report.figures.parallel import parallel
from sweeps.report.figures.perplexity import perplexities
from sweeps.report.figures.slices import slices
from sweeps.report.figures.style import Picture
from sweeps.report.page import render
from sweeps.store.store import Store
from trainer.atomic import write_text


def close(findings: Findings, store: Store, paths: StudyPaths) -> Path:
    """Write all of it; the report's path. Raises OSError where it can't be written."""
    drawn = pictures(findings)  # takes seconds, and both show them
    write_text(paths.report, render(findings, drawn))
    today = datetime.datetime.now(tz=datetime.UTC).date()
    publish(findings, store.storage, paths, pictures=drawn, today=today)
    return paths.report


def page_of(findings: Findings) -> str:
    """The report with all its pictures, HTML."""
    return render(findings, pictures(findings))


def pictures(findings: Findings) -> tuple[Picture, ...]:
    """Every picture of the study, most telling first."""
    return (
        *ablation_path.pictures(findings),
        effects(findings),
        best_curve.best_curve(findings),
        candidates.candidate_differences(findings),
        curves.all_curves(findings.results),
        stopped.stopped_curves(findings.results),
        slices(findings),
        importance(findings),
        *maps.pictures(findings),
        parallel(findings),
        *pruning.pictures(findings),
        perplexities(findings.results),
    )
