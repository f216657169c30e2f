"""The loop of a sweep: it starts runs on idle workers, stores their points, prunes them and records how they end.

Ctrl-C, the study's deadline and crashes of workers are handled here. There is no barrier between phases before the
last: an idle worker always gets the next run. Only the confirm phase waits, until the best trial is known.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sweeps import signals
from sweeps.engine import kinds, progress
from sweeps.engine.agenda import Agenda, Sampled
from sweeps.engine.groundwork import Groundwork
from sweeps.engine.kinds import Place
from sweeps.engine.ledger import Flight, Ledger
from sweeps.engine.pilot import PilotLength
from sweeps.engine.planning.workload import workload
from sweeps.engine.progress import Observer, Standing, Summary
from sweeps.paths import StudyPaths, log_of, tail_of
from sweeps.store.records import FALLBACKS, Outcome, Results, Run, counts
from sweeps.store.store import Store
from sweeps.study.pilot_runs import at_length
from sweeps.workers.pool import Crashed, Died, Finished, Job, Message, PointMessage, Pool, Pulse
from trainer.data.dataset import Dataset, file_states
from trainer.errors import DataError, UserError
from trainer.machine.microbatch import Limits
from trainer.points import Answer, Point, Result

NOTE_SECONDS = 10.0
"""between writes of the time taken while no points arrive; a killed sweep loses at most this much of it"""
RETRIES = 2
"""further launches of a run in one session, after crashes of its worker"""


class SameCause(UserError):
    """Run after run has failed from one cause."""


class WorkerError(Exception):
    """Workers failed before any run had trained, so the trials are not the cause."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The time that a study has taken, over all its sessions."""

    time: Callable[[], float]
    """seconds, from any start"""
    began: float
    """start of this session, on the same clock"""
    before: float
    """seconds that earlier sessions took"""

    @property
    def seconds(self) -> float:
        """Seconds that the study has taken so far."""
        return self.before + self.time() - self.began


class Runner:
    """One session of a sweep. The caller closes the pool.

    `interrupts` holds the signals received so far that ask the session to end. After one, each run pauses before its
    next step; after two, all runs stop at once. Either way, running the study again resumes it.
    """

    def __init__(
        self,
        stored: Results,
        store: Store,
        pool: Pool,
        *,
        paths: StudyPaths,
        dataset: Dataset,
        agenda: Agenda | Groundwork | PilotLength,
        observer: Observer,
        clock: Clock,
        interrupts: Sequence[signal.Signals],
    ) -> None:
        self.study, self.pool, self.paths, self.dataset = stored.study, pool, paths, dataset
        self.data, self.confirming, self.going_on = stored.data, stored.command("confirm"), stored.command("run")
        self.observer, self.clock, self.interrupts = observer, clock, interrupts
        self.asked_to_pause = False
        self.ledger = Ledger(stored, store, paths, dataset)
        self.agenda = agenda
        length = at_length(self.study, agenda.baseline.max_iters) if isinstance(agenda, PilotLength) else self.study
        self.work = workload(length, vocab_size=stored.data.vocab_size)
        self.limits = Limits()
        self.fallbacks = stored.provenance.get(FALLBACKS, "")
        """what workers do the plain way, known so far"""
        self.flights: dict[int, Flight] = {}
        self.ready: deque[Flight] = deque()
        """runs that wait for a worker to resume them"""
        self.started = 0
        self.noted = clock.time()
        self.ticked = clock.time()
        self.listened = 0.0
        """seconds of this session in which the driver could hear its workers"""
        self.longest_gap = 0.0
        """seconds between two messages of a worker"""
        self.causes: list[str] = []
        """why the runs that ended in this session failed, in their order; "" for one that didn't"""
        self.files = file_states(dataset)
        self.standing: tuple[int, Standing] | None = None
        """the standing, after the value of `ledger.outcomes_changed` for which it was computed"""
        observer.begun(self.study, self.agenda.baseline, stored.runs)

    def run(self) -> Summary:
        """Run or resume the study until its end, its deadline or an interrupt.

        Raises UserError for a user's mistake that a worker reports, WorkerError if workers fail before any run trains.
        """
        self._resume_unfinished()
        self._note_what_is_left_out()
        while True:
            if len(self.interrupts) > 1:
                self._stop_now()
                break
            if self.interrupts and not self.asked_to_pause:
                self._ask_to_pause(signals.in_words(self.interrupts[0]))
            if not self._ending():
                self._fill()
            if not self.flights:
                break
            messages = self.pool.wait(progress.TICK_SECONDS)
            self._listen()
            self._handle(messages)
            self._retry_silent_runs()
            self._show_progress()
        return self._summary()

    @property
    def runs(self) -> Collection[Run]:
        return self.ledger.runs.values()

    def _resume_unfinished(self) -> None:
        """Queue the runs that earlier sessions left unfinished, each under its trial's number."""
        for asked, run in self.ledger.unfinished():
            if run is None:
                proposal = self.agenda.proposal(asked.key, self.runs)
                if begun := self.ledger.begin(asked, proposal):
                    self.ready.append(begun)
            elif flight := self.ledger.resume(asked, run):
                self.ready.append(flight)
        for run in self.ledger.going_on({flight.run.id for flight in self.ready}):
            self._go_on(run)
        self.ledger.drop_checkpoints()

    def _go_on(self, run: Run) -> None:
        """Queue a run whose trial has ended in Optuna."""
        flight = self.ledger.resume(None, run)
        assert flight is not None
        self.ready.append(flight)

    def _note_what_is_left_out(self) -> None:
        study = self.study
        if self.agenda.left_out:
            self.observer.note(
                f"trials={study.trials} leaves out {self.agenda.left_out} of the candidates and single-knob trials, "
                "and the sampler gets none; raise trials"
            )
        if self.runs and not self.ready and self.agenda.is_empty(self.runs):
            self.observer.note(
                f"study {study.name!r} is finished: {len(self.runs)} runs; to continue, raise trials (now "
                f"{study.trials}) or baseline_seeds, or run `{self.confirming}` with more seeds"
            )

    def _ending(self) -> bool:
        return bool(self.interrupts) or self._hours_are_over()

    def _hours_are_over(self) -> bool:
        return self.study.hours is not None and self.clock.seconds >= self.study.hours * 3600

    # starting runs

    def _fill(self) -> None:
        """Give every idle worker a run that its kind may take: one that waits to be resumed, or else the next."""
        idle = self.pool.idle()
        here = frozenset(map(self.pool.kind, self.pool.devices))
        for kind in dict.fromkeys(map(self.pool.kind, idle)):
            place = Place(kind=kind, here=here)
            for device in (device for device in idle if self.pool.kind(device) == kind):
                flight = self._to_resume(place) or self._next(place)
                if flight is None:
                    break
                self._launch(flight, device)

    def _to_resume(self, place: Place) -> Flight | None:
        """Return the first run that waits to be resumed and may go on at this place."""
        flight = next((flight for flight in self.ready if place.takes_again(flight.run, self.runs)), None)
        if flight is not None:
            self.ready.remove(flight)
        return flight

    def _next(self, place: Place) -> Flight | None:
        queued = self.agenda.has_room(self.runs) and self.ledger.queued()
        match self.agenda.next(self.runs, queued=queued, place=place):
            case None:
                return None
            case Sampled.TRIAL:
                return self.ledger.ask_sampler()
            case Run() as halted:
                return self.ledger.resume(None, halted)
            case proposal:
                return self.ledger.ask(proposal)

    def _launch(self, flight: Flight, device: str) -> None:
        flight.heard, flight.spoken, flight.pulsing = self.listened, False, False
        self.started += flight.failures == 0
        kind = self.pool.kind(device)
        self.ledger.launch(flight, device=device, kind=kind)
        if note := kinds.note_on_launch(flight.run, self.runs, kind=kind):
            self.observer.note(note)
        self.flights[flight.run.id] = flight
        job = Job(
            run=flight.run.id,
            attempt=flight.attempt,
            config=flight.run.config,
            data=self.dataset.path,
            out=self.paths.run(flight.run.id),
            device=device,
            largest=self.limits.of(flight.run.config, device),
            sharers=self.pool.devices.count(device),
            origin=self.paths.origin if flight.run.config.origin else None,
        )
        self.pool.start(job)
        self.observer.started(flight.run)

    # messages of workers

    def _handle(self, messages: list[Message]) -> None:
        if messages:
            self._check_data()
        current = [
            (flight, message)
            for message in messages
            if (flight := self.flights.get(message.run)) is not None and flight.attempt == message.attempt
        ]
        new = [
            (flight, message.point)
            for flight, message in current
            if isinstance(message, PointMessage) and message.point.step > flight.last_step
        ]
        if new or self.clock.time() - self.noted > NOTE_SECONDS:
            self.noted = self.clock.time()
            self.ledger.add_points(new, seconds=self.clock.seconds)
        for flight, message in current:
            if flight.spoken:
                self.longest_gap = max(self.longest_gap, self.listened - flight.heard)
            flight.heard, flight.spoken = self.listened, True
            match message:
                case Pulse():
                    flight.pulsing = True
                case PointMessage(point=point):
                    self.pool.answer(flight.run.id, self._answer(flight, point))
                case Finished(result=result):
                    self._finish(flight, result)
                case Crashed(text=text, user_error=True):
                    self.ledger.note("crashed", text, flight.run)
                    raise UserError(f"{flight.run.label}: {text}")
                case Crashed(text=text) | Died(text=text):
                    self._retry(flight, "crashed" if isinstance(message, Crashed) else "died", text)

    def _check_data(self) -> None:
        """Raise DataError if a file of the data has changed. What was trained on it meanwhile is trained again."""
        now = file_states(self.dataset)
        if now == self.files:
            return
        for flight in self.flights.values():
            self.pool.kill(flight.run.id)
            self.paths.drop_checkpoint(flight.run.id)
        changed = ", ".join(str(path) for path in now if now[path] != self.files[path])
        raise DataError(
            f"{changed}: has changed while the study runs, and trials on other data can't be compared; put the file "
            "back as it was and run again: the study goes on"
        )

    def _answer(self, flight: Flight, point: Point) -> Answer:
        """Record a point and return the answer. A resumed run replays its history, so a point may be stored already."""
        if point.step > flight.last_step:
            self.ledger.report(flight, point)
            self.observer.point(flight.run, point)
        if self._ending():
            return Answer.PAUSE
        flight.halting = self.agenda.halts(flight.run, self.runs)
        if flight.halting:
            return Answer.PAUSE
        # stored points before the last were answered with GO, or the run would have ended there
        if flight.run.origin != "sampler" or not flight.last_step <= point.step < flight.run.config.max_iters:
            return Answer.GO
        earlier_decision = flight.run.pruning
        pruning = self.ledger.decide(flight)
        if pruning is not None and not pruning.sentinel:
            return Answer.STOP
        if pruning is not None and earlier_decision is None:
            self.observer.note(f"{flight.run.label} goes on as a sentinel; {pruning.why}")
        return Answer.GO

    def _finish(self, flight: Flight, result: Result) -> None:
        del self.flights[flight.run.id]
        for text in result.fallbacks:
            if text not in self.fallbacks:
                self.fallbacks += f"; {text}"
                self.ledger.fall_back(text, flight.run)
                self.observer.note(f"{flight.run.label} on {flight.run.device}: {text}")
        for text in result.notes:
            self.ledger.note("checkpoint", text, flight.run)
            self.observer.note(f"{flight.run.label}: {text}")
        match result.outcome:
            case "paused" if flight.halting:
                self._end(flight, Outcome.HALTED, flight.halting, result)
            case "paused" if self._hours_are_over():
                self._end(flight, Outcome.TRUNCATED, "the study's hours were over", result)
            case "paused":
                self.ledger.pause(flight, seconds=result.seconds)
                self.observer.ended(flight.run)
            case "oom":
                self._split_further(flight, result)
            case "stopped":
                assert flight.run.pruning is not None
                self._end(flight, Outcome.PRUNED, flight.run.pruning.why, result)
            case ended:
                self._end(flight, Outcome(ended), result.reason, result)

    def _split_further(self, flight: Flight, result: Result) -> None:
        """Resume in smaller micro-batches, if there are any, because the trial may still fit into memory."""
        run, size = flight.run, result.batch_size
        assert size is not None
        if not self.limits.ran_out(run.config, run.device, batch_size=size):
            self._end(flight, Outcome.INFEASIBLE, f"{result.reason} (with a micro-batch of {size})", result)
            return
        smaller = self.limits.of(run.config, run.device)
        self.ledger.note("oom", f"micro-batch {size}: {result.reason}", run)
        self.observer.note(f"{run.label}: out of memory with micro-batches of {size}; it continues with {smaller}")
        self.ready.appendleft(flight)

    def _retry(self, flight: Flight, kind: str, text: str) -> None:
        """Resume the run from its checkpoint, at most RETRIES times, because a crash need not be the trial's fault."""
        del self.flights[flight.run.id]
        self.ledger.note(kind, f"attempt {flight.attempt}: {text}", flight.run)
        flight.failures += 1
        if flight.failures <= RETRIES:
            self.observer.note(f"{flight.run.label}: its worker {kind}; the run resumes from its checkpoint")
            self.ready.appendleft(flight)
            return
        lines = text.strip().splitlines()  # the cause is the last line of a traceback, but the first line about a death
        log = log_of(self.paths.run(flight.run.id))
        cause = lines[-1 if kind == "crashed" else 0]
        reason = f"its worker {kind} {flight.failures} times; the last time: {cause}"
        reason += f"; its log: {log.relative_to(self.paths.root)}"
        last = flight.points[-1] if flight.points else None
        result = Result(
            outcome="failed",
            step=last.step if last else 0,
            points=(),
            reason=reason,
            seconds=last.seconds if last else 0.0,
        )
        self.ledger.note("log", f"the end of {log}:\n{tail_of(log)}", flight.run)
        self._end(flight, Outcome.FAILED, reason, result, text=text)

    def _end(self, flight: Flight, outcome: Outcome, reason: str, result: Result, *, text: str = "") -> None:
        """Record how a run ended. `text`: what is known of a failure beside the reason.

        Raises WorkerError where none has trained yet, and SameCause where many in a row have failed from one cause.
        """
        self.ledger.end(flight, outcome, reason, result)
        self.observer.ended(flight.run)
        if outcome == Outcome.FAILED:
            self.observer.note(f"{flight.run.label}: failed, {reason}")
            if not any(run.points for run in self.runs):
                raise WorkerError(f"no run of this study has trained yet, and this one {reason}\n{text}")
        self.causes.append(progress.cause_of(flight.run))
        if progress.alike(self.causes) >= progress.MOST_ALIKE:
            message = f"{progress.MOST_ALIKE} runs in a row {outcome}, the last: {reason}"
            self.ledger.note("stopped", message)
            raise SameCause(f"{message}; mend that, and `{self.going_on}` goes on with the study")

    # silent workers, and the end

    def _listen(self) -> None:
        """Count the tick. For a worker that is stopped it doesn't count: it hasn't fallen silent."""
        now = self.clock.time()
        tick, self.ticked = progress.listened(now - self.ticked), now
        self.listened += tick
        stopped = self.pool.stopped()
        for run, flight in self.flights.items():
            if run in stopped:
                flight.heard += tick
                if not flight.stopped:
                    pid = stopped[run]
                    self.observer.note(f"{flight.run.label}: its worker is stopped; `kill -CONT {pid}` lets it go on")
            flight.stopped = run in stopped

    def _retry_silent_runs(self) -> None:
        for flight in list(self.flights.values()):
            silent = self.listened - flight.heard
            limit = progress.stall_limit(
                self.longest_gap, device=flight.run.device, spoken=flight.spoken, pulsing=flight.pulsing
            )
            if silent > limit:
                self.pool.kill(flight.run.id)
                self._retry(flight, "hung", f"no message for {silent:.0f} s (limit {limit:.0f} s)")

    def _show_progress(self) -> None:
        changes = self.ledger.outcomes_changed
        if self.standing is None or self.standing[0] != changes:
            planned = self.agenda.planned(self.runs)
            self.standing = changes, Standing.of(self.runs, self.study, self.data, self.work, planned=planned)
        in_flight = tuple(flight.run for flight in self.flights.values())
        workers = len(self.pool.devices)
        standing = self.standing[1]
        self.observer.progress(standing.now(self.ledger.runs, in_flight, seconds=self.clock.seconds, workers=workers))

    def _ask_to_pause(self, sender: str) -> None:
        self.observer.note(f"interrupted by {sender}: runs pause at their next step; {sender} again stops them now")
        self.pool.pause()
        self.asked_to_pause = True

    def _stop_now(self) -> None:
        self.pool.close()
        self.flights.clear()

    def _summary(self) -> Summary:
        interrupted = self.interrupts[0] if self.interrupts else None
        left = bool(self.ready) or not self.agenda.is_empty(self.runs) or any(run.unfinished for run in self.runs)
        truncated = left and interrupted is None and self._hours_are_over()
        if interrupted is not None:
            self.ledger.note("interrupted", f"by {signals.in_words(interrupted)}")
        if truncated:
            self.ledger.note("truncated", f"hours: {self.study.hours:g} are over")
        self.ledger.close(seconds=self.clock.seconds)
        return Summary(
            finished=not left,
            interrupted=interrupted,
            truncated=truncated,
            counts=counts(self.runs),
            started=self.started,
            seconds=self.clock.seconds,
        )
