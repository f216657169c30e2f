"""Configs trained directly, each to its end: nothing searched, pruned or chosen."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

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


def final_losses(configs: Sequence[TrainConfig], dataset: Dataset, folder: Path) -> list[float]:
    """The final loss of each config, nats a token; infinite where it diverged. One that has a file in `folder` is not
    trained again, and one that was cut off goes on."""
    todo = list(dict.fromkeys(config for config in configs if not file_of(folder, config).exists()))
    tasks = [(config, folder / "runs" / name_of(config)) for config in todo]
    ended = trained(tasks, dataset, logs=StudyPaths(folder).logs)
    for number, result in watched(ended, len(tasks), noun="direct runs"):
        found = {"config": todo[number].as_dict(), "outcome": result.outcome, "val_loss": result.val_loss}
        write_text(file_of(folder, todo[number]), json.dumps(found))
    return [_loss(file_of(folder, config)) for config in configs]


def file_of(folder: Path, config: TrainConfig) -> Path:
    """Where the result of a config is kept."""
    return folder / "done" / f"{name_of(config)}.json"


def name_of(config: TrainConfig) -> str:
    """A name that no other config has."""
    text = json.dumps(config.as_dict(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _loss(path: Path) -> float:
    loss = json.loads(path.read_text(encoding="utf-8"))["val_loss"]
    return math.inf if loss is None else float(loss)


def trained(tasks: Sequence[tuple[TrainConfig, Path]], dataset: Dataset, *, logs: Path) -> Iterator[tuple[int, Result]]:
    """The number of each task, a config and a folder of its own, with its result, in the order they end.

    A run that was cut off goes on from the checkpoint in its folder; the folder goes when the run has ended.
    """
    todo, flying = deque(enumerate(tasks)), 0
    devices = devices_here("auto")
    with ProcessPool(devices, logs=logs, cores=cpu_cores()) as pool:
        while todo or flying:
            for device in pool.idle()[: len(todo)]:
                number, (config, out) = todo.popleft()
                pool.start(Job(run=number, attempt=1, config=config, data=dataset.path, out=out, device=device))
                flying += 1
            for message in pool.wait(1.0):
                match message:
                    case PointMessage(run=number):
                        pool.answer(number, Answer.GO)
                    case Finished(run=number, result=result):
                        flying -= 1
                        shutil.rmtree(tasks[number][1], ignore_errors=True)
                        yield number, result
                    case Crashed(text=text) | Died(text=text):
                        raise SystemExit(text)
