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
from sweeps.jobs import Crashed, Died, Finished, Job, PointMessage
from sweeps.paths import StudyPaths, write_text
from sweeps.workers import ProcessPool, devices_for
from trainer.config import TrainConfig
from trainer.data import Dataset
from trainer.device import cpu_cores, cuda_devices
from trainer.points import Answer, Result


def final_losses(configs: Sequence[TrainConfig], dataset: Dataset, folder: Path) -> list[float]:
    """The final loss of each config, nats a token; infinite where it diverged. One that has a file in `folder` is not
    trained again."""
    todo = list(dict.fromkeys(config for config in configs if not file_of(folder, config).exists()))
    for config, result in watched(_trained(todo, dataset, folder), len(todo), noun="direct runs"):
        found = {"config": config.as_dict(), "outcome": result.outcome, "val_loss": result.val_loss}
        write_text(file_of(folder, config), json.dumps(found))
    return [_loss(file_of(folder, config)) for config in configs]


def file_of(folder: Path, config: TrainConfig) -> Path:
    """Where the result of a config is kept."""
    text = json.dumps(config.as_dict(), sort_keys=True)
    return folder / "done" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _loss(path: Path) -> float:
    loss = json.loads(path.read_text(encoding="utf-8"))["val_loss"]
    return math.inf if loss is None else float(loss)


def _trained(configs: Sequence[TrainConfig], dataset: Dataset, folder: Path) -> Iterator[tuple[TrainConfig, Result]]:
    """Each config with its result, in the order they end."""
    paths, todo, flying = StudyPaths(folder), deque(enumerate(configs)), 0
    devices = devices_for("auto", cuda_devices=cuda_devices(), cpu_cores=cpu_cores())
    with ProcessPool(devices, logs=paths.logs, cores=cpu_cores()) as pool:
        while todo or flying:
            for device in pool.idle()[: len(todo)]:
                number, config = todo.popleft()
                out = paths.run(number)
                shutil.rmtree(out, ignore_errors=True)  # of an earlier session that was cut off, under another number
                pool.start(Job(run=number, attempt=1, config=config, data=dataset.path, out=out, device=device))
                flying += 1
            for message in pool.wait(1.0):
                match message:
                    case PointMessage(run=number):
                        pool.answer(number, Answer.GO)
                    case Finished(run=number, result=result):
                        flying -= 1
                        shutil.rmtree(paths.run(number), ignore_errors=True)
                        yield configs[number], result
                    case Crashed(text=text) | Died(text=text):
                        raise SystemExit(text)
