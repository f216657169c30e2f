"""The progress of a sweep: what the loop tells its observer, hung workers, and checkpoints to keep."""

from __future__ import annotations

import itertools
import math
import re
import signal
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from sweeps.analysis.arms import PHASE
from sweeps.engine import confirm, pilot
from sweeps.engine.planning.workload import Workload
from sweeps.engine.time_left import Coming, Pace, time_left, to_come
from sweeps.store.records import DataFacts, Outcome, Run, best_of, counts
from sweeps.study.origin_runs import ORIGIN
from sweeps.study.pilot_runs import PILOT
from sweeps.study.study import Study
from trainer.config import TrainConfig
from trainer.points import Point

if TYPE_CHECKING:
    from sweeps.analysis.findings import Findings

START_SECONDS = 1800.0
"""silence after a launch, in which a worker opens the data, fits the batch and compiles, until it counts as hung"""
STALL_SECONDS, CARD_SECONDS = 120.0, 600.0
"""least silence after which a worker counts as hung, on a CPU and on a card, whose worker may be compiling"""
STALL_GAPS = 20.0
"""the same, in units of the longest time between two messages of a worker so far: a step, or what a step lasts"""
MOST_ALIKE = 10
"""runs in a row that may fail from one cause"""
TICK_SECONDS = 0.5
"""longest wait of the driver's loop for a message of a worker"""
LONGEST_TICK = 5.0
"""seconds of a tick of the loop beyond which the driver was stopped (Ctrl-Z) or asleep, or very busy"""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The state of the sweep at a moment."""

    in_flight: tuple[Run, ...]
    best: Run | None
    counts: Mapping[str, int]
    """ended runs of the study by outcome"""
    planned: int
    """runs of the finished study"""
    seconds: float
    """time spent, over all sessions"""
    remaining_seconds: float | None
    """estimated from the runs so far; None before the first has been evaluated twice"""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a session ended, and the study's runs so far."""

    finished: bool
    """nothing is left to run"""
    interrupted: signal.Signals | None
    """the first signal that asked the session to end"""
    truncated: bool
    """by `hours`"""
    counts: Mapping[str, int]
    """runs of the whole study by outcome, every outcome named"""
    started: int
    """runs that this session has started or taken up"""
    seconds: float
    """time spent, over all sessions"""


class Observer(Protocol):
    """Watches a sweep, as the live view does."""

    def begun(self, study: Study, baseline: TrainConfig, runs: Sequence[Run]) -> None:
        """The session starts, with the runs of earlier ones."""

    def started(self, run: Run) -> None:
        """The run starts, for the first time or again."""

    def point(self, run: Run, point: Point) -> None:
        """The run has a new evaluation; `run` includes it."""

    def ended(self, run: Run) -> None:
        """The run has its outcome; an interrupted one is still "running"."""

    def progress(self, progress: Progress) -> None:
        """Called after every message of a worker, and twice per second while there is none."""

    def note(self, text: str) -> None:
        """Something that a person should know."""


class Silent:
    """An observer that ignores everything."""

    def begun(self, study: Study, baseline: TrainConfig, runs: Sequence[Run]) -> None: ...
    def started(self, run: Run) -> None: ...
    def point(self, run: Run, point: Point) -> None: ...
    def ended(self, run: Run) -> None: ...
    def progress(self, progress: Progress) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The part of the progress that stays the same until a run begins or ends."""

    study: Study
    data: DataFacts
    best: Run | None
    counts: Mapping[str, int]
    planned: int
    unfinished: tuple[int, ...]
    """ids of the runs that have begun and not ended"""
    coming: Sequence[Coming]
    pace: Pace | None

    @classmethod
    def of(cls, runs: Collection[Run], study: Study, data: DataFacts, work: Workload, *, planned: int) -> Self:
        """Return the standing of a study of this `work`, which has `planned` runs when it is finished."""
        return cls(
            study=study,
            data=data,
            best=best_of(runs, search=study.name),
            counts=counts(runs),
            planned=planned,
            unfinished=tuple(run.id for run in runs if run.unfinished),
            coming=to_come(study, runs, work, planned=planned),
            pace=Pace.of(runs, data),
        )

    def now(self, runs: Mapping[int, Run], in_flight: tuple[Run, ...], *, seconds: float, workers: int) -> Progress:
        """Return the progress at this moment."""
        unfinished = [runs[run] for run in self.unfinished]
        pace = self.pace or Pace.of(unfinished, self.data)
        left = time_left(unfinished, self.coming, pace, study=self.study, workers=workers, spent=seconds)
        return Progress(
            in_flight=in_flight,
            best=self.best,
            counts=self.counts,
            planned=self.planned,
            seconds=seconds,
            remaining_seconds=left,
        )


def keeps_checkpoint(run: Run, *, best: Run | None) -> bool:
    """Whether a run's checkpoint is kept: of unfinished and halted runs, the origin, the baseline and the best."""
    if run.unfinished or run.outcome == Outcome.HALTED:
        return True
    kept = run.phase in ("baseline", PILOT) or run.origin == ORIGIN or (best is not None and run.id == best.id)
    return run.outcome == Outcome.COMPLETE and kept


def planned_runs(findings: Findings) -> int:
    """Return the runs of the finished study. Until no run of the confirm phase is left, its maximum counts."""
    runs, study = findings.results.runs, findings.study
    before_trials = sum(run.before_trials for run in runs)
    searching = sum(run.phase != PHASE for run in runs) - before_trials
    # of the pilot's runs, those at the length that is chosen are the baseline's
    rejected = pilot.rejected(study, runs, findings.results.data)
    groundwork = before_trials - sum(run.phase == PILOT for run in runs) + len(rejected)
    confirming = confirm.planned(
        runs, most=study.confirm.max_trials, over=lambda: confirm.next_run(findings.evidence) is None
    )
    return groundwork + max(searching, study.baseline_seeds + study.trials) + confirming


def stall_limit(longest_gap: float, *, device: str, spoken: bool, pulsing: bool) -> float:
    """Return the seconds of silence after which a worker counts as hung, from the longest gap between two messages.

    `spoken`: it has sent a message since its launch. `pulsing`: it tells of each step, not of evaluations alone. As
    long as no gap is known, one that doesn't may take any time from one evaluation to the next.
    """
    if not spoken:
        return START_SECONDS
    if longest_gap == 0:
        return START_SECONDS if pulsing else math.inf
    return max(STALL_SECONDS if device.partition(":")[0] == "cpu" else CARD_SECONDS, STALL_GAPS * longest_gap)


def cause_of(run: Run) -> str:
    """Return what made a run fail, the same words for the same cause; empty for a run that didn't fail.

    Numbers are left out: steps, losses and sizes differ where the cause doesn't.
    """
    if run.outcome not in (Outcome.FAILED, Outcome.DIVERGED, Outcome.INFEASIBLE):
        return ""
    return f"{run.outcome}: {re.sub(r'[0-9][0-9.,e+-]*', '#', run.reason.partition('; its log: ')[0])}"


def alike(causes: Sequence[str]) -> int:
    """Return how many of the last runs failed from one cause, from the causes of all in their order."""
    return sum(1 for _ in itertools.takewhile(lambda cause: cause and cause == causes[-1], reversed(causes)))


def listened(tick: float) -> float:
    """Return how many seconds of a tick of the loop the driver has listened to its workers.

    A driver that was stopped, or whose machine was asleep, could hear nothing, and its workers could say nothing. Such
    a tick counts as an ordinary one, so that a driver that is always busy hears a hang as well, though later.
    """
    return tick if tick <= LONGEST_TICK else TICK_SECONDS
