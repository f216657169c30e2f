"""The driver's load with a large store: the real loop, agenda, trials and store, with workers that simulate training.

Training takes simulated seconds, which pass at once; the driver's work takes real ones. A worker therefore waits for an
answer as long as in a real sweep, where the driver may be busy with the other worker or with the next trial. Part of
`benchmarks.speed.overhead`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar
from unittest import mock

import optuna
from optuna.trial import FrozenTrial, TrialState

from benchmarks.pruning.surrogate import Surrogate
from benchmarks.speed.simulated_pool import CurveOf, SimulatedPool, simulated_decision, simulated_point
from sweeps.engine import agenda
from sweeps.engine.ledger import Ledger, new_run
from sweeps.engine.optuna_trials import OptunaTrials
from sweeps.engine.progress import Silent
from sweeps.engine.runner import Runner
from sweeps.engine.session import run_in
from sweeps.paths import StudyPaths
from sweeps.store.records import Outcome, Run
from sweeps.store.store import Store
from sweeps.study import proposals, space
from sweeps.study.knobs import PARAM
from sweeps.study.study import Study, knob_value
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset, Split

P = ParamSpec("P")
R = TypeVar("R")

PRUNED_AT, PRUNED_SHARE = 0.25, 0.7
"""of the trials that fill a store: the share of the run at which a trial is pruned, and the share of pruned trials"""

PARTS: dict[str, tuple[tuple[type, str], ...]] = {
    "ask": ((OptunaTrials, "ask"),),
    "report": ((OptunaTrials, "report"),),
    "prune": ((Ledger, "decide"),),
    "tell": ((OptunaTrials, "tell"),),
    "points": ((Store, "add_points"),),
    "runs": tuple((Store, name) for name in ("add_run", "launched", "ended", "decided", "add_event")),
    "agenda": ((agenda.Agenda, "next"),),
    "progress": ((Runner, "_show_progress"),),
}
"""methods by the part of the work that they do; everything else is the rest"""


@dataclass(frozen=True, kw_only=True)
class DriverLoad:
    """The driver's work, and how long it took."""

    stored: int
    """trials in the store at the start"""
    trials: int
    """trials then run"""
    reports: float
    """per trial"""
    opened: float
    """seconds to open the store and its study"""
    wall: float
    """milliseconds per trial"""
    cpu: float
    """milliseconds per trial"""
    parts: dict[str, float]
    """milliseconds of wall time per trial, by PARTS"""
    answers: dict[str, float]
    """milliseconds that a worker waits for an answer: median, 95th percentile and longest"""
    jobs: dict[str, float]
    """milliseconds from a run's end to the start of the next, likewise"""
    decisions: str
    """digest of all trials' parameters, outcomes and prunings; with one worker it depends on the code only"""


def curves(study: Study, surrogate: Surrogate) -> CurveOf:
    """Return the surrogate's losses of a config, at as many evaluations as the study has."""

    def curve_of(config: TrainConfig) -> Sequence[float]:
        settings = config.as_dict()
        params = {PARAM.get(name, name): knob.snap(knob_value(settings, name)) for name, knob in study.sampled.items()}
        every = surrogate.evaluations // (config.max_iters // config.eval_interval)
        losses: list[float] = surrogate.curve(params, seed=config.seed)[::every].tolist()
        return losses

    return curve_of


# the store


def fill(store: Store, study: Study, dataset: Dataset, curve_of: CurveOf, *, until: int) -> None:
    """Add ended random trials to the study, each with its run and its points, until it has `until` trials."""
    search = optuna.load_study(study_name=study.name, storage=store.storage)
    distributions = space.distributions(study)
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=study.seed))
    present = len(search.get_trials(deepcopy=False))
    drawn = [random.ask(dict(distributions)).params for _ in range(until - present)]
    configs = [proposals.config_of(study, params, seed=study.seed, vocab_size=dataset.vocab_size) for params in drawn]
    curves = [curve_of(config) for config in configs]
    finals = sorted(curve[-1] for curve in curves)
    worst_kept = finals[round((1 - PRUNED_SHARE) * (len(finals) - 1))] if finals else math.inf
    for number, (params, config, curve) in enumerate(zip(drawn, configs, curves, strict=True), start=present):
        pruned = curve[-1] > worst_kept
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
        run = new_run(optuna_study=study.name, trial=number, params=params, config=config, proposal=None)
        run = store.add_run(study.name, run, fingerprint=dataset.fingerprint, versions={}, commit=None)
        _end_run(store, study, run, seen, predicted=curve[-1] if pruned else None)


def _end_run(store: Store, study: Study, run: Run, losses: Sequence[float], *, predicted: float | None) -> None:
    config, pruned = run.config, predicted is not None
    points = tuple(
        simulated_point(config, at * config.eval_interval, loss, seconds=at + 1.0) for at, loss in enumerate(losses)
    )
    store.add_points([(run.id, point) for point in points], name=study.name, seconds=0.0)
    store.ended(
        run.id,
        outcome=Outcome.PRUNED if pruned else Outcome.COMPLETE,
        reason="",
        step=points[-1].step,
        seconds=points[-1].seconds,
        val_loss=None if pruned else losses[-1],
        val_se=None if pruned else 0.01,
        pruning=None
        if predicted is None
        else simulated_decision(points[-1], evaluation=len(points) - 1, predicted=predicted),
    )


def unread_dataset() -> Dataset:
    """Return the facts of data that nobody opens."""
    split = Split(tokens=1_000_000, documents=None, bytes=None, sha256=None)
    return Dataset(
        path=Path("/nowhere/data"), vocab_size=512, dtype="uint16", fingerprint="0" * 64, train=split, val=split
    )


# measuring


@dataclass
class Stopwatch:
    """Seconds by name. A named call that runs inside another counts for its own name only."""

    clock: Callable[[], float] = time.perf_counter
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _nested: list[float] = field(default_factory=list)
    """for each call in progress, the seconds of the named calls inside it"""

    def timed(self, name: str, function: Callable[P, R]) -> Callable[P, R]:
        """Return the function with its calls timed under a name."""

        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            began = self.clock()
            self._nested.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                seconds = self.clock() - began
                self.seconds[name] += seconds - self._nested.pop()
                if self._nested:
                    self._nested[-1] += seconds

        return wrapped

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Time the methods of PARTS while the context lasts."""
        with contextlib.ExitStack() as patches:
            for name, methods in PARTS.items():
                for owner, method in methods:
                    timed = self.timed(name, getattr(owner, method))
                    patches.enter_context(mock.patch.object(owner, method, timed))
            yield


def measure(
    study: Study, folder: Path, curve_of: CurveOf, *, stored: int, trials: int, workers: int, seconds: float
) -> DriverLoad:
    """Fill a store with `stored` trials, and run `trials` more with workers that evaluate every `seconds`.

    The baseline and the trials of one knob alone come first, so `stored` is raised to their number.
    """
    paths, dataset = StudyPaths(folder), unread_dataset()
    single_knob_trials = len(proposals.designed(study, vocab_size=dataset.vocab_size).one_at_a_time)
    stored = max(stored, study.baseline_seeds + single_knob_trials)
    begun = study.model_copy(update={"trials": single_knob_trials})
    grown = study.model_copy(update={"trials": stored - study.baseline_seeds + trials})
    with Store(f"sqlite:///{paths.store}") as store:
        _run_study(begun, store, SimulatedPool(["cpu"], curve_of=curve_of, seconds=0.0), paths, dataset)
        fill(store, begun, dataset, curve_of, until=stored)
    with Store(f"sqlite:///{paths.store}") as store:
        pool = SimulatedPool(["cpu"] * workers, curve_of=curve_of, seconds=seconds)
        stopwatch = Stopwatch()
        opening = time.perf_counter()
        with stopwatch.watching():
            _run_study(grown, store, pool, paths, dataset)
        assert pool.began is not None
        wall, cpu = time.perf_counter() - pool.began[0], time.process_time() - pool.began[1]
        search = optuna.load_study(study_name=study.name, storage=store.storage)
        new_trials = search.get_trials(deepcopy=False)[stored:]
    assert len(new_trials) == trials
    parts = {name: 1000 * stopwatch.seconds[name] / trials for name in PARTS}
    wall_per_trial = 1000 * (wall - pool.simulation_seconds) / trials
    return DriverLoad(
        stored=stored,
        trials=trials,
        reports=pool.reports / trials,
        opened=pool.began[0] - opening,
        wall=wall_per_trial,
        cpu=1000 * (cpu - pool.simulation_seconds) / trials,
        parts={**parts, "rest": wall_per_trial - sum(parts.values())},
        answers=spread(pool.answers),
        jobs=spread(pool.jobs),
        decisions=digest(new_trials),
    )


def _run_study(study: Study, store: Store, pool: SimulatedPool, paths: StudyPaths, dataset: Dataset) -> None:
    run_in(pool, study, paths, store, dataset, observer=Silent(), clock=pool.clock)


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median, the 95th percentile (least value that 95 % don't exceed) and the longest, in milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    at = {"median": 0.5, "p95": 0.95, "longest": 1.0}
    return {name: 1000 * ordered[max(0, math.ceil(share * len(ordered)) - 1)] for name, share in at.items()}


def digest(trials: Sequence[FrozenTrial]) -> str:
    """Return a digest of all decisions about the trials."""
    decisions = [(trial.params, trial.state.name, trial.value, trial.last_step, trial.user_attrs) for trial in trials]
    return hashlib.sha256(json.dumps(decisions, sort_keys=True).encode()).hexdigest()[:16]
