"""Messages between the driver and its workers, and the contract of every pool of workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """number of the launch; messages of an earlier launch are ignored"""
    config: TrainConfig
    data: Path
    """folder of the data, for trainer.data.dataset.open_dataset"""
    out: Path
    """folder of the log and the checkpoint; if it holds a checkpoint, the run resumes from it"""
    device: str
    origin: Path | None = None
    """checkpoint of the run that this one goes on from, a file in nanoGPT's form; None: the run starts from scratch"""
    largest: int | None = None
    """largest micro-batch allowed, after larger ones ran out of memory; None: any"""
    sharers: int = 1
    """workers that share the device's memory"""


@dataclass(frozen=True, kw_only=True)
class PointMessage:
    """The run has evaluated and waits for an answer."""

    run: int
    attempt: int
    point: Point


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """The run has begun another step, or another batch of an evaluation. It waits for no answer."""

    run: int
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The run has ended, by itself or by an answer."""

    run: int
    attempt: int
    result: Result


@dataclass(frozen=True, kw_only=True)
class Crashed:
    """Training raised an exception."""

    run: int
    attempt: int
    text: str
    """the traceback; for a user's mistake the message"""
    user_error: bool
    """whether only the user can fix it, so that a retry is useless"""


@dataclass(frozen=True, kw_only=True)
class Died:
    """The worker's process is gone."""

    run: int
    attempt: int
    text: str
    """how it ended, and the last lines of its log"""


Message = PointMessage | Pulse | Finished | Crashed | Died
PULSE_SECONDS = 1.0
"""least time between two pulses of a run"""
Report = Callable[[Point], Answer]
Work = Callable[[Job, Report], Result]


class Pool(Protocol):
    """Some devices, each with one worker that trains one job at a time. Runs are known by their id."""

    @property
    def devices(self) -> tuple[str, ...]:
        """One name per worker; several workers may share one ("cpu")."""

    def kind(self, device: str) -> str:
        """Return the name of the card or processor that a device is. A seed's losses differ between kinds."""

    def idle(self) -> list[str]:
        """Return the devices of the workers that have no job."""

    def start(self, job: Job) -> None:
        """Give the job to an idle worker on its device. Raises ValueError where there is none."""

    def wait(self, timeout: float) -> list[Message]:
        """Receive messages, waiting at most `timeout` seconds for the first. A PointMessage waits for its `answer`."""

    def answer(self, run: int, answer: Answer) -> None:
        """Send the answer to the run's last point to its worker, which waits for it."""

    def pause(self) -> None:
        """Ask all workers to pause their runs at the next step, if they can, else at the answer to the next point.

        They take no further jobs.
        """

    def stopped(self) -> Mapping[int, int]:
        """Return the process ids, by run, of workers that are stopped in the middle of a job (SIGSTOP, Ctrl-Z).

        Empty where the system doesn't tell.
        """

    def kill(self, run: int) -> None:
        """End the run's worker now. No message of this launch follows."""

    def close(self) -> None:
        """End all workers now."""
