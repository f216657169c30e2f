"""Final losses of configs trained directly: no search, no pruning, nothing chosen."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from benchmarks.progress import watched
from sweeps.jobs import Crashed, Died, Finished, Job, PointMessage
from sweeps.paths import StudyPaths, write_text
from sweeps.workers import ProcessPool, devices_for
from trainer.config import TrainConfig
from trainer.data import Dataset
from trainer.device import cpu_cores, cuda_devices
from trainer.points import Answer


def final_losses(configs: Sequence[TrainConfig], dataset: Dataset, folder: Path) -> list[float]:
    """Each config's final loss, nats a token; infinite where it diverged. A run that has a file in `folder` isn't made
    again."""
    wanted = dict.fromkeys(config for config in configs if not _file(folder, config).exists())
    for _ in watched(_trained(list(wanted), dataset, folder), len(wanted), noun="direct runs"):
        pass
    return [_read(_file(folder, config)) for config in configs]


def _trained(configs: Sequence[TrainConfig], dataset: Dataset, folder: Path):  # type: ignore[no-untyped-def]
    paths = StudyPaths(folder)
    todo, flying = deque(enumerate(configs)), 0
    devices = devices_for("auto", cuda_devices=cuda_devices(), cpu_cores=cpu_cores())
    with ProcessPool(devices, logs=paths.logs, cores=cpu_cores()) as pool:
        while todo or flying:
            for device in pool.idle():
                if todo:
                    number, config = todo.popleft()
                    out = paths.run(number)
                    shutil.rmtree(out, ignore_errors=True)
                    pool.start(Job(run=number, attempt=1, config=config, data=dataset.path, out=out, device=device))
                    flying += 1
            for message in pool.wait(1.0):
                match message:
                    case PointMessage(run=number):
                        pool.answer(number, Answer.GO)
                    case Finished(run=number, result=result):
                        flying -= 1
                        found = {"config": configs[number].as_dict(), "outcome": result.outcome, "val_loss": result.val_loss, "seconds": result.seconds, "points": [[p.step, p.train_loss, p.val_loss] for p in result.points]}
                        write_text(_file(folder, configs[number]), json.dumps(found))
                        shutil.rmtree(paths.run(number), ignore_errors=True)
                        yield number
                    case Crashed(text=text) | Died(text=text):
                        raise SystemExit(text)


def _file(folder: Path, config: TrainConfig) -> Path:
    named = json.dumps(config.as_dict(), sort_keys=True)
    return folder / "done" / f"{hashlib.sha256(named.encode()).hexdigest()[:16]}.json"


def _read(path: Path) -> float:
    loss = json.loads(path.read_text(encoding="utf-8"))["val_loss"]
    return math.inf if loss is None else float(loss)
