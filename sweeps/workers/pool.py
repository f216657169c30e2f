"""What the sweep and its workers say to each other, and the contract of every pool of workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainer.config import TrainConfig
from trainer.points import Answer, Point, Result


@dataclass(frozen=True, kw_only=True)
class Job:
    """One launch of a run."""

    run: int
    """id of the run"""
    attempt: int
    """number of the launch; what an earlier launch still says is not listened to"""
    config: TrainConfig
    data: Path
    """folder of the data, as trainer.data.dataset.open_dataset takes it"""
    out: Path
    """folder for checkpoints, resumed from where it has one, and for the log"""
    device: str
    largest: int | None = None
    """micro-batch that is still allowed, where larger ones ran out of memory; None: any"""
    sharers: int = 1
    """workers that the device's memory is for"""


@dataclass(frozen=True, kw_only=True)
class PointMessage:
    """The run has evaluated and waits for an answer."""

    run: int
    attempt: int
    point: Point


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The run has ended by itself, or as it was answered."""

    run: int
    attempt: int
    result: Result


@dataclass(frozen=True, kw_only=True)
class Crashed:
    """Training raised an exception."""

    run: int
    attempt: int
    text: str
    """the traceback; of a user's mistake its message"""
    user_error: bool
    """a mistake that only the user can mend, so that trying again is of no use"""


@dataclass(frozen=True, kw_only=True)
class Died:
    """The worker's process is gone."""

    run: int
    attempt: int
    text: str
    """how it ended, and the last lines of its log"""


Message = PointMessage | Finished | Crashed | Died
Report = Callable[[Point], Answer]
Work = Callable[[Job, Report], Result]


class Pool(Protocol):
    """Some devices, each with one worker that trains one job at a time. Runs are known by their id."""

    @property
    def devices(self) -> tuple[str, ...]:
        """One name a worker; several workers may share one ("cpu")."""

    def idle(self) -> list[str]:
        """Devices of the workers that have no job."""

    def start(self, job: Job) -> None:
        """Give the job to an idle worker on its device; ValueError where there is none."""

    def wait(self, timeout: float) -> list[Message]:
        """What workers have said, after at most `timeout` seconds of silence. A PointMessage wants its `answer`."""

    def answer(self, run: int, answer: Answer) -> None:
        """Let the run's worker go on from its last point."""

    def kill(self, run: int) -> None:
        """End the run's worker now; nothing more is heard of this launch."""

    def close(self) -> None:
        """End all workers now."""
