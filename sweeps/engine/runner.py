"""The only loop: ask → start → points → report and prune → tell, until the study is finished or told to end.

There is no barrier between phases before the last: an idle worker gets the next of the baseline's seeds, the
candidates, the star and the sampler's trials; what confirms the best waits until it is known. Everything that a
decision rests on is written down before the next one, in an order that lets another process go on from any moment this
one is killed at: points before reports, our outcome before Optuna's.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sweeps.engine import progress
from sweeps.engine.agenda import Agenda, Flight
from sweeps.engine.opening import open_study
from sweeps.engine.planning.measure import fit_horizon
from sweeps.engine.progress import Observer, Progress, Summary
from sweeps.paths import StudyPaths
from sweeps.store import records
from sweeps.store.records import Outcome, Results, Run
from sweeps.store.store import Store
from sweeps.study.study import Study
from sweeps.workers.pool import Crashed, Died, Finished, Job, Message, PointMessage, Pool
from trainer.data.dataset import Dataset
from trainer.errors import UserError
from trainer.machine.microbatch import Limits
from trainer.points import Answer, Point, Result

TICK_SECONDS = 0.5
NOTE_SECONDS = 10.0
"""between notes of the time taken, while there are no points; a killed sweep forgets no more"""
RETRIES = 2
"""launches of a run beyond the first, in one session, after a crash of its worker"""


class WorkerError(Exception):
    """Workers fail before they have trained anything: it isn't the trials."""


def run(
    study: Study,
    store: Store,
    pool: Pool,
    *,
    paths: StudyPaths,
    dataset: Dataset,
    observer: Observer,
    estimate: Callable[[Study], Mapping[str, str]] = lambda _: {},
    clock: Callable[[], float] = time.monotonic,
    interrupted: Callable[[], int] = lambda: 0,
) -> Summary:
    """Run the study, or go on with it, to its end, its deadline or an interrupt; the pool stays the caller's to close.

    `estimate` says what a new study will take, to be kept with it. `clock` counts seconds; `interrupted` says how many
    interrupts there were: at one each run pauses at its next evaluation, at two all stop now. Either way the study can
    be resumed by running it again.

    Raises StoreBusy, StudyChanged, StoreError, SpecError for a horizon of too few minutes, and what a worker says is
    the user's mistake; WorkerError or MeasuringError where workers die before they train.
    """
    with store.lock(study.name):
        began = clock()
        fit = functools.partial(
            fit_horizon, pool=pool, dataset=dataset, folder=paths.measuring, say=observer.note, interrupted=interrupted
        )
        stored = open_study(study, store, dataset=dataset, devices=pool.devices, fit=fit, estimate=estimate)
        return _Sweep(stored, store, pool, paths, dataset, observer, clock, interrupted, began).go()


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """What of a sweep's progress is the same until a run begins or ends."""

    best: Run | None
    counts: Mapping[str, int]
    planned: int
    mean_seconds: float | None
    unfinished: tuple[int, ...]
    """ids of the runs that have begun and not ended"""
    over: int
    """runs that have"""


class _Sweep:
    def __init__(
        self,
        stored: Results,
        store: Store,
        pool: Pool,
        paths: StudyPaths,
        dataset: Dataset,
        observer: Observer,
        clock: Callable[[], float],
        interrupted: Callable[[], int],
        began: float,
    ) -> None:
        study = stored.study
        self.study, self.store, self.pool, self.paths = study, store, pool, paths
        self.dataset, self.observer, self.clock, self.interrupted = dataset, observer, clock, interrupted
        self.began = self.noted = began
        self.standing: _Standing | None = None
        """None: a run has begun or ended since"""
        self.flights: dict[int, Flight] = {}
        self.ready: deque[Flight] = deque()
        self.started = 0
        self.limits = Limits()
        self.seconds_before = stored.seconds
        self.runs = {run.id: run for run in stored.runs}
        self.longest_gap = max((gap for run in stored.runs for gap in progress.gaps(run.points)), default=0.0)
        self.agenda = Agenda(study, store, dataset)
        self.trials = self.agenda.trials
        observer.begun(study, self.agenda.baseline, stored.runs)

    def _take_up(self) -> None:
        """Put what an earlier session left unfinished on its way again, each under its trial's number."""
        for flight in self.agenda.take_up(self.runs):
            self.runs[flight.run.id] = flight.run
            if flight.run.unfinished:
                self.ready.append(flight)
            else:  # killed between our outcome and Optuna's
                self._tell(flight)
        self._tidy(*self.runs.values())

    # the loop

    def go(self) -> Summary:
        self._take_up()
        if self.agenda.left_out:
            self.observer.note(
                f"trials: {self.study.trials} leave out {self.agenda.left_out} of the candidates and single-knob "
                f"trials, and the sampler has none; raise trials"
            )
        if self.runs and not self.ready and self.agenda.empty(self.runs.values()):
            self.observer.note(
                f"study {self.study.name!r} is finished: {len(self.runs)} runs; raise trials (now {self.study.trials}) "
                "or baseline_seeds, or confirm with more seeds, to go on"
            )
        while True:
            if self.interrupted() > 1:
                self._stop_now()
                break
            if not self._ending():
                self._fill()
            if not self.flights:
                break
            self._handle(self.pool.wait(TICK_SECONDS))
            self._end_the_silent()
            self._watch()
        return self._summary()

    def _ending(self) -> bool:
        return self.interrupted() > 0 or self._over()

    def _over(self) -> bool:
        return self.study.hours is not None and self._seconds() >= self.study.hours * 3600

    def _seconds(self) -> float:
        return self.seconds_before + self.clock() - self.began

    def _fill(self) -> None:
        """Give every idle worker a run: one to go on with, else the next."""
        for device in self.pool.idle():
            flight = self.ready.popleft() if self.ready else self.agenda.next(self.runs)
            if flight is None:
                return
            self._launch(flight, device)

    def _launch(self, flight: Flight, device: str) -> None:
        flight.attempt += 1
        flight.heard = self.clock()
        self.started += flight.failures == 0
        self._update(flight, device=device, outcome=Outcome.RUNNING, reason="")
        self.store.launched(flight.run.id, device=device, attempt=flight.attempt)
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
        )
        self.pool.start(job)
        self.observer.started(flight.run)

    def _update(self, flight: Flight, **changed: object) -> None:
        flight.run = dataclasses.replace(flight.run, **changed)  # type: ignore[arg-type]  # fields of Run
        self.runs[flight.run.id] = flight.run
        if "outcome" in changed:
            self.standing = None

    # what workers say

    def _handle(self, messages: list[Message]) -> None:
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
        if new or self.clock() - self.noted > NOTE_SECONDS:
            self.noted = self.clock()
            rows = [(flight.run.id, point) for flight, point in new]
            self.store.add_points(rows, name=self.study.name, seconds=self._seconds())
        for flight, message in current:
            flight.heard = self.clock()
            match message:
                case PointMessage(point=point):
                    self.pool.answer(flight.run.id, self._answer(flight, point))
                case Finished(result=result):
                    self._finish(flight, result)
                case Crashed(text=text, user_error=True):
                    self.store.add_event(self.study.name, "crashed", text, run=flight.run.id)
                    raise UserError(f"{flight.run.label}: {text}")
                case Crashed(text=text) | Died(text=text):
                    self._retry(flight, "crashed" if isinstance(message, Crashed) else "died", text)

    def _answer(self, flight: Flight, point: Point) -> Answer:
        """Note the point; decide. A point that the store had already is a resumed run's history being replayed."""
        if point.step > flight.last_step:
            flight.points.append(point)
            self.longest_gap = max([self.longest_gap, *progress.gaps(flight.points[-2:])])
            self._update(flight, points=tuple(flight.points), seconds=point.seconds)
            self.trials.report(flight.asked, index=flight.index(point.step), value=point.val_loss)
            self.observer.point(flight.run, point)
        if self._ending():
            return Answer.PAUSE
        # up to the last known point the answer was to go on, or there would be none after it
        decides = flight.run.origin == "sampler" and flight.last_step <= point.step < flight.run.config.max_iters
        if decides and self.trials.should_prune(flight.asked, index=flight.index(point.step), step=point.step):
            return Answer.STOP
        if decides:
            self._note_sentinel(flight)
        return Answer.GO

    def _note_sentinel(self, flight: Flight) -> None:
        """Say once that the run goes on although it would have been pruned; the decision stands with its trial."""
        pruning = None if flight.run.pruning else self.trials.pruning(flight.asked)
        if pruning is None:
            return
        self._update(flight, pruning=pruning)
        self.store.spared(self.study.name, flight.run.id, pruning, detail=pruning.why)
        self.observer.note(f"{flight.run.label} goes on as a sentinel; {pruning.why}")

    def _finish(self, flight: Flight, result: Result) -> None:
        if result.outcome == "paused":
            del self.flights[flight.run.id]
            if self._over():
                self._end(flight, Outcome.TRUNCATED, "the study's hours were over", result)
            else:
                self._update(flight, seconds=result.seconds)
                self.observer.ended(flight.run)
            return
        del self.flights[flight.run.id]
        if result.outcome == "oom":
            self._split_further(flight, result)
        elif result.outcome == "stopped":
            pruning = self.trials.pruning(flight.asked)
            assert pruning is not None
            self._update(flight, pruning=pruning)
            self._end(flight, Outcome.PRUNED, pruning.why, result)
        else:
            self._end(flight, Outcome(result.outcome), result.reason, result)

    def _split_further(self, flight: Flight, result: Result) -> None:
        """Want of memory is not the trial's doing either: it goes on in smaller micro-batches, while there are any."""
        run, size = flight.run, result.batch_size
        assert size is not None
        if not self.limits.ran_out(run.config, run.device, batch_size=size):
            self._end(flight, Outcome.INFEASIBLE, f"{result.reason} (with a micro-batch of {size})", result)
            return
        less = self.limits.of(run.config, run.device)
        self.store.add_event(self.study.name, "oom", f"micro-batch {size}: {result.reason}", run=run.id)
        self.observer.note(f"{run.label}: no memory for micro-batches of {size}; it goes on with {less}")
        self.ready.appendleft(flight)

    def _retry(self, flight: Flight, kind: str, text: str) -> None:
        """A crash is not the trial's doing: go on from its checkpoint, but not for ever."""
        del self.flights[flight.run.id]
        self.store.add_event(self.study.name, kind, f"attempt {flight.attempt}: {text}", run=flight.run.id)
        flight.failures += 1
        if flight.failures <= RETRIES:
            self.observer.note(f"{flight.run.label}: its worker {kind}; it goes on from its checkpoint")
            self.ready.appendleft(flight)
            return
        lines = text.strip().splitlines()  # of a traceback the last says it, of a death the first
        reason = f"its worker {kind} {flight.failures} times; the last time: {lines[-1 if kind == 'crashed' else 0]}"
        last = flight.points[-1] if flight.points else None
        result = Result(
            outcome=Outcome.FAILED,
            step=last.step if last else 0,
            points=(),
            reason=reason,
            seconds=last.seconds if last else 0.0,
        )
        self._end(flight, Outcome.FAILED, reason, result)
        self.observer.note(f"{flight.run.label}: failed, {reason}")
        if not any(run.points for run in self.runs.values()):
            raise WorkerError(f"no run of this study has trained yet, and this one {reason}\n{text}")

    def _end(self, flight: Flight, outcome: Outcome, reason: str, result: Result) -> None:
        """Give the run its outcome: first in our table, from where Optuna can be told again, then in Optuna."""
        flight.step = result.step
        self._update(
            flight,
            outcome=outcome,
            reason=reason,
            val_loss=result.val_loss,
            val_se=result.val_se,
            seconds=result.seconds,
        )
        self.store.ended(
            flight.run.id,
            outcome=outcome,
            reason=reason,
            step=result.step,
            seconds=result.seconds,
            val_loss=result.val_loss,
            val_se=result.val_se,
            pruning=flight.run.pruning,
        )
        if outcome != Outcome.COMPLETE:
            self.store.add_event(self.study.name, outcome, reason, run=flight.run.id)
        before = records.best_of((run for run in self.runs.values() if run.id != flight.run.id), search=self.study.name)
        if outcome != Outcome.TRUNCATED:  # that one goes on when the study has more hours
            self._tell(flight)
        self._tidy(flight.run, *([before] if before else []))
        self.observer.ended(flight.run)

    def _tell(self, flight: Flight) -> None:
        run = flight.run
        self.trials.tell(
            flight.asked,
            outcome=run.outcome,
            reason=run.reason,
            val_loss=run.val_loss,
            index=flight.index(flight.step),
            attrs={"run": run.id, "label": run.label, "origin": run.origin, "val_se": run.val_se},
        )

    def _tidy(self, *runs: Run) -> None:
        """Delete the checkpoints of those that need none any more."""
        best = records.best_of(self.runs.values(), search=self.study.name)
        for run in runs:
            if not progress.keeps_checkpoint(run, best=best):
                self.paths.drop_checkpoint(run.id)

    # silence, and the end

    def _end_the_silent(self) -> None:
        limit = progress.stall_limit(self.longest_gap)
        for flight in list(self.flights.values()):
            silent = self.clock() - flight.heard
            if silent > limit:
                self.pool.kill(flight.run.id)
                self._retry(flight, "hung", f"nothing was heard of it for {silent:.0f} s (limit {limit:.0f} s)")

    def _watch(self) -> None:
        if self.standing is None:
            runs = tuple(self.runs.values())
            unfinished = tuple(run.id for run in runs if run.unfinished)
            self.standing = _Standing(
                best=records.best_of(runs, search=self.study.name),
                counts=records.counts(runs),
                planned=self.agenda.planned(runs),
                mean_seconds=progress.mean_seconds(runs),
                unfinished=unfinished,
                over=len(runs) - len(unfinished),
            )
        now = self.standing
        self.observer.progress(
            Progress(
                in_flight=tuple(flight.run for flight in self.flights.values()),
                best=now.best,
                counts=now.counts,
                planned=now.planned,
                seconds=self._seconds(),
                remaining_seconds=progress.remaining(
                    [self.runs[run] for run in now.unfinished],
                    now.mean_seconds,
                    planned=now.planned - now.over,
                    workers=len(self.pool.devices),
                ),
            )
        )

    def _stop_now(self) -> None:
        self.pool.close()
        self.flights.clear()

    def _summary(self) -> Summary:
        interrupted = self.interrupted() > 0
        left = (
            bool(self.ready)
            or not self.agenda.empty(self.runs.values())
            or any(run.unfinished for run in self.runs.values())
        )
        truncated = left and not interrupted and self._over()
        if interrupted:
            self.store.add_event(self.study.name, "interrupted", "by Ctrl-C")
        if truncated:
            self.store.add_event(self.study.name, "truncated", f"hours: {self.study.hours:g} are over")
        self.store.update_study(self.study.name, seconds=self._seconds())
        return Summary(
            finished=not left,
            interrupted=interrupted,
            truncated=truncated,
            counts=records.counts(self.runs.values()),
            started=self.started,
            seconds=self._seconds(),
        )
