"""The command `sweep`, with workers that note what their time goes to.

    BUSY=FOLDER python -m benchmarks.speed.timed_sweep run studies/smoke.yaml --out OUT

Each run leaves a file in FOLDER: when it began and ended, and the seconds of its training steps, of its evaluations
and of its waits for an answer. The functions timed are the trainer's own, from outside of it.
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

FOLDER = "BUSY"
"""environment variable"""
STEPS, EVALUATIONS = ("_update", "_read_losses"), ("_loss_on",)
"""methods of the trainer's loop"""

P, R = ParamSpec("P"), TypeVar("R")


@dataclasses.dataclass(kw_only=True)
class Spell:
    """A worker's time with one job, seconds; `began` and `ended` by time.time()."""

    began: float
    ended: float = 0.0
    steps: float = 0.0
    evaluations: float = 0.0
    waits: list[float] = dataclasses.field(default_factory=list)
    """for each answer"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timed(TrainJob):
    """The sweep's own trainer under a stopwatch."""

    def __call__(self, job: Job, report: Report) -> Result:
        from trainer.run import loop

        spell = Spell(began=time.time())

        def answered(point: Point) -> Answer:
            began = time.perf_counter()
            answer = report(point)
            spell.waits.append(time.perf_counter() - began)
            return answer

        with contextlib.ExitStack() as patches:
            for kind, names in {"steps": STEPS, "evaluations": EVALUATIONS}.items():
                for name in names:
                    timed = _timed(spell, kind, getattr(loop._Run, name))
                    patches.enter_context(mock.patch.object(loop._Run, name, timed))
            result = TrainJob.__call__(self, job, answered)
        spell.ended = time.time()
        file = Path(os.environ[FOLDER]) / f"{job.run}-{job.attempt}.json"
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
    """What the runs of a sweep have left."""
    for file in sorted(folder.glob("*.json")):
        yield Spell(**json.loads(file.read_text(encoding="utf-8")))


if __name__ == "__main__":
    # workers import what they are given by its name, which __main__ is not
    from benchmarks.speed.timed_sweep import Timed as Given
    from sweeps import cli
    from sweeps.workers import worker

    with mock.patch.object(worker, "Trainer", Given):
        sys.exit(cli.main())
