"""Paths of a study's files, all of them in one class, and the commands that find them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

TAIL_LINES, TAIL_BYTES = 25, 16_384
"""of a log that are shown where its run has failed"""
RUNS = "runs"
"""folder of all studies, below the current one, unless --out names another"""


@dataclass(frozen=True)
class StudyPaths:
    """The files of one study, below the folder `root`."""

    root: Path

    def __post_init__(self) -> None:
        # A worker may have another current folder, so a relative path would mean another file there.
        object.__setattr__(self, "root", Path(self.root).absolute())

    @property
    def store(self) -> Path:
        """The default store: Optuna's trials and our runs."""
        return self.root / "study.db"

    @property
    def pointer(self) -> Path:
        """The file that names the store of a study on a server: its URL, # and the study."""
        return self.root / "store.url"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.root / "report.html"

    @property
    def data(self) -> Path:
        """Prepared data: runs/data, shared by all studies there, or inside the folder that --out names."""
        return (self.root.parent if self.root.parent.name == RUNS else self.root) / "data"

    @property
    def logs(self) -> Path:
        """Output of workers outside of runs."""
        return self.root / "logs"

    @property
    def measuring(self) -> Path:
        """Where workers train while their speed is measured; removed afterwards."""
        return self.root / "measuring"

    @property
    def origin(self) -> Path:
        """The study's own copy of the checkpoint from which its branches go on."""
        return self.root / "origin" / "ckpt.pt"

    @property
    def artifacts(self) -> Path:
        """Files that optuna-dashboard shows beside trials."""
        return self.root / "artifacts"

    @property
    def run_folders(self) -> int:
        """How many runs have a folder."""
        return sum(path.name.isdecimal() for path in (self.root / "runs").glob("*"))

    def run(self, run: int) -> Path:
        """The folder of one run: its checkpoint (ckpt.pt, state-*.pt) and its log."""
        return self.root / "runs" / str(run)

    def checkpoint(self, run: int) -> Path:
        """The run's nanoGPT checkpoint; deleted when the run is no longer needed."""
        return self.run(run) / "ckpt.pt"

    def drop_checkpoint(self, run: int) -> None:
        """Delete the run's checkpoint, the one before, and any half-written one. The log stays."""
        for path in self.run(run).glob("*.pt*"):
            path.unlink(missing_ok=True)
        self.drop_half_written(run)

    def drop_half_written(self, run: int) -> None:
        """Delete what a worker was writing when it was killed. No worker may have the run."""
        for path in self.run(run).glob(".*.pt*"):
            path.unlink(missing_ok=True)


def paths_of(study: str, *, out: Path | None) -> StudyPaths:
    """Return the paths of the study named `study`: in `out` if given, else in runs/<study>."""
    return StudyPaths(out or Path(RUNS) / study)


def command(verb: str, study: str, *options: str, store: Path | None) -> str:
    """Return the command `sweep VERB` for a study as one types it in this folder, with `--out` where it needs it.

    `store` is the study's file, or the one in its folder that names a server; None: it is where a study without `--out`
    has it.
    """
    usual = paths_of(study, out=None)
    if store is None or store in (usual.store, usual.pointer):
        where = [study]
    elif store.name in (usual.store.name, usual.pointer.name):
        where = [study, "--out", _from_here(store.parent)]
    else:  # the study's own `store` names it
        where = [_from_here(store)]
    return shlex.join(["sweep", verb, *where, *options])


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def log_of(run_folder: Path) -> Path:
    """Return the log of the run in `run_folder`: the output of its worker."""
    return run_folder / "log.txt"


def tail_of(log: Path) -> str:
    """Return the last lines of a log; empty where there are none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-TAIL_LINES:])
