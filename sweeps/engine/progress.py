"""The progress of a sweep: what the loop tells its observer, the time left, hung workers, and checkpoints to keep."""

from __future__ import annotations

import itertools
import math
import signal
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from sweeps.analysis.arms import PHASE
from sweeps.engine import confirm, pilot
from sweeps.store.records import UNFINISHED, Outcome, Run, best_of, counts
from sweeps.study.origin_runs import ORIGIN
from sweeps.study.pilot_runs import PILOT
from sweeps.study.study import Study
from trainer.config import TrainConfig
from trainer.points import Point

if TYPE_CHECKING:
    from sweeps.analysis.findings import Findings

STALL_SECONDS = 600.0
"""least silence after which a worker counts as hung"""
STALL_GAPS = 20.0
"""the same, in units of the longest time between two evaluations so far"""


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
    """estimated from the runs that have ended; None before any has ended"""


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

    best: Run | None
    counts: Mapping[str, int]
    planned: int
    mean_seconds: float | None
    unfinished: tuple[int, ...]
    """ids of the runs that have begun and not ended"""
    ended: int
    """number of runs that have ended"""

    @classmethod
    def of(cls, runs: Collection[Run], *, search: str, planned: int) -> Self:
        """Return the standing of a study whose search is the Optuna study `search`."""
        unfinished = tuple(run.id for run in runs if run.unfinished)
        return cls(
            best=best_of(runs, search=search),
            counts=counts(runs),
            planned=planned,
            mean_seconds=mean_seconds(runs),
            unfinished=unfinished,
            ended=len(runs) - len(unfinished),
        )

    def now(self, runs: Mapping[int, Run], in_flight: tuple[Run, ...], *, seconds: float, workers: int) -> Progress:
        """Return the progress at this moment."""
        return Progress(
            in_flight=in_flight,
            best=self.best,
            counts=self.counts,
            planned=self.planned,
            seconds=seconds,
            remaining_seconds=remaining(
                [runs[run] for run in self.unfinished],
                self.mean_seconds,
                planned=self.planned - self.ended,
                workers=workers,
            ),
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


def gaps(points: Sequence[Point]) -> list[float]:
    """Return the seconds between a run's evaluations."""
    return [later.seconds - earlier.seconds for earlier, later in itertools.pairwise(points)]


def stall_limit(longest_gap: float) -> float:
    """Return the seconds of silence after which a worker counts as hung, from the longest gap between evaluations.

    Infinite before a gap has been measured.
    """
    return max(STALL_SECONDS, STALL_GAPS * longest_gap) if longest_gap > 0 else math.inf


def mean_seconds(runs: Iterable[Run]) -> float | None:
    """Return the mean time of the runs that ended by training, in seconds; None: none has."""
    ended = [run.seconds for run in runs if run.outcome not in (*UNFINISHED, Outcome.FAILED, Outcome.INFEASIBLE)]
    return sum(ended) / len(ended) if ended else None


def remaining(runs: Sequence[Run], mean: float | None, *, planned: int, workers: int) -> float | None:
    """Estimate the seconds that the rest of the study takes if a run takes `mean` seconds.

    Runs that have ended may be left out if `planned` doesn't count them either.
    """
    if mean is None:
        return None
    spent = [min(run.seconds, mean) for run in runs if run.unfinished]
    left = planned - (len(runs) - len(spent))
    return max(0.0, left * mean - sum(spent)) / max(1, workers)
