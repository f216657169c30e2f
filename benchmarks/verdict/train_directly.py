"""Direct training: configs run to their ends, without search or pruning. Ended runs are kept in files.

A second call trains only what has no file yet, and continues runs that were interrupted.
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
class DirectRun:
    """A config to train, and the file that keeps its result."""

    config: TrainConfig
    out: Path
    """folder of the checkpoint while the run lasts"""
    file: Path
    """JSON; a run whose file exists is not trained again"""
    notes: Mapping[str, Any]
    """written into the file, before the outcome"""


def final_losses(configs: Sequence[TrainConfig], dataset: Dataset, folder: Path) -> list[float]:
    """Return the final loss of each config in nats per token, infinite where training diverged."""
    runs = [
        DirectRun(
            config=config,
            out=folder / "runs" / name_of(config),
            file=_result_file(folder, config),
            notes={"config": config.as_dict()},
        )
        for config in dict.fromkeys(configs)
    ]
    logs = StudyPaths(folder).logs
    train_missing(runs, dataset, logs=logs, noun="direct runs", content=lambda result: {"val_loss": result.val_loss})
    return [_loss(_result_file(folder, config)) for config in configs]


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
    ended = train_all([(run.config, run.out) for run in missing], dataset, logs=logs)
    for number, result in watched(ended, len(missing), noun=noun):
        run = missing[number]
        write_text(run.file, json.dumps({**run.notes, "outcome": result.outcome, **content(result)}))


def train_all(
    tasks: Sequence[tuple[TrainConfig, Path]], dataset: Dataset, *, logs: Path
) -> Iterator[tuple[int, Result]]:
    """Train each config in its folder on all devices; yield the task's number and its result as runs end.

    An interrupted run continues from the checkpoint in its folder. The folder is deleted when the run has ended. Raises
    SystemExit with the worker's text if a run crashes.
    """
    waiting, in_flight = deque(enumerate(tasks)), 0
    devices = devices_here("auto")
    with ProcessPool(devices, logs=logs, cores=cpu_cores()) as pool:
        while waiting or in_flight:
            for device in pool.idle()[: len(waiting)]:
                number, (config, out) = waiting.popleft()
                pool.start(Job(run=number, attempt=1, config=config, data=dataset.path, out=out, device=device))
                in_flight += 1
            for message in pool.wait(1.0):
                match message:
                    case PointMessage(run=number):
                        pool.answer(number, Answer.GO)
                    case Finished(run=number, result=result):
                        in_flight -= 1
                        shutil.rmtree(tasks[number][1], ignore_errors=True)
                        yield number, result
                    case Crashed(text=text) | Died(text=text):
                        raise SystemExit(text)


def name_of(config: TrainConfig) -> str:
    """Return a name that no other config has."""
    text = json.dumps(config.as_dict(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _result_file(folder: Path, config: TrainConfig) -> Path:
    return folder / "done" / f"{name_of(config)}.json"


def _loss(path: Path) -> float:
    loss = json.loads(path.read_text(encoding="utf-8"))["val_loss"]
    return math.inf if loss is None else float(loss)
