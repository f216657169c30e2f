"""The time that a sweep still takes: the runs to come at their own lengths, at the measured pace of their shapes.

A pace is the seconds per trained token, evaluations included, so what other processes take is in it. Where the latest
runs are slower than earlier ones of their shape, the machine is busier. The runs to come are expected halfway between,
because neighbours come and go.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from sweeps.analysis.speeds import cost_of
from sweeps.engine.planning.speed import flops_at_peak, makespan, tokens_of
from sweeps.engine.planning.workload import CONFIRM_SHARE, Workload, as_long_as
from sweeps.store.records import DataFacts, Outcome, Run, best_of
from sweeps.study.origin_runs import GOING_ON, ORIGIN, RACE
from sweeps.study.pilot_runs import PILOT
from sweeps.study.proposals import ONE_AT_A_TIME
from sweeps.study.study import Study
from trainer.config import TrainConfig

LATEST = 8
"""runs that say how busy the machine is now"""


@dataclass(frozen=True, kw_only=True)
class Coming:
    """A run that has not begun. Its config may not be known yet."""

    configs: Sequence[TrainConfig]
    """the configs that it may have, each as likely"""
    share: float = 1.0
    """share of its length that it is expected to train"""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The measured pace of a study's runs."""

    data: DataFacts
    by_cost: Mapping[Hashable, tuple[TrainConfig, float]]
    """a config and the seconds per token, by what decides the time per token (`analysis.speeds.cost_of`)"""
    level: float
    """seconds that runs are expected to take from now on, relative to those so far of their shapes"""
    device: str
    """cpu or cuda"""

    @classmethod
    def of(cls, runs: Collection[Run], data: DataFacts) -> Self | None:
        """Return the pace of the runs so far; None: nothing has been trained yet."""
        paces = [(run, pace) for run in runs if (pace := _pace_of(run, data)) is not None]
        if not paces:
            return None
        by_cost: dict[Hashable, list[tuple[TrainConfig, float]]] = defaultdict(list)
        for run, pace in paces:
            by_cost[cost_of(run.config)].append((run.config, pace))
        medians = {cost: (alike[0][0], statistics.median(pace for _, pace in alike)) for cost, alike in by_cost.items()}
        latest = [pace / medians[cost_of(run.config)][1] for run, pace in paces[-LATEST:]]
        device = paces[-1][0].device.partition(":")[0]
        return cls(data=data, by_cost=medians, level=math.sqrt(statistics.median(latest)), device=device)

    def per_token(self, config: TrainConfig) -> float:
        """Return the seconds per token; of a shape that has not run, from the shape that is nearest in FLOPs."""
        if known := self.by_cost.get(cost_of(config)):
            return self.level * known[1]
        mine = flops_at_peak(config, self.device)
        near, pace = min(
            self.by_cost.values(), key=lambda other: abs(math.log(flops_at_peak(other[0], self.device) / mine))
        )
        return self.level * pace * mine / flops_at_peak(near, self.device)

    def seconds(self, config: TrainConfig, *, iters: int | None = None) -> float:
        """Return the seconds of a whole run, or of `iters` iterations without the final evaluation."""
        return self.per_token(config) * tokens_of(config, self.data, iters=iters)

    def seconds_of(self, coming: Coming) -> float:
        """Return the expected seconds of a run that has not begun."""
        return coming.share * statistics.fmean(map(self.seconds, coming.configs))


def _pace_of(run: Run, data: DataFacts) -> float | None:
    """Return the seconds per token of a run; None: it has trained too little to tell."""
    if len(run.points) < 2 or run.points[-1].seconds <= 0:
        return None
    if run.outcome == Outcome.COMPLETE and run.seconds:
        return run.seconds / tokens_of(_from_its_start(run), data)
    iters = run.points[-1].step - run.points[0].step
    return run.points[-1].seconds / tokens_of(run.config, data, iters=iters)


def _from_its_start(run: Run) -> TrainConfig:
    """Return the config of a run as long as it trains: going on begins where the origin's run was halted."""
    return as_long_as(run.config, run.config.max_iters - (run.points[0].step if run.points else 0))


def to_come(study: Study, runs: Collection[Run], work: Workload, *, planned: int) -> list[Coming]:
    """Return the runs that have not begun, in their order; `planned` are the runs of the finished study.

    What the workload doesn't account for belongs to the confirm phase.
    """
    begun = Counter(run.phase if run.phase in (ORIGIN, RACE, "baseline") else run.origin for run in runs)
    piloted = sum(run.phase == PILOT and run.config.max_iters == work.baseline[0].max_iters for run in runs)
    designed = [*work.candidates[begun["candidate"] :], *work.one_at_a_time[begun[ONE_AT_A_TIME] :]]
    known = [
        *work.origin[begun[ORIGIN] :],
        *work.races[begun[RACE] :],
        *work.baseline[begun["baseline"] + piloted :],
        *designed,
    ]
    sampled = max(0, study.trials - sum(run.phase == "search" for run in runs) - len(designed))
    confirming = max(0, planned - len(runs) - len(known) - sampled)
    return [
        *(Coming(configs=[config]) for config in known),
        *[Coming(configs=work.space, share=_share_before_pruning(runs))] * sampled,
        *[Coming(configs=_confirmed(study, runs, work), share=CONFIRM_SHARE)] * confirming,
    ]


def _share_before_pruning(runs: Collection[Run]) -> float:
    """Return the mean share of its length that a sampled trial trains; a whole trial counts beside those so far."""
    sampled = [run for run in runs if run.origin == "sampler" and not run.unfinished and run.points]
    return (1 + sum(run.points[-1].step / run.config.max_iters for run in sampled)) / (1 + len(sampled))


def _confirmed(study: Study, runs: Collection[Run], work: Workload) -> Sequence[TrainConfig]:
    """Return the configs between which the confirm phase's lie: the baseline's and the best's, once trials have ended.

    Before, the best may be anywhere in the space.
    """
    best = best_of(runs, search=study.name)
    if best is None or not any(run.phase == "search" and not run.unfinished for run in runs):
        return work.space
    return [work.baseline[0], best.config]


def left_of(run: Run, pace: Pace, study: Study) -> float:
    """Return the seconds that an unfinished run still takes."""
    config, done = _from_its_start(run), 0.0
    if run.origin == GOING_ON and not run.points:
        config = as_long_as(config, study.iters)
    if run.points:
        done = pace.seconds(run.config, iters=run.points[-1].step - run.points[0].step)
    if run.phase == RACE and study.race is not None:
        here = run.points[-1].step if run.points else 0
        return max(0.0, pace.seconds(run.config, iters=_halted_at(here, study.race.iters, config.max_iters)) - done)
    return max(0.0, pace.seconds(config) - done)


def _halted_at(step: int, iters: int, longest: int) -> int:
    """Return where a race ends: at `iters`, or at twice as many for one that has passed them."""
    return min(iters if step < iters else 2 * iters, longest)


def time_left(
    unfinished: Collection[Run],
    coming: Sequence[Coming],
    pace: Pace | None,
    *,
    study: Study,
    workers: int,
    spent: float,
) -> float | None:
    """Return the seconds until the last run ends or the study's hours are over. None: nothing has been measured yet.

    `spent` are the seconds that the study has taken so far.
    """
    if pace is None:
        return None
    seconds = makespan(list(_costs(unfinished, coming, pace, study)), workers=workers)
    assert seconds is not None
    return seconds if study.hours is None else max(0.0, min(seconds, 3600 * study.hours - spent))


def _costs(unfinished: Collection[Run], coming: Sequence[Coming], pace: Pace, study: Study) -> Iterator[float | None]:
    yield from (left_of(run, pace, study) for run in unfinished)
    yield from map(pace.seconds_of, coming)
