"""A sweep of real, very small training in a process that tests kill: `driver FOLDER DATA [LINE]`.

It prints `point RUN STEP` per evaluation, and `finished` or `interrupted` at the end. After the line LINE it waits
until it is killed or reads a line from standard input.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sweeps import signals
from sweeps.engine.progress import Silent
from sweeps.engine.session import run_in
from sweeps.paths import StudyPaths
from sweeps.store.records import Run
from sweeps.store.store import Store
from sweeps.study.study import Study
from sweeps.workers.process_pool import ProcessPool
from sweeps.workers.worker import TrainJob
from tests.helpers import small_sweep
from trainer.data.dataset import open_dataset
from trainer.points import Point


def study(data: Path) -> Study:
    """Return a study of three runs on a nanoGPT data folder: the baseline, dropout at its high end, a sampled trial."""
    return small_sweep.study(
        data={"bin": str(data)},
        knobs={"dropout": {"low": 0.0, "high": 0.4}},
        horizon={"iters": 40},
        baseline_seeds=1,
        trials=2,
        sampler={"type": "tpe"},
        pruner={"type": "median", "startup_trials": 2, "warmup": 0.5},
    )


class Printer(Silent):
    """An observer that prints a line per evaluation, and waits for standard input after the line `hold_at`."""

    def __init__(self, *, hold_at: str) -> None:
        self._hold_at = hold_at

    def point(self, run: Run, point: Point) -> None:
        line = f"point {run.id} {point.step}"
        print(line, flush=True)
        if line == self._hold_at:
            sys.stdin.readline()


def main(folder: Path, data: Path, hold_at: str) -> None:
    paths, dataset = StudyPaths(folder), open_dataset(data)
    with (
        Store(f"sqlite:///{paths.store}") as store,
        ProcessPool(["cpu"], logs=paths.logs, cores=1, work=TrainJob(checkpoint_seconds=0.0)) as pool,
        signals.collected() as interrupts,
    ):
        summary = run_in(
            pool,
            study(dataset.path),
            paths,
            store,
            dataset,
            observer=Printer(hold_at=hold_at),
            interrupts=interrupts,
        )
    print("finished" if summary.finished else "interrupted", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), " ".join(sys.argv[3:]))
