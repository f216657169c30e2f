"""The command `sweep` with workers that record how they spend their time.

    BUSY=FOLDER python -m benchmarks.speed.timed_sweep run studies/smoke.yaml --out OUT

Each run leaves a file in FOLDER: when it began and ended, and the seconds of its training steps, its evaluations and
its waits for an answer. The trainer's own methods are timed, by patches. Part of `benchmarks.speed.overhead`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar
from unittest import mock

from sweeps.workers.pool import Job, Report
from sweeps.workers.worker import TrainJob
from trainer.points import Answer, Point, Result

FOLDER_VARIABLE = "BUSY"
"""environment variable that names the folder"""
TIMED_METHODS = {"steps": ("_update", "_read_losses"), "evaluations": ("_loss_on",)}
"""methods of the trainer's loop, by the field of Spell that counts their seconds"""

P = ParamSpec("P")
R = TypeVar("R")


@dataclasses.dataclass(kw_only=True)
class Spell:
    """A worker's time with one job in seconds; `began` and `ended` by time.time()."""

    began: float
    ended: float = 0.0
    steps: float = 0.0
    evaluations: float = 0.0
    waits: list[float] = dataclasses.field(default_factory=list)
    """one per answer"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimedTrainJob(TrainJob):
    """The sweep's own training of a job, timed."""

    def __call__(self, job: Job, report: Report) -> Result:
        from trainer.run import loop

        spell = Spell(began=time.time())

        def timed_report(point: Point) -> Answer:
            began = time.perf_counter()
            answer = report(point)
            spell.waits.append(time.perf_counter() - began)
            return answer

        with contextlib.ExitStack() as patches:
            for kind, names in TIMED_METHODS.items():
                for name in names:
                    timed = _timed(spell, kind, getattr(loop._Run, name))
                    patches.enter_context(mock.patch.object(loop._Run, name, timed))
            result = TrainJob.__call__(self, job, timed_report)
        spell.ended = time.time()
        file = Path(os.environ[FOLDER_VARIABLE]) / f"{job.run}-{job.attempt}.json"
        file.write_text(json.dumps(dataclasses.asdict(spell)), encoding="utf-8")
        return result


def _timed(spell: Spell, kind: str, function: Callable[P, R]) -> Callable[P, R]:
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            setattr(spell, kind, getattr(spell, kind) + time.perf_counter() - began)

    return wrapped


def spells(folder: Path) -> Iterator[Spell]:
    """Yield the spells that the runs of a sweep have left."""
    for file in sorted(folder.glob("*.json")):
        yield Spell(**json.loads(file.read_text(encoding="utf-8")))


if __name__ == "__main__":
    # a worker imports its work by module name, so the class has to come from this module and not from __main__
    from benchmarks.speed import timed_sweep
    from sweeps import cli
    from sweeps.workers import worker

    with mock.patch.object(worker, "TrainJob", timed_sweep.TimedTrainJob):
        sys.exit(cli.main())
