"""Results in memory, written into a store as a sweep writes them."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from sweeps.store.records import Outcome, Results
from sweeps.store.store import Store
from tests.helpers import branches, random_studies, synthetic


def write(path: Path, results: Results) -> None:
    """Write results into a new store at `path`."""
    name = results.study.name
    with Store(f"sqlite:///{path}") as store:
        store.add_study(results.study, data=results.data, provenance=results.provenance)
        for run in results.runs:
            added = store.add_run(name, run, fingerprint=results.data.fingerprint, versions={"torch": "2"}, commit=None)
            points = [(added.id, point) for point in run.points]
            store.add_points(points, name=name, seconds=results.seconds)
            if run.outcome is Outcome.RUNNING:
                store.launched(added.id, device=run.device, kinds=run.kinds, attempt=1)
                continue
            store.ended(
                added.id,
                outcome=run.outcome,
                reason=run.reason,
                step=run.points[-1].step if run.points else 0,
                seconds=run.seconds,
                val_loss=run.val_loss,
                val_se=run.val_se,
                pruning=run.pruning,
            )
        store.add_event(name, "begun", "a sweep began")


def contents() -> dict[str, bytes]:
    """Return the files of stores: a search, a study with its confirm phase, a study of branches, and a new one."""
    studies = {
        "search": synthetic.full(seeds=2, trials=4),
        "confirmed": random_studies.study(3, seeds=2, runs=8),
        "branches": branches.forked(),
        "new": synthetic.results([]),
    }
    return {name: _content(results) for name, results in studies.items()}


def _content(results: Results) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.db"
        write(path, results)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall():
                if table not in ("study", "run", "point", "event", "schema_version"):
                    connection.execute("PRAGMA foreign_keys=OFF")
                    connection.execute(f"DROP TABLE {table}")  # Optuna's, which readers don't open
            connection.execute("VACUUM")
        return path.read_bytes()
