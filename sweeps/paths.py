"""Where a study keeps its files: one class knows every path, and writes text without halves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RUNS = "runs"
"""the folder, under the current one, that studies are in unless --out says otherwise"""


@dataclass(frozen=True)
class StudyPaths:
    """The files of one study, below its folder `root`."""

    root: Path

    def __post_init__(self) -> None:
        # workers start elsewhere, and a relative path would follow them
        object.__setattr__(self, "root", Path(self.root).absolute())

    @property
    def store(self) -> Path:
        """Optuna's trials and our runs, where the study names no other store."""
        return self.root / "study.db"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def data(self) -> Path:
        """Prepared data: beside the studies below runs/, which share it; inside a folder that --out names."""
        return (self.root.parent if self.root.parent.name == RUNS else self.root) / "data"

    @property
    def logs(self) -> Path:
        """What workers print outside of runs."""
        return self.root / "logs"

    @property
    def measuring(self) -> Path:
        """Where workers train while their speed is measured; gone afterwards."""
        return self.root / "measuring"

    @property
    def artifacts(self) -> Path:
        """Files that optuna-dashboard shows beside trials."""
        return self.root / "artifacts"

    def run(self, run: int) -> Path:
        """Folder of one run: its checkpoint (ckpt.pt, state-*.pt) and its log."""
        return self.root / "runs" / str(run)

    def checkpoint(self, run: int) -> Path:
        """The run's nanoGPT checkpoint, there while the run is kept."""
        return self.run(run) / "ckpt.pt"

    def drop_checkpoint(self, run: int) -> None:
        """Delete the run's checkpoint, half-written ones too; its log stays."""
        for path in self.run(run).glob("*.pt*"):
            path.unlink(missing_ok=True)
        for path in self.run(run).glob(".*.pt*"):
            path.unlink(missing_ok=True)


def paths_of(study: str, *, out: Path | None) -> StudyPaths:
    """The files of the study called `study`: in `out`, or in runs/<study>."""
    return StudyPaths(out or Path(RUNS) / study)


def log_of(run_folder: Path) -> Path:
    """The log of the run in `run_folder`: what its worker printed."""
    return run_folder / "log.txt"
