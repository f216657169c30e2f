"""What a sweep leaves when it ends: its report, and what optuna-dashboard shows of it."""

from __future__ import annotations

import datetime
from pathlib import Path

from sweeps import plots
from sweeps.paths import StudyPaths
from sweeps.publish import publish
from sweeps.report import write_report
from sweeps.results import Results
from sweeps.store import Store


def close(results: Results, store: Store, paths: StudyPaths) -> Path:
    """Write all of it; the report's path. Raises OSError where it can't be written."""
    pictures = plots.pictures(results)  # seconds: both show them
    report = write_report(results, paths.report, pictures=pictures)
    today = datetime.datetime.now(tz=datetime.UTC).date()
    publish(results, store.storage, paths, pictures=pictures, today=today)
    return report
