"""The worker as a Ray actor: each call returns the job's next message, so the driver waits for replies alone.

An actor's process trains one job at a time, in a thread, and is asked to pause in another. It ends with its driver.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import queue
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sweeps.workers import worker
from sweeps.workers.names import kind_of
from sweeps.workers.pool import Job, Message, PointMessage, Work
from trainer.points import Answer, Point


@dataclass(frozen=True, kw_only=True)
class About:
    """What a worker says of its machine before the first job."""

    host: str
    kind: str
    """name of its card or processor"""
    authentication: str
    """Ray's mode: token, or anything else for none"""
    versions: Mapping[str, str]
    """of what losses depend on"""
    read: str
    """text of the probe"""
    trouble: str
    """why the folder of the runs or of the data can't be used there; empty: both can"""


def versions() -> dict[str, str]:
    """Return the versions that must be the same on every machine."""
    return {"Python": platform.python_version(), "torch": importlib.metadata.version("torch")}


class RayWorker:
    """Runs `work` on one job after another."""

    def __init__(self, log: Path, *, device: str, threads: int, work: Work) -> None:
        """Prepare the worker. `log`: where output outside of runs goes. `threads`: of torch."""
        self._log, self._kind, self._work = log, device.partition(":")[0], work
        worker.warm(work, threads=threads)
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def about(self, probe: Path, data: Path) -> About:
        """Describe this machine. Reads `probe`, and writes what it read into a file of this host beside it."""
        host, read, trouble = socket.gethostname(), "", ""
        try:
            read = probe.read_text(encoding="utf-8")
            copy_of(probe, host=host).write_text(read, encoding="utf-8")
            next(iter(data.iterdir()), None)
        except OSError as error:
            trouble = f"{error.strerror}: {error.filename}"
        return About(
            host=host,
            kind=kind_of(self._kind),
            authentication=os.environ.get("RAY_AUTH_MODE", ""),
            versions=versions(),
            read=read,
            trouble=trouble,
        )

    def start(self, job: Job) -> Message:
        """Start a job and return its first message."""
        job.out.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._run, args=(job,), daemon=True).start()
        return self._messages.get()

    def answer(self, answer: Answer) -> Message:
        """Answer the job's last point and return its next message."""
        self._answers.put(answer)
        return self._messages.get()

    def pause(self) -> None:
        """Let the job pause at its next step."""
        worker.request_pause()

    def _run(self, job: Job) -> None:
        def report(point: Point) -> Answer:
            self._messages.put(PointMessage(run=job.run, attempt=job.attempt, point=point))
            return self._answers.get()

        try:
            message = worker.do(functools.partial(worker.logged, self._work), job, report)
        except SystemExit as end:  # which would end this thread alone
            print(f"the worker ends with exit code {end.code}", flush=True)
            os._exit(end.code if isinstance(end.code, int) else 1)
        worker.print_to(self._log)
        self._messages.put(message)


def copy_of(probe: Path, *, host: str) -> Path:
    """Return the file into which a host copies the probe."""
    return probe.with_name(f"{probe.name}-{host}")
