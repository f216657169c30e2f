"""Cost of an arm beside the baseline: parameters, time and memory of a run, and the gain that is left at equal time."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from sweeps.analysis.arms import BASELINE, Arm
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.speeds import relative_time
from sweeps.analysis.traces import Trace, trace_of
from sweeps.store.records import Outcome, Run
from trainer.config import TrainConfig
from trainer.machine.memory import needed
from trainer.model.size import parameters


@dataclass(frozen=True, kw_only=True)
class ArmCost:
    """What an arm costs as a multiple of the baseline."""

    parameters: float
    seconds: float | None
    """of a whole run, evaluations excluded; None: not measured"""
    memory: float
    """at the peak, estimated by trainer.machine.memory for the same micro-batch"""
    at_equal_time: float | None
    """gain in nats when the arm is given the baseline's time alone; None: no gain, no time or no curve is known"""


def cost_of(evidence: Evidence, arm: Arm, *, gain: Contrast | None) -> ArmCost | None:
    """Return what an arm costs. None: the arm or the baseline has no run yet."""
    runs, reference = evidence.runs(arm), evidence.results.reference
    if not runs or reference is None:
        return None
    config = runs[0].config
    seconds = relative_seconds(config, reference, evidence)
    return ArmCost(
        parameters=parameters(config) / parameters(reference),
        seconds=seconds,
        memory=memory_ratio(config, reference, device=runs[0].device),
        at_equal_time=gain_at_equal_time(evidence, arm, gain=gain, seconds=seconds),
    )


def memory_ratio(config: TrainConfig, reference: TrainConfig, *, device: str) -> float:
    """Return the peak memory of a config as a multiple of another's, on the kind of device that ran it."""
    kind = "cpu" if device.startswith("cpu") else "cuda"
    mixed = kind == "cuda" and config.dtype != "float32"
    peak, other = (needed(each, kind=kind, mixed=mixed).total for each in (config, reference))
    return peak / other


def relative_seconds(config: TrainConfig, reference: TrainConfig, evidence: Evidence) -> float | None:
    """Return the time of a whole run as a multiple of another's. None: one of the speeds was not measured."""
    per_token = relative_time(config, reference, evidence.speeds)
    tokens, others = (each.max_iters * each.tokens_per_iter for each in (config, reference))
    return None if per_token is None else per_token * tokens / others


def gain_at_equal_time(evidence: Evidence, arm: Arm, *, gain: Contrast | None, seconds: float | None) -> float | None:
    """Return the gain in nats when the arm is given the baseline's time alone.

    An arm that takes s times as long has done 1/s of its run when the baseline ends. What it falls after that is taken
    off its gain. It hasn't annealed there, so this errs on the safe side. An arm that is faster than the baseline
    counts with its whole gain, and no more. None: no gain, no time, or no curve.
    """
    reference = evidence.results.reference
    if gain is None or seconds is None or reference is None:
        return None
    traces = [trace_of(run, tokens_per_iter=reference.tokens_per_iter) for run in complete(evidence, arm).values()]
    if seconds <= 1 or not traces:
        return gain.mean if seconds <= 1 else None
    return gain.mean - statistics.fmean(_falls_after(trace, 1 / seconds) for trace in traces)


def complete(evidence: Evidence, arm: Arm = BASELINE) -> dict[int, Run]:
    """Return the arm's complete runs with a curve, by seed."""
    return {run.seed: run for run in evidence.runs(arm) if run.outcome == Outcome.COMPLETE and run.points}


def _falls_after(trace: Trace, share: float) -> float:
    """Return what a run falls after this share of its training, nats."""
    return trace.at(share * float(trace.places[-1])) - float(trace.losses[-1])
