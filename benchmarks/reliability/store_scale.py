"""The size of a store: how long status, verdict, report and dashboard take, and how many workers one driver feeds.

    python -m benchmarks.reliability.store_scale [--trials 100 1000 10000] [--databases sqlite,postgresql] [--json]

For each number of trials, a store is filled with a study of that many ended trials of 20 evaluations, seven tenths of
them complete and three tenths pruned, by a law of losses. Then the commands are run as one types them; the result is
the wall time and the CPU time of each, its own imports included. `growth` is the CPU time per further trial between the
smallest and the largest store, in milliseconds. `dashboard` is optuna-dashboard's answer with all trials of the study.

`feeds` says how many workers one driver keeps busy with trials of 20 seconds and 20 evaluations: 20 seconds divided by
the driver's wall time per trial, with pruning off, so that every trial reports all its evaluations. The workers are
simulated and take no time, the driver, its sampler and its store are real. It is measured at --stored trials in SQLite.

PostgreSQL is a server that the benchmark starts itself, where one is installed. Targets at 10 000 trials: status under
2 seconds, report under 20.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.commands import ROOT, add_names, at_least, parser_of
from benchmarks.reliability.filled_store import EVALUATIONS, fill, losses, study_of
from benchmarks.speed import driver_load
from sweeps.report import dashboard
from sweeps.store.database import database_of
from sweeps.store.locate import address_of
from sweeps.store.store import Store
from sweeps.study.sections import NoPruning
from tests.helpers import postgresql_server

DATABASES = ("sqlite", "postgresql")
COMMANDS = ("status", "verdict", "report")
STATUS_TARGET, REPORT_TARGET = 2.0, 20.0
TRIAL_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one command on one store."""

    database: str
    trials: int
    command: str
    """status, verdict, report, or dashboard"""
    wall: float
    cpu: float


def timings(database: str, url: str, folder: Path, *, trials: int) -> Iterator[Timing]:
    """Fill a new store with a study of `trials` trials, and time what reads it."""
    with Store(url) as store:
        fill(store, study_of("scale", trials=trials, url=url))
    where = str(folder) if database_of(url).file else address_of(url, "scale")
    for command in COMMANDS:
        to_file = ["-o", str(folder / "report.html")] if command == "report" else []
        wall, cpu = _timed([sys.executable, "-m", "sweeps", command, where, *to_file])
        yield Timing(database=database, trials=trials, command=command, wall=wall, cpu=cpu)
    began, cpu_began = time.perf_counter(), time.process_time()
    _ask_the_dashboard(url)
    seconds = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu_began}
    yield Timing(database=database, trials=trials, command="dashboard", **seconds)


def _timed(command: Sequence[str]) -> tuple[float, float]:
    """Run a command; return its wall seconds and its CPU seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # our own
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _ask_the_dashboard(url: str) -> None:
    """Ask a dashboard of its own for the studies, and for every trial of the first."""
    import threading

    with dashboard.server(url) as running:
        answering = threading.Thread(target=running.serve_forever, daemon=True)
        answering.start()
        try:
            for page in ("studies", "studies/1"):
                with urllib.request.urlopen(f"{dashboard.address_of(running)}/api/{page}") as answer:  # noqa: S310  # http
                    json.load(answer)
        finally:
            running.shutdown()
            answering.join()


def growth(measured: Sequence[Timing]) -> dict[str, dict[str, float]]:
    """Return the CPU milliseconds per further trial, by database and command; empty for a single size."""
    grown: dict[str, dict[str, float]] = {}
    for first in measured:
        same = [row for row in measured if (row.database, row.command) == (first.database, first.command)]
        small, large = min(same, key=lambda row: row.trials), max(same, key=lambda row: row.trials)
        if small is first and large.trials > small.trials:
            per_trial = 1000 * (large.cpu - small.cpu) / (large.trials - small.trials)
            grown.setdefault(first.database, {})[first.command] = per_trial
    return grown


def feeding(folder: Path, *, stored: int, more: int) -> dict[str, float]:
    """Return how many workers with trials of 20 seconds a driver feeds that has `stored` trials already."""
    study = study_of("feeding", trials=stored, url=None)
    unpruned = study.model_copy(update={"pruner": NoPruning(type="none"), "baseline_seeds": 1, "candidates": ()})
    load = driver_load.measure(
        unpruned, folder, losses, stored=stored, trials=more, workers=8, seconds=TRIAL_SECONDS / EVALUATIONS
    )
    return {
        "stored": load.stored,
        "milliseconds per trial": load.wall,
        "workers": TRIAL_SECONDS / (load.wall / 1000),
        "opening seconds": load.opened,
        "answer p95 milliseconds": load.answers["p95"],
    }


@contextmanager
def _urls(database: str, folder: Path) -> Iterator[Iterator[tuple[str, Path]]]:
    """Yield new stores' URLs, each with a folder of its own."""

    def folders() -> Iterator[Path]:
        number = 0
        while True:
            number += 1
            (folder / f"{database}-{number}").mkdir()
            yield folder / f"{database}-{number}"

    if database == "sqlite":
        yield ((f"sqlite:///{path / 'study.db'}", path) for path in folders())
        return
    with postgresql_server.server() as server:
        os.environ["PGPASSWORD"] = server.password
        yield ((server.new_database(), path) for path in folders())


def lines(measured: Sequence[Timing], fed: dict[str, float] | None) -> Iterator[str]:
    """Yield the table."""
    yield "| database | trials | command | wall, s | CPU, s |"
    yield "|---|---:|---|---:|---:|"
    for row in measured:
        yield f"| {row.database} | {row.trials:,} | {row.command} | {row.wall:.2f} | {row.cpu:.2f} |"
    for database, by_command in growth(measured).items():
        per_trial = ", ".join(f"{command} {ms:.2f}" for command, ms in by_command.items())
        yield f"{database}: CPU milliseconds per further trial: {per_trial}"
    if fed is not None:
        yield (
            f"one driver with {fed['stored']:,.0f} stored trials: {fed['milliseconds per trial']:.0f} ms per trial, "
            f"enough for {fed['workers']:.0f} workers with trials of {TRIAL_SECONDS:.0f} s"
        )


def main() -> None:
    """Run the measurements and print them."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--trials", type=at_least(50), nargs="+", default=[100, 1000, 10_000], help="sizes (default 100 1000 10000)"
    )
    add_names(parser, "--databases", DATABASES)
    parser.add_argument("--stored", type=at_least(50), default=1000, help="trials in the driver's store (default 1000)")
    parser.add_argument("--more", type=at_least(1), default=40, help="trials that it then runs (default 40)")
    parser.add_argument("--no-feeding", action="store_true", help="leave out how many workers one driver feeds")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options: argparse.Namespace = parser.parse_args()
    if "postgresql" in options.databases and (missing := postgresql_server.why_missing()):
        parser.error(f"--databases postgresql: {missing}")
    measured: list[Timing] = []
    fed = None
    with tempfile.TemporaryDirectory(prefix="store-scale-") as name:
        folder = Path(name)
        for database in options.databases:
            with _urls(database, folder) as urls:
                for trials in sorted(options.trials):
                    url, own = next(urls)
                    for row in timings(database, url, own, trials=trials):
                        measured.append(row)
                        print(f"{database}, {trials:,}: {row.command} {row.wall:.2f} s", file=sys.stderr, flush=True)
        if not options.no_feeding:
            fed = feeding(folder / "feeding", stored=options.stored, more=options.more)
    if options.json:
        targets = {"status": STATUS_TARGET, "report": REPORT_TARGET}
        rows = [asdict(row) for row in measured]
        print(json.dumps({"timings": rows, "growth": growth(measured), "feeds": fed, "targets": targets}, indent=1))
    else:
        print("\n".join(lines(measured, fed)))


if __name__ == "__main__":
    main()
