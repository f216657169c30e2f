"""How far a sweep is: what the loop tells whoever watches, and the decisions that need no more than this."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from sweeps.store.records import UNFINISHED, Outcome, Run, best_of, counts
from sweeps.study.study import Study
from trainer.config import TrainConfig
from trainer.points import Point

STALL_SECONDS = 600.0
STALL_GAPS = 20.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A moment of the sweep."""

    in_flight: tuple[Run, ...]
    best: Run | None
    counts: Mapping[str, int]
    """ended runs of the study by outcome"""
    planned: int
    """runs of the study when it is finished"""
    seconds: float
    """the sweep has taken, over all its sessions"""
    remaining_seconds: float | None
    """estimated from the runs that ended; None before one has"""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a session ended, and what the study has by now."""

    finished: bool
    """there is nothing left to run"""
    interrupted: bool
    """by Ctrl-C"""
    truncated: bool
    """by `hours`"""
    counts: Mapping[str, int]
    """runs of the whole study by outcome, every outcome named"""
    started: int
    """runs that this session has started or taken up"""
    seconds: float
    """the sweep has taken, over all its sessions"""


class Observer(Protocol):
    """Watches a sweep; the live view is one."""

    def begun(self, study: Study, baseline: TrainConfig, runs: Sequence[Run]) -> None:
        """The session starts, with the runs of earlier ones."""

    def started(self, run: Run) -> None:
        """The run is on its way, for the first time or again."""

    def point(self, run: Run, point: Point) -> None:
        """The run, this point included, has a new evaluation."""

    def ended(self, run: Run) -> None:
        """The run has its outcome; an interrupted one is still "running"."""

    def progress(self, progress: Progress) -> None:
        """After whatever workers said, and twice a second while they say nothing."""

    def note(self, text: str) -> None:
        """Something that a person should know."""


class Silent:
    """Nobody watches."""

    def begun(self, study: Study, baseline: TrainConfig, runs: Sequence[Run]) -> None: ...
    def started(self, run: Run) -> None: ...
    def point(self, run: Run, point: Point) -> None: ...
    def ended(self, run: Run) -> None: ...
    def progress(self, progress: Progress) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The part of a sweep's progress that stays the same until a run begins or ends."""

    best: Run | None
    counts: Mapping[str, int]
    planned: int
    mean_seconds: float | None
    unfinished: tuple[int, ...]
    """ids of the runs that have begun and not ended"""
    ended: int
    """runs that have"""

    @classmethod
    def of(cls, runs: Collection[Run], *, search: str, planned: int) -> Self:
        """The standing of a study whose search is the Optuna study `search`."""
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
        """The progress at this moment."""
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
    """Whether a run's checkpoint is kept: in flight, to be resumed, of the baseline, or the best."""
    if run.unfinished:
        return True
    return run.outcome == Outcome.COMPLETE and (run.phase == "baseline" or (best is not None and run.id == best.id))


def gaps(points: Sequence[Point]) -> list[float]:
    """Seconds between a run's evaluations."""
    return [later.seconds - earlier.seconds for earlier, later in itertools.pairwise(points)]


def stall_limit(longest_gap: float) -> float:
    """Seconds of silence after which a worker counts as hung, from the longest gap between evaluations so far.

    With none measured nothing is known of how long one takes, and there is no limit.
    """
    return max(STALL_SECONDS, STALL_GAPS * longest_gap) if longest_gap > 0 else math.inf


def mean_seconds(runs: Iterable[Run]) -> float | None:
    """What the runs that ended took; None: none has."""
    ended = [run.seconds for run in runs if run.outcome not in (*UNFINISHED, Outcome.FAILED, Outcome.INFEASIBLE)]
    return sum(ended) / len(ended) if ended else None


def remaining(runs: Sequence[Run], each: float | None, *, planned: int, workers: int) -> float | None:
    """Seconds that the rest of the study takes, if its runs take `each`.

    Runs that are over may be left out, if they aren't `planned` either.
    """
    if each is None:
        return None
    under_way = [min(run.seconds, each) for run in runs if run.unfinished]
    left = planned - (len(runs) - len(under_way))
    return max(0.0, left * each - sum(under_way)) / max(1, workers)
