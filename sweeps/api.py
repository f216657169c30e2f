"""The interface for Python: load a study, run it, and open what it has found, as plain records and as tables.

`from sweeps import load, run, open_results` takes these names from here when they are first used, so that importing
`sweeps` stays cheap. The command `sweep run` is a shell around `sweep`.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps import signals
from sweeps.analysis.findings import Findings
from sweeps.engine import session
from sweeps.engine.progress import Observer, Silent, Summary
from sweeps.errors import DiskError, SpecError
from sweeps.paths import StudyPaths, paths_of
from sweeps.store import locate
from sweeps.store.database import database_of
from sweeps.store.records import DataFacts, Results, Run
from sweeps.store.store import Store
from sweeps.study import load as loading
from sweeps.study.study import Study
from sweeps.verdict.as_json import summarize
from sweeps.verdict.verdict import Verdict, verdict
from sweeps.workers.launch import warm_up
from trainer.machine.cpu import busy_processes
from trainer.machine.device import cuda_devices

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from sweeps.outputs import StudyJson
    from trainer.data.encode import PrepareProgress


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A study with what it has found so far. Losses are in nats per token."""

    findings: Findings
    """everything that the analysis says of the runs"""
    store: str
    """SQLite file with all results, or the URL of a server's database"""
    report: Path
    """the HTML report, which `run` writes at its end"""
    unpublished: Exception | None = None
    """why the report or the dashboard's part couldn't be written at the end of `run`"""

    @property
    def results(self) -> Results:
        """Everything that was recorded."""
        return self.findings.results

    @property
    def study(self) -> Study:
        """The resolved study."""
        return self.results.study

    @property
    def data(self) -> DataFacts:
        """The data that it trains on."""
        return self.results.data

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs. Each has its config, its outcome and its points, which are its curve."""
        return self.results.runs

    @property
    def best(self) -> Run | None:
        """The complete trial of the search with the lowest final loss. None: no trial is complete."""
        return self.results.best

    @property
    def verdict(self) -> Verdict:
        """The verdict so far, in sentences."""
        return verdict(self.findings)

    def as_json(self) -> StudyJson:
        """Return what `sweep run --json` ends with."""
        return summarize(self.findings, store=self.store, report=self.report)

    def runs_table(self) -> pa.Table:
        """Return a row per run."""
        from sweeps.arrow import runs_table

        return runs_table(self.runs)

    def curves_table(self) -> pa.Table:
        """Return a row per evaluation of a run."""
        from sweeps.arrow import curves_table

        return curves_table(self.runs)


def load(
    path: str | Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    data: str | None = None,
    baseline: str | Path | None = None,
    start: str | Path | None = None,
    log: str | Path | None = None,
    candidates: Sequence[str | Path] = (),
) -> Study:
    """Return the study in a YAML file, resolved and checked, as `sweep run` does with the options of the same names.

    `overrides` are KEY=VALUE, as in `--set`. `start` is a checkpoint (`--from`) and `log` what was printed while it
    trained. `candidates` are nanoGPT configs (`--candidate`). Adjustments are in the study's `notes`. Raises UserError.
    """
    return loading.load(
        path,
        profile=profile,
        overrides=overrides,
        data=data,
        baseline=baseline,
        start=None if start is None else str(start),
        log=None if log is None else str(log),
        candidates=[str(file) for file in candidates],
        devices_have_cuda=cuda_devices() > 0,
    )


def run(study: Study, *, out: str | Path | None = None, progress: bool = False) -> Sweep:
    """Run a study, or continue it, and write its report. `out` is the folder of the results instead of runs/<study>.

    Prints nothing, or with `progress` what `sweep run` prints meanwhile, to stderr. Ctrl-C pauses the study, which is
    then KeyboardInterrupt; the same call continues it. Raises UserError.
    """
    if threading.current_thread() is not threading.main_thread():
        raise SpecError("run: a study runs in the main thread, where Ctrl-C can pause it; call it from there")
    warm_up()
    paths = paths_of(study.name, out=None if out is None else Path(out))
    console = None
    if progress:
        from rich.console import Console

        console = Console(stderr=True)
    swept, summary = sweep(study, paths, console=console)
    if summary.interrupted is not None:
        signals.end(summary.interrupted)
    if swept.unpublished is not None:
        raise swept.unpublished
    return swept


def open_results(study: str | Path, *, out: str | Path | None = None) -> Sweep:
    """Open the results of a study, also while it runs, by its name, its folder, its .db file or its YAML file.

    `out` is the folder given to `run`. Raises UserError where there is no such study.
    """
    located, results = locate.read(str(study), out=None if out is None else Path(out))
    return Sweep(findings=Findings(results), store=database_of(located.url).name, report=located.paths.report)


def sweep(
    study: Study, paths: StudyPaths, *, stored: Results | None = None, console: Console | None = None
) -> tuple[Sweep, Summary]:
    """Prepare the data, run the study until it ends or pauses, and write its report.

    `stored` are the results of a study that goes on, on its own data. What happens meanwhile is shown on `console`;
    without one, nothing is. A signal pauses the study, and the summary names it.
    """
    say, busy = _say(console), busy_processes()
    for note in study.notes:
        say(f"note: {note}")
    with _preparing(console, say) as show:
        if stored is None:
            dataset = session.prepare_data(study, paths, progress=show)
        else:
            dataset = session.data_of(stored, paths, progress=show)
    say(f"data: {dataset.path} ({dataset.train.tokens:,} training tokens, {dataset.val.tokens:,} validation tokens)")
    for remark in (*(f"note: {note}" for note in dataset.notes), *(f"warning: {text}" for text in dataset.warnings)):
        say(remark)
    # Imports the plotting libraries while the workers import torch. Two threads that import the same cycle of modules
    # may see them half made, so it begins when this thread has its own, and is waited for.
    plotting = threading.Thread(target=importlib.import_module, args=("sweeps.report.publish",), daemon=True)
    with Store(session.store_url(study, paths), pointer=paths.pointer) as store:
        plotting.start()
        with _watching(console, say) as observer:
            summary = session.run(study, paths, store, dataset, observer=observer, busy=busy)
        plotting.join()
        from sweeps.report.publish import close

        findings = Findings(store.results(study.name))
        unpublished = _error_of(lambda: close(findings, store, paths))
        return Sweep(findings=findings, store=store.path, report=paths.report, unpublished=unpublished), summary


def _error_of(publish: Callable[[], object]) -> Exception | None:
    """Publish, and return the exception that it ends with: it must not hide what the study has found."""
    try:
        publish()
    except OSError as error:
        where = error.filename or "the report"
        return DiskError(f"{where}: cannot be written: {error.strerror or error}; `sweep report` writes it once it can")
    except Exception as error:  # noqa: BLE001  # raised again, after the verdict
        return error
    return None


def _say(console: Console | None) -> Callable[[str], None]:
    def say(text: str) -> None:
        if console is not None:
            print(text, file=console.file, flush=True)

    return say


def _preparing(
    console: Console | None, say: Callable[[str], None]
) -> AbstractContextManager[Callable[[PrepareProgress], None]]:
    if console is None:
        return contextlib.nullcontext(_ignore)
    from sweeps.terminal import preparing

    return preparing(console, say)


def _ignore(progress: PrepareProgress) -> None:
    """Show nothing."""


def _watching(console: Console | None, say: Callable[[str], None]) -> AbstractContextManager[Observer]:
    if console is None:
        return contextlib.nullcontext(Silent())
    from sweeps.terminal import watching

    return watching(console, say)
