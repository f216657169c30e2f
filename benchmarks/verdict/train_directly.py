"""Direct training: configs run to their ends, without search or pruning. Ended runs are kept in files.

A second call trains only what has no file yet, and continues runs that were interrupted. A run may go on from the
checkpoint of another, and may be halted before its schedule ends, as a race is.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.progress import watched
from sweeps.paths import StudyPaths
from sweeps.workers.launch import devices_here
from sweeps.workers.pool import Crashed, Died, Finished, Job, PointMessage
from sweeps.workers.process_pool import ProcessPool
from trainer.atomic import write_text
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.machine.cpu import cpu_cores
from trainer.points import Answer, Result


@dataclass(frozen=True, kw_only=True)
class Task:
    """A config to train, and from where to where."""

    config: TrainConfig
    origin: Path | None = None
    """checkpoint that the run goes on from; None: from scratch"""
    until: int | None = None
    """step after which the run is halted; None: it runs to its end"""


@dataclass(frozen=True, kw_only=True)
class DirectRun:
    """A task, and the file that keeps its result."""

    task: Task
    out: Path
    """folder of the checkpoint while the run lasts"""
    file: Path
    """JSON; a run whose file exists is not trained again"""
    notes: Mapping[str, Any]
    """written into the file, before the outcome"""
    keeps: bool = False
    """whether the checkpoint stays when the run has ended"""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How a direct run ended."""

    loss: float
    """nats per token: on the final windows, or at the last evaluation of a halted run; infinite where it diverged"""
    curve: Mapping[int, float]
    """validation losses by step, on the windows of each evaluation"""


def final_losses(configs: Sequence[TrainConfig], dataset: Dataset, folder: Path) -> list[float]:
    """Return the final loss of each config in nats per token, infinite where training diverged."""
    return [run.loss for run in trained([Task(config=config) for config in configs], dataset, folder)]


def trained(tasks: Sequence[Task], dataset: Dataset, folder: Path) -> list[Trained]:
    """Train the tasks that no earlier call has trained in `folder`, and return how each one ended."""
    runs = [
        DirectRun(
            task=task,
            out=folder / "runs" / name_of(task),
            file=_result_file(folder, task),
            notes={"config": task.config.as_dict()},
        )
        for task in dict.fromkeys(tasks)
    ]
    train_missing(runs, dataset, logs=StudyPaths(folder).logs, noun="direct runs", content=kept_of)
    return [read(_result_file(folder, task)) for task in tasks]


def checkpoint_of(task: Task, dataset: Dataset, folder: Path) -> Path:
    """Train a task in `folder` unless that is done, and return its checkpoint, which stays."""
    out = folder / "kept" / name_of(task)
    file = out.with_suffix(".json")
    run = DirectRun(task=task, out=out, file=file, notes={"config": task.config.as_dict()}, keeps=True)
    train_missing([run], dataset, logs=StudyPaths(folder).logs, noun="origins", content=kept_of)
    if read(file).loss == math.inf:
        raise SystemExit(f"{file}: the run that others go on from diverged")
    return out / "ckpt.pt"


def kept_of(result: Result) -> Mapping[str, Any]:
    """Return what is kept of a result: its final loss and its curve."""
    halted = result.outcome == "paused" and result.points
    return {
        "val_loss": result.points[-1].val_loss if halted else result.val_loss,
        "curve": [[point.step, point.val_loss] for point in result.points],
    }


def read(file: Path) -> Trained:
    """Return the ended run that `kept_of` describes."""
    kept = json.loads(file.read_text(encoding="utf-8"))
    loss = kept["val_loss"]
    return Trained(loss=math.inf if loss is None else float(loss), curve=dict(kept["curve"]))


def train_missing(
    runs: Sequence[DirectRun],
    dataset: Dataset,
    *,
    logs: Path,
    noun: str,
    content: Callable[[Result], Mapping[str, Any]],
) -> None:
    """Train the runs that have no file, and write each one's notes, outcome and content when it ends."""
    missing = [run for run in runs if not run.file.exists()]
    for number, result in watched(train_all(missing, dataset, logs=logs), len(missing), noun=noun):
        run = missing[number]
        write_text(run.file, json.dumps({**run.notes, "outcome": result.outcome, **content(result)}))
        if not run.keeps:
            shutil.rmtree(run.out, ignore_errors=True)


def train_all(runs: Sequence[DirectRun], dataset: Dataset, *, logs: Path) -> Iterator[tuple[int, Result]]:
    """Train each run in its folder on all devices; yield its number and its result as runs end.

    An interrupted run continues from the checkpoint in its folder. Raises SystemExit with the worker's text if a run
    crashes.
    """
    waiting, in_flight = deque(enumerate(runs)), 0
    devices = devices_here("auto")
    with ProcessPool(devices, logs=logs, cores=cpu_cores()) as pool:
        while waiting or in_flight:
            for device in pool.idle()[: len(waiting)]:
                number, run = waiting.popleft()
                pool.start(_job(number, run, dataset, device))
                in_flight += 1
            for message in pool.wait(1.0):
                match message:
                    case PointMessage(run=number, point=point):
                        until = runs[number].task.until
                        pool.answer(number, Answer.GO if until is None or point.step < until else Answer.PAUSE)
                    case Finished(run=number, result=result):
                        in_flight -= 1
                        yield number, result
                    case Crashed(text=text) | Died(text=text):
                        raise SystemExit(text)


def _job(number: int, run: DirectRun, dataset: Dataset, device: str) -> Job:
    task = run.task
    return Job(
        run=number,
        attempt=1,
        config=task.config,
        data=dataset.path,
        out=run.out,
        device=device,
        origin=task.origin,
    )


def name_of(task: Task) -> str:
    """Return a name that no other task has. The config names the origin by its hash."""
    text = json.dumps(task.config.as_dict(), sort_keys=True)
    halted = "" if task.until is None else f"-{task.until}"
    return hashlib.sha256(text.encode()).hexdigest()[:16] + halted


def _result_file(folder: Path, task: Task) -> Path:
    return folder / "done" / f"{name_of(task)}.json"
