"""A pool in this process that works one step at a time, always in the same order, for tests and debugging.

Each job has a thread, which runs only inside `wait`. So no two jobs run at once.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sweeps.workers import worker
from sweeps.workers.pool import Died, Job, Message, PointMessage, Work
from trainer.points import Answer, Point


class _JobKilled(BaseException):
    """Ends the thread of a killed job."""


@dataclass
class _Flight:
    """A job that has started, its thread, and the messages and answers between them."""

    job: Job
    ready: bool = True
    """False while it waits for an answer"""
    thread: threading.Thread | None = None
    answers: queue.SimpleQueue[Answer | None] = field(default_factory=queue.SimpleQueue)
    messages: queue.SimpleQueue[Message | None] = field(default_factory=queue.SimpleQueue)


class InlinePool:
    """Each `wait` runs the next job in turn up to its next point or its end, and returns that message."""

    def __init__(self, devices: Sequence[str], *, work: Work, kinds: Mapping[str, str] | None = None) -> None:
        self.devices = tuple(devices)
        self.kinds = dict(kinds or {})
        self._work = work
        self._flights: list[_Flight] = []

    def kind(self, device: str) -> str:
        return self.kinds.get(device) or device.partition(":")[0]

    def idle(self) -> list[str]:
        names = list(self.devices)
        for flight in self._flights:
            names.remove(flight.job.device)
        return names

    def start(self, job: Job) -> None:
        if job.device not in self.idle():
            raise ValueError(f"no idle worker on {job.device} for run {job.run}")
        self._flights.append(_Flight(job))

    def wait(self, timeout: float) -> list[Message]:  # no message takes time
        flight = next((flight for flight in self._flights if flight.ready), None)
        if flight is None:
            return []
        self._flights.remove(flight)
        if flight.thread is None:
            flight.thread = threading.Thread(target=self._go, args=(flight,), daemon=True)
            flight.thread.start()
        message = flight.messages.get()
        assert message is not None
        flight.ready = False
        if isinstance(message, PointMessage):
            self._flights.append(flight)
        else:
            flight.thread.join()
        return [message]

    def answer(self, run: int, answer: Answer) -> None:
        for flight in self._flights:
            if flight.job.run == run:
                flight.ready = True
                flight.answers.put(answer)

    def pause(self) -> None: ...  # between two points nothing happens here, so the next answer pauses

    def stopped(self) -> Mapping[int, int]:
        return {}

    def kill(self, run: int) -> None:
        for flight in [flight for flight in self._flights if flight.job.run == run]:
            self._flights.remove(flight)
            if flight.thread is not None:
                flight.answers.put(None)
                flight.thread.join()

    def close(self) -> None:
        for flight in list(self._flights):
            self.kill(flight.job.run)

    def _go(self, flight: _Flight) -> None:
        job = flight.job

        def report(point: Point) -> Answer:
            flight.messages.put(PointMessage(run=job.run, attempt=job.attempt, point=point))
            answer = flight.answers.get()
            if answer is None:
                raise _JobKilled
            return answer

        try:
            flight.messages.put(worker.do(self._work, job, report))
        except SystemExit as end:  # would end the process of a real worker
            text = f"the worker on {job.device} ended with exit code {end.code}"
            flight.messages.put(Died(run=job.run, attempt=job.attempt, text=text))
        except _JobKilled:
            pass
