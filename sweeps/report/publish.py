"""Output of a study: its report, and what optuna-dashboard shows of it."""

from __future__ import annotations

import datetime
from pathlib import Path

from sweeps.analysis.findings import Findings
from sweeps.paths import StudyPaths
from sweeps.report.album import album_of
from sweeps.report.dashboard import publish_to_dashboard
from sweeps.report.page import render
from sweeps.store.store import Store
from trainer.atomic import write_text


def close(findings: Findings, store: Store, paths: StudyPaths) -> Path:
    """Write the report and the dashboard's part at the end of a sweep; return the report's path.

    Raises OSError for a path that can't be written.
    """
    album = album_of(findings)  # drawn once for both, because drawing takes seconds
    write_text(paths.report, render(findings, album))
    today = datetime.datetime.now(tz=datetime.UTC).date()
    publish_to_dashboard(findings, store.storage, paths, pictures=album.pictures, today=today)
    return paths.report


def page_of(findings: Findings) -> str:
    """Return the report with all its pictures as HTML."""
    return render(findings, album_of(findings))
