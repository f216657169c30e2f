"""Branches beside the control: where their lead is going, how many times as fast they fall, what is left at equal time.

Sizes and proof are the confirm phase's, on final losses. This is what the curves add to them. All of it is paired by
seed, and all branches of a study share their evaluation windows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import ndtri, stdtrit

from sweeps.analysis.arms import BASELINE, Arm
from sweeps.analysis.contrasts import LEVEL, ROUNDING, Contrast, Sample, contrast
from sweeps.analysis.cost import complete, gain_at_equal_time, relative_seconds
from sweeps.analysis.evidence import Evidence, shape_of
from sweeps.analysis.traces import Trace, trace_of
from sweeps.pruning.plateau import evaluation_noise
from sweeps.store.records import Outcome, Results, Run
from sweeps.study.proposals import ONE_AT_A_TIME
from sweeps.study.start import Origin

_TWIN = "the twin without growth"
_BRANCH = "the grown branch"


@dataclass(frozen=True, kw_only=True)
class BranchFinding:
    """What the curves of one arm's branches add to its gain."""

    knob: str | None
    """the one knob that is changed; None: all that the best changes"""
    seeds: tuple[int, ...]
    """those at which the curves are paired with the control's"""
    trend: Contrast | None
    """nats per 100 iterations by which the lead over the control grows over the last third of the evaluations"""
    times_as_fast: float | None
    """what the branch falls as a multiple of what the control falls, from the evaluations at iteration 0 and at the
    end; None: the control isn't shown to fall"""
    time: float | None
    """time of a whole run relative to the control's, evaluations excluded; None: not measured"""
    at_equal_time: float | None
    """gain in nats when the branch is given the control's time alone; see `cost.gain_at_equal_time`"""

    @property
    def growing(self) -> bool | None:
        """Whether the lead still grows (True) or shrinks (False). None: neither is shown."""
        return direction(self.trend)


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The origin grown in width or depth, with dropout off, against the control with dropout off.

    Only the trend counts, and as a lower bound: new capacity takes longer than a branch to be filled, so the size says
    next to nothing.
    """

    knob: str
    value: int
    seeds: tuple[int, ...]
    trend: Contrast
    """as of BranchFinding, against the control without dropout"""

    @property
    def growing(self) -> bool | None:
        """Whether the lead still grows (True) or shrinks (False). None: neither is shown."""
        return direction(self.trend)


@dataclass(frozen=True, kw_only=True)
class Branches:
    """What the branches of a study show, and what they start from."""

    origin: Origin
    val_loss: float | None
    """of the origin, on a branch's evaluation windows, nats per token; None: not measured yet"""
    knobs: tuple[BranchFinding, ...]
    """one per knob that the best changes, in the study's order"""
    best: BranchFinding | None
    """None: the best is the control itself, or there is none yet"""
    growth: tuple[Growth, ...]

    def of(self, knob: str) -> BranchFinding | None:
        """Return the finding on one knob. None: the best doesn't change it."""
        return next((finding for finding in self.knobs if finding.knob == knob), None)


def direction(trend: Contrast | None) -> bool | None:
    """Return True for a trend whose interval lies above 0, False below 0. None: it holds 0, or there is none."""
    if trend is None or trend.low is None or trend.high is None:
        return None
    return True if trend.low > ROUNDING else False if trend.high < -ROUNDING else None


def branches(evidence: Evidence) -> Branches | None:
    """Return what the branches show. None: trials start from scratch, or the origin isn't known yet.

    The gain at equal time is that of `cost.gain_at_equal_time`.
    """
    origin, arms = evidence.study.origin, evidence.arms
    if origin is None:
        return None
    control = [run for run in evidence.runs(BASELINE) if run.points]
    single = [Arm(frozenset([knob])) for knob in arms.changed]
    samples = {arm: _slopes(evidence, arm) for arm in dict.fromkeys((BASELINE, *single, arms.winner))}
    findings = {arm: _finding(evidence, arm, samples) for arm in samples if arm.knobs}
    return Branches(
        origin=origin,
        val_loss=control[0].points[0].val_loss if control else origin.val_loss,
        knobs=tuple(findings[arm] for arm in single if arm in findings),
        best=findings.get(arms.winner),
        growth=tuple(_growth(evidence.results)),
    )


def _traces(runs: Mapping[int, Run], results: Results) -> dict[int, Trace]:
    """Return the traces of runs by seed, in iterations of the control."""
    if not runs:
        return {}
    assert results.reference is not None
    per_iter = results.reference.tokens_per_iter
    return {seed: trace_of(run, tokens_per_iter=per_iter) for seed, run in runs.items()}


def _slopes(evidence: Evidence, arm: Arm) -> Sample:
    """Return the slopes at the end of an arm's curves by seed, which can be contrasted like losses."""
    runs = complete(evidence, arm)
    shape = shape_of(next(iter(runs.values())).config) if runs else None
    return _slope_sample(_traces(runs, evidence.results), shape, runs)


def _slope_sample(traces: Mapping[int, Trace], shape: object, runs: Mapping[int, Run]) -> Sample:
    slopes = {seed: trace.slope(until=float(trace.places[-1])) for seed, trace in traces.items()}
    losses = {seed: value for seed, value in slopes.items() if value is not None}
    return Sample(losses=losses, shape=shape, kinds={seed: run.kind for seed, run in runs.items()})


def _finding(evidence: Evidence, arm: Arm, samples: Mapping[Arm, Sample]) -> BranchFinding:
    control, branch = complete(evidence, BASELINE), complete(evidence, arm)
    of_control, of_branch = _traces(control, evidence.results), _traces(branch, evidence.results)
    time = None
    if control and branch:
        time = relative_seconds(next(iter(branch.values())).config, next(iter(control.values())).config, evidence)
    gain = evidence.gain(arm, threshold=evidence.study.min_effect)
    trend = None
    if samples[BASELINE].losses and samples[arm].losses:
        known = {other: sample for other, sample in samples.items() if sample.losses}
        trend = contrast({BASELINE: 1, arm: -1}, known, pooled=len(arm.knobs) == 1)
    return BranchFinding(
        knob=next(iter(arm.knobs)) if len(arm.knobs) == 1 else None,
        seeds=tuple(sorted(control.keys() & branch.keys())),
        trend=trend,
        times_as_fast=times_as_fast(of_control, of_branch),
        time=time,
        at_equal_time=gain_at_equal_time(evidence, arm, gain=gain, seconds=time),
    )


def times_as_fast(control: Mapping[int, Trace], branch: Mapping[int, Trace]) -> float | None:
    """Return the branches' mean fall as a multiple of the control's, over the seeds that both have.

    None: there are no such seeds, or the control isn't shown to fall. It is if the one-sided 95 % bound of its mean
    fall over all of its seeds is above 0 (Student's t); with one seed, if the fall exceeds the noise of the difference
    of two evaluations.
    """
    shared = control.keys() & branch.keys()
    falls = [trace.fall for trace in control.values()]
    if not shared:
        return None
    if len(falls) > 1:
        reach = float(stdtrit(len(falls) - 1, 1 - LEVEL)) * statistics.stdev(falls) / math.sqrt(len(falls))
    else:
        (only,) = control.values()
        noise = evaluation_noise(only.losses.tolist())
        reach = math.inf if math.isnan(noise) else float(ndtri(1 - LEVEL)) * math.sqrt(2) * noise
    of_control = statistics.fmean(control[seed].fall for seed in shared)
    if statistics.fmean(falls) <= reach or of_control <= 0:
        return None
    return statistics.fmean(branch[seed].fall for seed in shared) / of_control


def _growth(results: Results) -> list[Growth]:
    """Return the findings on grown branches, in the order of the runs."""
    reference = results.reference
    if reference is None:
        return []
    complete = [run for run in results.runs if run.outcome == Outcome.COMPLETE and run.points]
    twins = {run.seed: run for run in complete if run.config == reference.replace(dropout=0.0, seed=run.seed)}
    grown: dict[tuple[str, int], dict[int, Run]] = {}
    for run in complete:
        if run.origin == ONE_AT_A_TIME and run.knob in results.study.grown and not run.config.dropout:
            grown.setdefault((run.knob, int(getattr(run.config, run.knob))), {})[run.seed] = run
    findings = []
    for (knob, value), runs in grown.items():
        # all start as the origin's own function and see the same batches, so seeds pair whatever the shape
        samples = {
            name: _slope_sample(_traces(by_seed, results), "branches", by_seed)
            for name, by_seed in ((_TWIN, twins), (_BRANCH, runs))
        }
        trend = contrast({_TWIN: 1, _BRANCH: -1}, samples) if all(each.losses for each in samples.values()) else None
        if trend is not None:
            findings.append(Growth(knob=knob, value=value, seeds=tuple(sorted(trend.differences)), trend=trend))
    return findings
