"""The worker's process: jobs come in through a pipe, points and results go out through it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from sweeps import signals
from sweeps.paths import log_of
from sweeps.workers.pool import PULSE_SECONDS, Crashed, Finished, Job, PointMessage, Pulse, Report, Work
from trainer.atomic import disk_trouble
from trainer.config import TrainConfig
from trainer.errors import UserError
from trainer.points import Answer, Point, Result

if TYPE_CHECKING:
    from trainer.data.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """Trains a job with trainer.run.loop, in micro-batches that fit. Only the worker imports the loop, not the driver.

    `checkpoint_seconds`: the least time between a run's checkpoints. A killed worker loses at most that and an
    evaluation interval. Writing half a gigabyte at each evaluation would cost more than it saves.
    """

    checkpoint_seconds: float = 30.0

    def __call__(self, job: Job, report: Report) -> Result:
        from trainer.machine.microbatch import Infeasible
        from trainer.run import checkpoint
        from trainer.run.loop import train

        # The worker sees one GPU, so the config says `cuda` on every device. A sweep keeps evaluations only: reading
        # each step's loss would stall the GPU's queue.
        kind = job.device.partition(":")[0]
        unfitted = job.config.replace(device=kind, log_interval=job.config.eval_interval)
        try:
            config = fitted(unfitted, job)
        except Infeasible as error:
            return Result(outcome="infeasible", step=0, points=(), reason=f"out of memory: {error}")
        data = _dataset(job.data)
        mended = checkpoint.mend(job.out)
        if mended:
            print(mended, flush=True)
        result = train(
            config,
            data,
            report,
            out=job.out,
            origin=job.origin,
            checkpoint_seconds=self.checkpoint_seconds,
            pausing=_pausing,
        )
        return dataclasses.replace(
            result,
            outcome="oom" if result.outcome == "infeasible" else result.outcome,
            batch_size=config.batch_size,
            notes=(mended,) if mended else (),
        )


def fitted(config: TrainConfig, job: Job) -> TrainConfig:
    """Return the run split into micro-batches that fit into the free memory. Raises microbatch.Infeasible."""
    from trainer.machine import device, microbatch
    from trainer.run import probe

    where = device.resolve(config.device)
    device.release()
    memory = device.memory_of(where)
    free = microbatch.share(memory.free, memory.total, job.sharers)
    mixed = device.precision(where, config.dtype) is not None
    kind = where.partition(":")[0]
    splits = microbatch.fitting(config, kind=kind, mixed=mixed, free=free, largest=job.largest)
    if kind == "cpu":
        return microbatch.as_asked(splits, config)
    card = device.card_name(where)
    return microbatch.tried_out(splits, lambda candidate: probe.measure(candidate, job.data, card=card), free=free)


@functools.cache
def _dataset(path: Path) -> Dataset:
    from trainer.data.dataset import open_dataset

    return open_dataset(path)


def main(connection: Connection, log: Path, threads: int, work: Work, environment: Mapping[str, str]) -> None:
    """Run jobs until the driver closes the pipe or is gone.

    `log`: where output outside of runs goes. `threads`: of torch. `environment`: replaces the environment inherited
    from the fork server.
    """
    os.environ.clear()
    os.environ.update(environment)
    _handle_signals()
    print_to(log)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    warm(work, threads=threads)
    while True:
        try:
            job: Job = connection.recv()
            _Pulses.connection, _Pulses.job, _Pulses.sent = connection, job, time.monotonic()
            connection.send(do(functools.partial(logged, work), job, functools.partial(_ask, connection, job)))
            print_to(log)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return  # the driver has closed the pipe


def warm(work: Work, *, threads: int) -> None:
    """Import what training takes, and give torch its threads."""
    if isinstance(work, TrainJob):
        importlib.import_module("torch").set_num_threads(threads)
        importlib.import_module("trainer.run.loop")


class _Pause:
    """Whether the driver has asked this process to pause. It asks once, before it ends."""

    requested = False


class _Pulses:
    """Where the pulses of the job go that this process is doing; nowhere outside of a worker's process."""

    connection: Connection | None = None
    job: Job | None = None
    sent = 0.0


def _pausing() -> bool:
    """Tell the driver that the run goes on, and return whether the driver has asked it to pause."""
    if _Pulses.connection is not None and _Pulses.job is not None:
        now = time.monotonic()
        if now - _Pulses.sent >= PULSE_SECONDS:
            _Pulses.sent = now
            with contextlib.suppress(OSError):  # the driver is gone, as the next point says
                _Pulses.connection.send(Pulse(run=_Pulses.job.run, attempt=_Pulses.job.attempt))
    return _Pause.requested


def _handle_signals() -> None:
    """Leave the signals of a terminal or a service manager to the driver, and the driver's own for the training loop.

    Ctrl-C is ignored by all of a worker's children as well. SIGTERM is not: a child may be ended with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in set(signals.ENDING) - {signal.SIGINT}:
        signal.signal(number, _leave_to_the_driver)
    if signals.PAUSE is not None:
        signal.signal(signals.PAUSE, _request_pause)
        signal.siginterrupt(signals.PAUSE, False)  # libraries may not expect an interrupted system call
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.OF_WORKERS)


def _leave_to_the_driver(number: int, frame: FrameType | None) -> None: ...


def _request_pause(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # what signal.signal calls
    request_pause()


def request_pause() -> None:
    """Let the process's job pause at its next step."""
    _Pause.requested = True


def do(work: Work, job: Job, report: Report) -> Finished | Crashed:
    """Run the job and turn an exception into a message."""
    try:
        return Finished(run=job.run, attempt=job.attempt, result=work(job, report))
    except UserError as error:
        return Crashed(run=job.run, attempt=job.attempt, text=str(error), user_error=True)
    except DriverGone:
        raise
    except OSError as error:
        trouble = disk_trouble(error, at=job.out)
        text = trouble or traceback.format_exc()
        return Crashed(run=job.run, attempt=job.attempt, text=text, user_error=bool(trouble))
    except Exception:  # noqa: BLE001  # the process boundary: the driver decides whether to retry
        return Crashed(run=job.run, attempt=job.attempt, text=traceback.format_exc(), user_error=False)


def logged(work: Work, job: Job, report: Report) -> Result:
    """Do the work with all that is printed in the run's log."""
    print_to(log_of(job.out))
    return work(job, report)


class DriverGone(EOFError):
    """The pipe to the driver is closed."""


def _ask(connection: Connection, job: Job, point: Point) -> Answer:
    try:
        connection.send(PointMessage(run=job.run, attempt=job.attempt, point=point))
        answer: Answer = connection.recv()
    except (EOFError, BrokenPipeError, ConnectionResetError) as error:
        raise DriverGone from error
    return answer


def _end_with_driver() -> None:
    """End when the driver is killed, so that a resumed sweep doesn't find this worker writing into its runs."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def print_to(path: Path) -> None:
    """Append everything that this process prints, C libraries included, to a file."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # a full disk: what was printed is lost, the run is not
            stream.flush()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
