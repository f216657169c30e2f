"""A sweep's parent at work on a big store: the real loop, agenda, trials and store with workers that only pretend.

Training takes simulated seconds, which nobody sits out; what the parent does takes real ones. So a worker's wait for an
answer is what it would be in a real sweep: the parent may be busy with the other worker, or with the next trial.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from unittest import mock

import optuna
from optuna.trial import FrozenTrial, TrialState

from benchmarks.pruning.surrogate import Surrogate
from sweeps.engine import agenda
from sweeps.engine.ledger import Ledger
from sweeps.engine.optuna_trials import OptunaTrials
from sweeps.engine.progress import Silent
from sweeps.engine.runner import Runner
from sweeps.engine.session import run_in
from sweeps.paths import StudyPaths
from sweeps.store.records import Pruning, Run
from sweeps.store.store import Store
from sweeps.study import proposals, space
from sweeps.study.knobs import PARAM
from sweeps.study.study import Study, knob_value
from sweeps.workers.pool import Finished, Job, Message, PointMessage
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset, Split
from trainer.points import Answer, Point, Result

P, R = ParamSpec("P"), TypeVar("R")

CurveOf = Callable[[TrainConfig], Sequence[float]]
"""the validation losses of a run, nats, at each of its evaluations"""

PRUNED_AT, PRUNED_SHARE = 0.25, 0.7
"""of the trials that fill a store: so many were pruned, the worst, at this share of the run"""

PARTS: dict[str, tuple[tuple[type, str], ...]] = {
    "ask": ((OptunaTrials, "ask"),),
    "report": ((OptunaTrials, "report"),),
    "prune": ((Ledger, "decide"),),
    "tell": ((OptunaTrials, "tell"),),
    "points": ((Store, "add_points"),),
    "runs": tuple((Store, name) for name in ("add_run", "launched", "ended", "decided", "add_event")),
    "agenda": ((agenda.Agenda, "next"),),
    "progress": ((Runner, "_watch"),),
}
"""methods by what they do; what has no name here is the rest"""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the parent had to do and how long that took."""

    stored: int
    """trials in the store before"""
    trials: int
    """then run"""
    reports: float
    """a trial"""
    opened: float
    """seconds to take the store up"""
    wall: float
    """milliseconds a trial"""
    cpu: float
    """milliseconds a trial"""
    parts: dict[str, float]
    """milliseconds a trial of the wall time, by PARTS"""
    answers: dict[str, float]
    """milliseconds that a worker waits for an answer: median, 95th percentile, longest"""
    jobs: dict[str, float]
    """milliseconds from a run's end to the next one's start, likewise"""
    decisions: str
    """a digest of each trial's parameters, outcome and pruning; with one worker fixed by the code alone"""


# workers that pretend


@dataclass
class _Flight:
    job: Job
    messages: Iterator[Message]
    ahead: Message
    """what it says next"""
    due: float | None
    """when; None: it waits for an answer"""
    asked: float = 0.0
    """when it began to wait"""
    stopped: bool = False
    """it was answered to stop"""


class SimulatedPool:
    """The pool's contract by workers that evaluate every `seconds`, by a clock that leaves out what nobody does."""

    def __init__(self, devices: Sequence[str], *, curve_of: CurveOf, seconds: float) -> None:
        self.devices = tuple(devices)
        self.answers: list[float] = []
        """seconds that each point waited for its answer"""
        self.jobs: list[float] = []
        """seconds from each end of a run to the next start on its worker"""
        self.reports = 0
        self.began: tuple[float, float] | None = None
        """wall and processor's time when the parent first asked who is idle"""
        self.own = 0.0
        """real seconds that the simulation has taken"""
        self._curve_of, self._seconds, self._skipped = curve_of, seconds, 0.0
        self._flights: dict[int, _Flight] = {}
        self._free: list[float] = []

    def clock(self) -> float:
        return time.perf_counter() + self._skipped

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """What is done here takes no time by the clock."""
        began = time.perf_counter()
        yield
        took = time.perf_counter() - began
        self.own += took
        self._skipped -= took

    def idle(self) -> list[str]:
        if self.began is None:
            self.began = time.perf_counter(), time.process_time()
        names = list(self.devices)
        for flight in self._flights.values():
            names.remove(flight.job.device)
        return names

    def start(self, job: Job) -> None:
        if self._free:
            self.jobs.append(self.clock() - self._free.pop(0))
        with self._aside():
            messages = self._said(job)
            self._flights[job.run] = _Flight(job, messages, next(messages), due=None)
        self._flights[job.run].due = self.clock() + self._seconds

    def _said(self, job: Job) -> Iterator[Message]:
        config, points = job.config, []
        losses = self._curve_of(config)
        for number, loss in enumerate(losses):
            step = number * config.eval_interval
            points.append(_point(config, step, loss, seconds=(number + 1) * self._seconds))
            yield PointMessage(run=job.run, attempt=job.attempt, point=points[-1])
            flight = self._flights[job.run]
            if flight.stopped:
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
        due = min((flight.due for flight in self._flights.values() if flight.due is not None), default=math.inf)
        self._skipped += max(0.0, min(due, now + timeout) - now)
        now = self.clock()
        spoken = sorted(
            ((flight.due, run) for run, flight in self._flights.items() if flight.due is not None and flight.due <= now)
        )
        messages = []
        for at, run in spoken:
            flight = self._flights[run]
            messages.append(flight.ahead)
            if isinstance(flight.ahead, Finished):
                self._free.append(at)
                del self._flights[run]
            else:
                flight.asked, flight.due = at, None
        return messages

    def answer(self, run: int, answer: Answer) -> None:
        flight = self._flights[run]
        self.answers.append(self.clock() - flight.asked)
        self.reports += 1
        if answer is not Answer.GO:
            flight.stopped = True
        with self._aside():
            flight.ahead = next(flight.messages)
        ended = isinstance(flight.ahead, Finished)
        flight.due = self.clock() + (0.0 if ended else self._seconds)

    def kill(self, run: int) -> None:
        raise AssertionError(f"run {run}: simulated workers are never silent for long")

    def close(self) -> None:
        self._flights.clear()


def _point(config: TrainConfig, step: int, loss: float, *, seconds: float) -> Point:
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


def curves(study: Study, surrogate: Surrogate) -> CurveOf:
    """What a surrogate of the study's space says of a config, at as many evaluations as the study has."""

    def curve_of(config: TrainConfig) -> Sequence[float]:
        settings = config.as_dict()
        params = {PARAM.get(name, name): knob.snap(knob_value(settings, name)) for name, knob in study.sampled.items()}
        every = surrogate.evaluations // (config.max_iters // config.eval_interval)
        losses: list[float] = surrogate.curve(params, seed=config.seed)[::every].tolist()
        return losses

    return curve_of


# the store


def fill(store: Store, study: Study, dataset: Dataset, curve_of: CurveOf, *, until: int) -> None:
    """Give the study random trials of the sampler, ended, until it has so many; each with its run and its points."""
    search = optuna.load_study(study_name=study.name, storage=store.storage)
    distributions = space.distributions(study)
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=study.seed))
    there = len(search.get_trials(deepcopy=False))
    drawn = [random.ask(dict(distributions)).params for _ in range(until - there)]
    configs = [proposals.config_of(study, each, seed=study.seed, vocab_size=dataset.vocab_size) for each in drawn]
    losses = [curve_of(config) for config in configs]
    finals = sorted(each[-1] for each in losses)
    worst = finals[round((1 - PRUNED_SHARE) * (len(finals) - 1))] if finals else math.inf
    for number, (params, config, curve) in enumerate(zip(drawn, configs, losses, strict=True), start=there):
        pruned = curve[-1] > worst
        seen = curve[: round(PRUNED_AT * len(curve))] if pruned else curve
        search.add_trial(
            optuna.trial.create_trial(
                state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
                value=None if pruned else curve[-1],
                params=params,
                distributions=distributions,
                intermediate_values=dict(enumerate(seen)),
            )
        )
        _store(store, study, dataset, config, params, seen, number=number, predicted=curve[-1] if pruned else None)


def _store(
    store: Store,
    study: Study,
    dataset: Dataset,
    config: TrainConfig,
    params: dict[str, Any],
    losses: Sequence[float],
    *,
    number: int,
    predicted: float | None,
) -> None:
    pruned = predicted is not None
    points = tuple(_point(config, at * config.eval_interval, loss, seconds=at + 1.0) for at, loss in enumerate(losses))
    run = Run(
        id=0,
        optuna_study=study.name,
        trial=number,
        seed=config.seed,
        phase="search",
        origin="sampler",
        label=f"trial {number}",
        knob=None,
        params=params,
        config=config,
        device="cpu",
        outcome="running",
        reason="",
        val_loss=None,
        val_se=None,
        seconds=0.0,
        points=(),
        key=f"trial:{number}",
    )
    run = store.add_run(study.name, run, fingerprint=dataset.fingerprint, versions={}, commit=None)
    store.add_points([(run.id, point) for point in points], name=study.name, seconds=0.0)
    store.ended(
        run.id,
        outcome="pruned" if pruned else "complete",
        reason="",
        step=points[-1].step,
        seconds=points[-1].seconds,
        val_loss=None if pruned else losses[-1],
        val_se=None if pruned else 0.01,
        pruning=None if predicted is None else _decision(points[-1], evaluation=len(points) - 1, predicted=predicted),
    )


def _decision(last: Point, *, evaluation: int, predicted: float) -> Pruning:
    """What the plateau rule would have noted when it stopped a trial at its last point."""
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


def facts() -> Dataset:
    """Data that nobody opens."""
    split = Split(tokens=1_000_000, documents=None, bytes=None, sha256=None)
    return Dataset(
        path=Path("/nowhere/data"), vocab_size=512, dtype="uint16", fingerprint="0" * 64, train=split, val=split
    )


# measuring


@dataclass
class Stopwatch:
    """Seconds by name, each without those of what it has called that has a name too."""

    clock: Callable[[], float] = time.perf_counter
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _within: list[float] = field(default_factory=list)
    """seconds of named calls inside each call that is going on"""

    def timed(self, name: str, function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            began = self.clock()
            self._within.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                took = self.clock() - began
                self.seconds[name] += took - self._within.pop()
                if self._within:
                    self._within[-1] += took

        return wrapped

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Time the methods of PARTS meanwhile."""
        with contextlib.ExitStack() as patches:
            for name, methods in PARTS.items():
                for owner, method in methods:
                    timed = self.timed(name, getattr(owner, method))
                    patches.enter_context(mock.patch.object(owner, method, timed))
            yield


def load(
    study: Study, folder: Path, curve_of: CurveOf, *, stored: int, trials: int, workers: int, seconds: float
) -> Load:
    """Fill a store with `stored` trials and run `trials` more by workers that evaluate every `seconds`.

    The study's designed trials come first, so `stored` is raised to their number.
    """
    paths, dataset = StudyPaths(folder), facts()
    designed = proposals.star_proposals(study, vocab_size=dataset.vocab_size)
    stored = max(stored, study.baseline_seeds + len(designed))
    begun = study.model_copy(update={"trials": len(designed)})
    grown = study.model_copy(update={"trials": stored - study.baseline_seeds + trials})
    with Store(f"sqlite:///{paths.store}") as store:
        _run(begun, store, SimulatedPool(["cpu"], curve_of=curve_of, seconds=0.0), paths, dataset)
        fill(store, begun, dataset, curve_of, until=stored)
    with Store(f"sqlite:///{paths.store}") as store:
        pool = SimulatedPool(["cpu"] * workers, curve_of=curve_of, seconds=seconds)
        watch = Stopwatch()
        opening = time.perf_counter()
        with watch.watching():
            _run(grown, store, pool, paths, dataset)
        assert pool.began is not None
        wall, cpu = time.perf_counter() - pool.began[0], time.process_time() - pool.began[1]
        search = optuna.load_study(study_name=study.name, storage=store.storage)
        new = search.get_trials(deepcopy=False)[stored:]
    assert len(new) == trials
    parts = {name: 1000 * watch.seconds[name] / trials for name in PARTS}
    wall_each = 1000 * (wall - pool.own) / trials
    return Load(
        stored=stored,
        trials=trials,
        reports=pool.reports / trials,
        opened=pool.began[0] - opening,
        wall=wall_each,
        cpu=1000 * (cpu - pool.own) / trials,
        parts={**parts, "rest": wall_each - sum(parts.values())},
        answers=spread(pool.answers),
        jobs=spread(pool.jobs),
        decisions=digest(new),
    )


def _run(study: Study, store: Store, pool: SimulatedPool, paths: StudyPaths, dataset: Dataset) -> None:
    run_in(pool, study, paths, store, dataset, observer=Silent(), clock=pool.clock)


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile (the least value that 95 % do not pass) and longest, milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    at = {"median": 0.5, "p95": 0.95, "longest": 1.0}
    return {name: 1000 * ordered[max(0, math.ceil(share * len(ordered)) - 1)] for name, share in at.items()}


def digest(trials: Sequence[FrozenTrial]) -> str:
    """What was decided of each trial, in one word."""
    told = [(trial.params, trial.state.name, trial.value, trial.last_step, trial.user_attrs) for trial in trials]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def as_dict(measured: Load) -> dict[str, Any]:
    return dataclasses.asdict(measured)
