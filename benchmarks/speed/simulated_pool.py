"""A simulated worker pool: runs follow given loss curves, and simulated seconds pass at once."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sweeps.store.records import Pruning
from sweeps.workers.pool import Finished, Job, Message, PointMessage
from trainer.config import TrainConfig
from trainer.points import Answer, Point, Result

CurveOf = Callable[[TrainConfig], Sequence[float]]
"""validation losses of a config's run at each evaluation, nats per token"""


@dataclass
class _SimulatedRun:
    job: Job
    messages: Iterator[Message]
    next_message: Message
    due: float | None
    """when the next message is sent; None: the run waits for an answer"""
    waiting_since: float = 0.0
    stopped: bool = False
    """the answer was to stop"""


class SimulatedPool:
    """A worker pool whose workers evaluate every `seconds`, by a clock that skips the time in which nothing happens."""

    def __init__(self, devices: Sequence[str], *, curve_of: CurveOf, seconds: float) -> None:
        self.devices = tuple(devices)
        self.answers: list[float] = []
        """seconds that each point waited for an answer"""
        self.jobs: list[float] = []
        """seconds from the end of each run to the next start on its worker"""
        self.reports = 0
        self.began: tuple[float, float] | None = None
        """wall time and CPU time when the driver first asked for idle workers"""
        self.simulation_seconds = 0.0
        """real seconds that the simulation itself has taken"""
        self._curve_of, self._seconds, self._skipped = curve_of, seconds, 0.0
        self._runs: dict[int, _SimulatedRun] = {}
        self._idle_since: list[float] = []

    def clock(self) -> float:
        """Return real seconds plus the seconds skipped."""
        return time.perf_counter() + self._skipped

    @contextlib.contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        """Keep the time spent here off the clock."""
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        self.simulation_seconds += seconds
        self._skipped -= seconds

    def idle(self) -> list[str]:
        if self.began is None:
            self.began = time.perf_counter(), time.process_time()
        names = list(self.devices)
        for run in self._runs.values():
            names.remove(run.job.device)
        return names

    def start(self, job: Job) -> None:
        if self._idle_since:
            self.jobs.append(self.clock() - self._idle_since.pop(0))
        with self._clock_stopped():
            messages = self._messages(job)
            self._runs[job.run] = _SimulatedRun(job, messages, next(messages), due=None)
        self._runs[job.run].due = self.clock() + self._seconds

    def _messages(self, job: Job) -> Iterator[Message]:
        """Yield a run's messages; after each point, the answer is known before the next message is made."""
        config = job.config
        points: list[Point] = []
        losses = self._curve_of(config)
        for number, loss in enumerate(losses):
            step = number * config.eval_interval
            points.append(simulated_point(config, step, loss, seconds=(number + 1) * self._seconds))
            yield PointMessage(run=job.run, attempt=job.attempt, point=points[-1])
            if self._runs[job.run].stopped:
                result = Result(outcome="stopped", step=step, points=tuple(points), seconds=points[-1].seconds)
                yield Finished(run=job.run, attempt=job.attempt, result=result)
                return
        result = Result(
            outcome="complete",
            step=config.max_iters,
            points=tuple(points),
            val_loss=losses[-1],
            val_se=0.01,
            seconds=points[-1].seconds,
        )
        yield Finished(run=job.run, attempt=job.attempt, result=result)

    def wait(self, timeout: float) -> list[Message]:
        now = self.clock()
        next_due = min((run.due for run in self._runs.values() if run.due is not None), default=math.inf)
        self._skipped += max(0.0, min(next_due, now + timeout) - now)
        now = self.clock()
        senders = sorted(
            (run.due, run_id) for run_id, run in self._runs.items() if run.due is not None and run.due <= now
        )
        messages = []
        for due, run_id in senders:
            run = self._runs[run_id]
            messages.append(run.next_message)
            if isinstance(run.next_message, Finished):
                self._idle_since.append(due)
                del self._runs[run_id]
            else:
                run.waiting_since, run.due = due, None
        return messages

    def pause(self) -> None: ...  # nobody interrupts it

    def answer(self, run: int, answer: Answer) -> None:
        simulated = self._runs[run]
        self.answers.append(self.clock() - simulated.waiting_since)
        self.reports += 1
        if answer is not Answer.GO:
            simulated.stopped = True
        with self._clock_stopped():
            simulated.next_message = next(simulated.messages)
        ended = isinstance(simulated.next_message, Finished)
        simulated.due = self.clock() + (0.0 if ended else self._seconds)

    def kind(self, device: str) -> str:
        return device.partition(":")[0]

    def stopped(self) -> Mapping[int, int]:
        return {}

    def kill(self, run: int) -> None:
        raise AssertionError(f"run {run} was killed, but simulated workers are never silent for long")

    def close(self) -> None:
        self._runs.clear()


def simulated_point(config: TrainConfig, step: int, loss: float, *, seconds: float) -> Point:
    """Return the point of an evaluation, with `loss` on both splits."""
    return Point(
        step=step,
        tokens=step * config.tokens_per_iter,
        train_loss=loss,
        train_se=0.01,
        val_loss=loss,
        val_se=0.01,
        lr=config.learning_rate,
        grad_norm=None if step == 0 else 1.0,
        tokens_per_s=None if step == 0 else 1e4,
        seconds=seconds,
    )


def simulated_decision(last: Point, *, evaluation: int, predicted: float) -> Pruning:
    """Return what the plateau rule would have noted when it stopped a trial at its last point."""
    return Pruning(
        rule="plateau",
        reason="dominated",
        evaluation=evaluation,
        step=last.step,
        val_loss=last.val_loss,
        sentinel=False,
        completed=5,
        best=predicted,
        predicted=predicted,
        scale=0.05,
        degrees=10.0,
        low=predicted,
        high=predicted,
        chance=0.0,
    )
