"""Worker processes, one per device, kept warm between jobs and replaced when they die.

torch is imported and the data opened once per worker; once per trial, that would cost 3.5 s per trial on a CPU. On a
CPU, one process per core with one thread each trains 1.14 to 1.49 times as fast as one process with all cores.
"""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from sweeps import signals
from sweeps.paths import log_of, tail_of
from sweeps.workers import launch
from sweeps.workers.pool import Crashed, Died, Finished, Job, Message, Work
from sweeps.workers.worker import TrainJob, main
from trainer.machine.process import STATE, stat
from trainer.points import Answer

_PATIENCE = 5.0
"""seconds that a process has to end by itself"""


@dataclass
class _Worker:
    """One process and its job."""

    number: int
    device: str
    process: BaseProcess | None = None
    connection: Connection | None = None
    job: Job | None = None


class ProcessPool:
    """A `Pool` of processes, one per device. A process starts with its first job and is replaced at once if it dies.

    A CPU worker has one thread, however many cores are idle: with more threads, sums would have another order, and a
    trial's result would depend on the number of workers. Workers of cards share `cores`. A process writes its output to
    the run's log, and between runs to a log in `logs`.
    """

    def __init__(
        self,
        devices: Sequence[str],
        *,
        logs: Path,
        cores: int,
        work: Work | None = None,
        kinds: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare the workers. `kinds`: the names of cards and processors by device, else those of the devices."""
        if not devices:
            raise ValueError("a pool needs at least one device")
        self._workers = [_Worker(number, device) for number, device in enumerate(devices)]
        self._logs = logs
        self._cores = cores
        self._work = work or TrainJob()
        self._kinds = kinds or {}

    def _threads(self, device: str) -> int:
        return 1 if device == "cpu" else max(1, self._cores // len(self._workers))

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(worker.device for worker in self._workers)

    def kind(self, device: str) -> str:
        return self._kinds.get(device) or device.partition(":")[0]

    def idle(self) -> list[str]:
        return [worker.device for worker in self._workers if worker.job is None]

    def start(self, job: Job) -> None:
        free = [worker for worker in self._workers if worker.job is None and worker.device == job.device]
        if not free:
            raise ValueError(f"no idle worker on {job.device} for run {job.run}")
        worker = free[0]
        if worker.process is None or not worker.process.is_alive():
            self._replace(worker)
        worker.job = job
        job.out.mkdir(parents=True, exist_ok=True)
        assert worker.connection is not None
        # a broken pipe means a dead worker, which `wait` reports
        with contextlib.suppress(OSError):
            worker.connection.send(job)

    def wait(self, timeout: float) -> list[Message]:
        busy = [worker for worker in self._workers if worker.job is not None]
        connections = [worker.connection for worker in busy if worker.connection is not None]
        if connections:
            multiprocessing.connection.wait(connections, timeout)
        messages: list[Message] = []
        for worker in busy:
            messages.extend(self._heard(worker))
        return messages

    def _heard(self, worker: _Worker) -> Iterator[Message]:
        """Receive what a worker has sent. A closed pipe means that it died."""
        assert worker.connection is not None
        try:
            while worker.job is not None and worker.connection.poll():
                message: Message = worker.connection.recv()
                if (message.run, message.attempt) != (worker.job.run, worker.job.attempt):
                    continue  # from an earlier launch
                if isinstance(message, Finished | Crashed):
                    self._release(worker, message)
                yield message
        except (EOFError, OSError):
            job = worker.job
            assert job is not None
            how = self._stop(worker, patience=_PATIENCE)
            worker.job = None
            self._replace(worker)
            text = f"the worker on {worker.device} {how}; the end of its log:\n{self._tail(worker, job)}"
            yield Died(run=job.run, attempt=job.attempt, text=text)

    def _release(self, worker: _Worker, message: Message) -> None:
        worker.job = None
        if isinstance(message, Finished) and message.result.outcome == "oom" and worker.device != "cpu":
            # a process that ran out of GPU memory keeps some of it until it ends
            self._stop(worker)
            self._replace(worker)

    def answer(self, run: int, answer: Answer) -> None:
        for worker in self._workers:
            if worker.job is not None and worker.job.run == run and worker.connection is not None:
                with contextlib.suppress(OSError):  # dead: `wait` reports it
                    worker.connection.send(answer)

    def pause(self) -> None:
        if signals.PAUSE is None:
            return
        for worker in self._workers:
            process = worker.process
            if process is not None and process.pid is not None and process.is_alive():
                with contextlib.suppress(ProcessLookupError):  # it has just died: `wait` reports it
                    os.kill(process.pid, signals.PAUSE)

    def stopped(self) -> Mapping[int, int]:
        return {
            worker.job.run: worker.process.pid
            for worker in self._workers
            if worker.job is not None and worker.process is not None and worker.process.pid is not None
            if _is_stopped(worker.process.pid)
        }

    def kill(self, run: int) -> None:
        for worker in self._workers:
            if worker.job is not None and worker.job.run == run:
                self._stop(worker)
                worker.job = None
                self._replace(worker)

    def close(self) -> None:
        for worker in self._workers:
            if worker.job is None and worker.connection is not None:
                worker.connection.close()  # an idle worker ends by itself when its pipe closes, all of them at once
        for worker in self._workers:
            self._stop(worker, patience=_PATIENCE if worker.job is None else 0.0)
            worker.job = None

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _replace(self, worker: _Worker) -> None:
        """Start a fresh process in the worker's place."""
        self._stop(worker)
        ours, theirs = multiprocessing.Pipe()
        log = self._logs / f"worker-{worker.number}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        threads = self._threads(worker.device)
        process = launch.start(
            worker.device,
            threads=threads,
            target=main,
            args=(theirs, log, threads, self._work),
            name=f"sweep-worker-{worker.number}",
        )
        theirs.close()
        worker.process, worker.connection = process, ours

    def _stop(self, worker: _Worker, *, patience: float = 0.0) -> str:
        """End the process, if there is one, after at most `patience` seconds. Returns how it ended, in words."""
        process, connection = worker.process, worker.connection
        worker.process = worker.connection = None
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

    def _tail(self, worker: _Worker, job: Job) -> str:
        return end_of(log_of(job.out), self._logs / f"worker-{worker.number}.log")


def end_of(*logs: Path) -> str:
    """Return the last lines of the first of these logs that has any."""
    return next(filter(None, map(tail_of, logs)), "(nothing in its log)")


def _is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal or a debugger; False without a /proc."""
    try:
        return stat(pid)[STATE] in ("T", "t")
    except OSError:
        return False


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
