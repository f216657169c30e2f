"""Worker processes: one a device, warm (torch is imported and the data opened once, not once a trial, which would
cost 3.5 s each on a CPU), replaced when they die.

On a CPU one process a core with one thread each trains faster than one process with all of them (x1.14 to x1.49).
"""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from sweeps.paths import log_of
from sweeps.workers import launch, worker
from sweeps.workers.pool import Died, Finished, Job, Message, PointMessage, Work
from trainer.points import Answer

TAIL_LINES = 25
"""lines of a worker's log shown when it dies"""

_PATIENCE = 5.0
"""seconds for a process to end by itself"""


@dataclass
class _Worker:
    """One process and the job it has."""

    number: int
    device: str
    process: BaseProcess | None = None
    connection: Connection | None = None
    job: Job | None = None


class ProcessPool:
    """The `Pool` of processes: one a device, started by its first job and kept; one that dies is replaced at once.

    A CPU worker has one thread, however many cores are idle: sums in another order would make a trial's result depend
    on the number of workers. `cores` is what the workers of cards share. What they print goes to the runs' logs, and
    outside of runs to
    `logs`.
    """

    def __init__(
        self,
        devices: Sequence[str],
        *,
        logs: Path,
        cores: int,
        work: Work | None = None,
    ) -> None:
        if not devices:
            raise ValueError("a pool needs a device at least")
        self._workers = [_Worker(number, device) for number, device in enumerate(devices)]
        self._logs = logs
        self._cores = cores
        self._work = work or worker.TrainJob()

    def _threads(self, device: str) -> int:
        return 1 if device == "cpu" else max(1, self._cores // len(self._workers))

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(one.device for one in self._workers)

    def idle(self) -> list[str]:
        return [one.device for one in self._workers if one.job is None]

    def start(self, job: Job) -> None:
        free = [one for one in self._workers if one.job is None and one.device == job.device]
        if not free:
            raise ValueError(f"no idle worker on {job.device} for run {job.run}")
        chosen = free[0]
        if chosen.process is None or not chosen.process.is_alive():
            self._replace(chosen)
        chosen.job = job
        job.out.mkdir(parents=True, exist_ok=True)
        assert chosen.connection is not None
        # a broken pipe is a dead worker, which `wait` tells of
        with contextlib.suppress(OSError):
            chosen.connection.send(chosen.job)

    def wait(self, timeout: float) -> list[Message]:
        busy = [one for one in self._workers if one.job is not None]
        connections = [one.connection for one in busy if one.connection is not None]
        if connections:
            multiprocessing.connection.wait(connections, timeout)
        messages: list[Message] = []
        for one in busy:
            messages.extend(self._heard(one))
        return messages

    def _heard(self, one: _Worker) -> Iterator[Message]:
        """What one worker has said; a closed pipe is its death."""
        assert one.connection is not None
        try:
            while one.job is not None and one.connection.poll():
                message: Message = one.connection.recv()
                if (message.run, message.attempt) != (one.job.run, one.job.attempt):
                    continue  # of a job that was taken from it
                if not isinstance(message, PointMessage):
                    self._release(one, message)
                yield message
        except (EOFError, OSError):
            job = one.job
            assert job is not None
            how = self._stop(one, patience=_PATIENCE)
            one.job = None
            self._replace(one)
            text = f"the worker on {one.device} {how}; its last words:\n{self._tail(one, job)}"
            yield Died(run=job.run, attempt=job.attempt, text=text)

    def _release(self, one: _Worker, message: Message) -> None:
        one.job = None
        if isinstance(message, Finished) and message.result.outcome == "oom" and one.device != "cpu":
            # what ran out of GPU memory keeps some of it for as long as its process lives
            self._stop(one)
            self._replace(one)

    def answer(self, run: int, answer: Answer) -> None:
        for one in self._workers:
            if one.job is not None and one.job.run == run and one.connection is not None:
                with contextlib.suppress(OSError):  # dead: `wait` tells
                    one.connection.send(answer)

    def kill(self, run: int) -> None:
        for one in self._workers:
            if one.job is not None and one.job.run == run:
                self._stop(one)
                one.job = None
                self._replace(one)

    def close(self) -> None:
        for one in self._workers:
            if one.job is None and one.connection is not None:
                one.connection.close()  # an idle one ends by itself when its pipe does, and all of them at once
        for one in self._workers:
            self._stop(one, patience=_PATIENCE if one.job is None else 0.0)
            one.job = None

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _replace(self, one: _Worker) -> None:
        """Start a fresh process in the worker's place."""
        self._stop(one)
        ours, theirs = multiprocessing.Pipe()
        log = self._logs / f"worker-{one.number}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        threads = self._threads(one.device)
        process = launch.start(
            one.device,
            threads=threads,
            target=worker.main,
            args=(theirs, log, threads, self._work),
            name=f"sweep-worker-{one.number}",
        )
        theirs.close()
        one.process, one.connection = process, ours

    def _stop(self, one: _Worker, *, patience: float = 0.0) -> str:
        """End the worker's process, if there is one, after `patience` seconds at most; how it ended, in words."""
        process, connection = one.process, one.connection
        one.process = one.connection = None
        if connection is not None:
            connection.close()
        if process is None:
            return "was not there"
        process.join(patience)
        process.kill()
        process.join()
        code = process.exitcode or 0
        process.close()
        return f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"

    def _tail(self, one: _Worker, job: Job) -> str:
        for path in (log_of(job.out), self._logs / f"worker-{one.number}.log"):
            if path.exists():
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
                if lines:
                    return "\n".join(lines)
        return "(nothing in its log)"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
