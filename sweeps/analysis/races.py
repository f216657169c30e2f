"""Races: runs from scratch with one change each, under the origin's own schedule, against the origin's own curve.

Both are cut off at the same step of one schedule, so the rate is the same on both sides and nothing is annealed. Runs
of one shape share their initial weights and batches by seed and are paired. A change of shape makes other weights, so
such races are compared as two samples.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeps.analysis.branches import direction
from sweeps.analysis.contrasts import Contrast, Sample, contrast
from sweeps.analysis.cost import memory_ratio
from sweeps.analysis.evidence import shape_of
from sweeps.analysis.reference import ReferenceCurve
from sweeps.analysis.speeds import Speeds, relative_time, speeds
from sweeps.analysis.traces import trace_of
from sweeps.store.records import Outcome, Results, Run
from sweeps.study.baseline import Value
from sweeps.study.origin_runs import ORIGIN, RACE
from trainer.config import TrainConfig
from trainer.model.size import parameters

Change = tuple[str, Value]
"""nanoGPT's name and the raced value"""
_LOST = (Outcome.DIVERGED, Outcome.INFEASIBLE)


@dataclass(frozen=True, kw_only=True)
class RaceFinding:
    """One change from scratch against the origin."""

    knob: str
    value: Value
    seeds: tuple[int, ...]
    """of the change, without those that diverged"""
    gaps: Mapping[int, Contrast]
    """by step, at each evaluation that both sides share: the origin's loss - the race's, nats; above 0 is better"""
    trend: Contrast | None
    """nats per 100 iterations by which the gap grows over its last third"""
    params: float
    """parameters relative to the origin's"""
    seconds: float | None
    """time to the same step relative to the origin's, evaluations excluded; None: not measured"""
    memory: float
    """at the peak, relative to the origin's; estimated for the same micro-batch"""
    at_equal_time: float | None
    """gap where the slower side is read at the faster one's last moment, nats"""
    diverged: int
    """seeds at which it diverged or did not fit"""

    @property
    def steps(self) -> int:
        """The last evaluation that both sides share, iterations; 0: there is none."""
        return max(self.gaps, default=0)

    @property
    def gap(self) -> Contrast | None:
        """The gap there."""
        return self.gaps.get(self.steps)

    @property
    def growing(self) -> bool | None:
        """Whether the gap grows (True) or closes (False) at the end. None: neither is shown."""
        return direction(self.trend)


def races(results: Results, *, reference: ReferenceCurve | None = None) -> tuple[RaceFinding, ...]:
    """Return a finding per change, in the order of the runs. Empty: nothing is raced, or no race has begun.

    The other side is `reference` where it is given: the curve of a log. Else it is the origin's own run on its seed and
    the unchanged races on others. Without any of these, findings have no gaps.
    """
    runs = [run for run in results.runs if run.origin in (ORIGIN, RACE)]
    origin = {seed: run for seed, run in results.origin_by_seed.items() if _counts(run)}
    config = next((run.config for run in origin.values()), None)
    if config is None and results.study.origin is not None:
        config = results.study.origin.config
    if config is None:
        return ()
    started: dict[Change, list[Run]] = {}
    for run in runs:
        if run.knob is not None:
            started.setdefault((run.knob, getattr(run.config, run.knob)), []).append(run)
    changes = {change: {run.seed: run for run in of_change if _counts(run)} for change, of_change in started.items()}
    track = _Track(origin=origin, changes=changes, reference=reference)
    measured = speeds(runs)
    return tuple(_finding(change, started[change], track, config=config, measured=measured) for change in changes)


def _counts(run: Run) -> bool:
    return bool(run.points) and run.outcome not in _LOST


def _finding(
    change: Change, started: Sequence[Run], track: _Track, *, config: TrainConfig, measured: Speeds
) -> RaceFinding:
    changed = started[0].config
    time = relative_time(changed, config, measured)
    at_steps = {step: track.gap(change, step) for step in track.steps(change)}
    gaps = {step: gap for step, gap in at_steps.items() if gap is not None}
    last = max(gaps, default=0)
    left = None
    if last and time is not None:
        left = track.loss_at(min(1.0, time) * last) - _mean_at(track.changes[change], min(1.0, 1 / time) * last)
    return RaceFinding(
        knob=change[0],
        value=change[1],
        seeds=tuple(sorted(track.changes[change])),
        gaps=gaps,
        trend=track.trend(change, until=last) if last else None,
        params=parameters(changed) / parameters(config),
        seconds=time,
        memory=memory_ratio(changed, config, device=started[0].device),
        at_equal_time=left,
        diverged=sum(run.outcome in _LOST for run in started),
    )


@dataclass(frozen=True, kw_only=True)
class _Track:
    """All races of a study and what they run against."""

    origin: Mapping[int, Run]
    """the origin's own runs by seed"""
    changes: Mapping[Change, Mapping[int, Run]]
    reference: ReferenceCurve | None
    """a log's curve, in place of the origin's runs"""

    def steps(self, change: Change) -> list[int]:
        """Return the steps of the evaluations that both sides share, without the one before the first update."""
        raced = _shared_steps(self.changes[change]) - {0}
        if self.reference is not None:
            return sorted(step for step in raced if self.reference.covers(step))
        return sorted(raced & _shared_steps(self.origin))

    def gap(self, change: Change, step: int) -> Contrast | None:
        """Return the origin's loss - the change's, at a step."""
        losses = {raced: _losses(runs, step) for raced, runs in self.changes.items()}
        if self.reference is not None:
            return self.reference.gap(losses.pop(change), list(losses.values()), step=step)
        return self._contrast(change, losses, _losses(self.origin, step))

    def trend(self, change: Change, *, until: int) -> Contrast | None:
        """Return how much faster the change falls over the last third of the steps, nats per 100 iterations."""
        slopes = {raced: _slopes(runs, until) for raced, runs in self.changes.items()}
        if self.reference is not None:
            return self.reference.slope_gap(slopes.pop(change), list(slopes.values()), until=until)
        return self._contrast(change, slopes, _slopes(self.origin, until))

    def loss_at(self, step: float) -> float:
        """Return the origin's loss at a step, over its seeds."""
        return _mean_at(self.origin, step) if self.reference is None else self.reference.at(step)

    def _contrast(
        self, change: Change, values: Mapping[Change, Mapping[int, float]], of_origin: Mapping[int, float]
    ) -> Contrast | None:
        """Return the origin's values by seed - the change's. The other races of its shape help to tell the noise."""
        samples: dict[Change | None, Sample] = {None: _sample(of_origin, self.origin)}
        samples |= {raced: _sample(by_seed, self.changes[raced]) for raced, by_seed in values.items() if by_seed}
        if not of_origin or change not in samples:
            return None
        return contrast({None: 1, change: -1}, samples)


def _sample(values: Mapping[int, float], runs: Mapping[int, Run]) -> Sample:
    shape = next((shape_of(run.config) for run in runs.values()), None)
    return Sample(losses=values, shape=shape, kinds={seed: run.kind for seed, run in runs.items()})


def _shared_steps(runs: Mapping[int, Run]) -> set[int]:
    """Return the steps at which every run was evaluated."""
    steps = [{point.step for point in run.points} for run in runs.values()]
    return set.intersection(*steps) if steps else set()


def _losses(runs: Mapping[int, Run], step: int) -> dict[int, float]:
    """Return the finite losses by seed at an evaluation."""
    points = ((seed, point) for seed, run in runs.items() for point in run.points if point.step == step)
    return {seed: point.val_loss for seed, point in points if math.isfinite(point.val_loss)}


def _slopes(runs: Mapping[int, Run], until: int) -> dict[int, float]:
    """Return the slopes by seed over the last third up to a step, nats per 100 iterations."""
    traces = {seed: trace_of(run, tokens_per_iter=run.config.tokens_per_iter) for seed, run in runs.items()}
    slopes = {seed: trace.slope(until=until) for seed, trace in traces.items()}
    return {seed: value for seed, value in slopes.items() if value is not None}


def _mean_at(runs: Mapping[int, Run], step: float) -> float:
    """Return the mean loss at a step over seeds, linear between evaluations."""
    traces = [trace_of(run, tokens_per_iter=run.config.tokens_per_iter) for run in runs.values()]
    return statistics.fmean(trace.at(step) for trace in traces)
