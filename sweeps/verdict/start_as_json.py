"""JSON of where a study starts, of its noise, of the courses of its branches, and of its races.

Every key is always there. What doesn't apply is null.
"""

from __future__ import annotations

from sweeps.analysis.findings import Findings
from sweeps.analysis.races import RaceFinding
from sweeps.outputs import CourseJson, NoiseJson, RaceJson, StartJson
from sweeps.study.start import CheckpointStart


def start_of(findings: Findings) -> StartJson:
    """Return where trials start. `val_loss` is in nats per token, and so is what going on brings."""
    study, branches = findings.study, findings.branches
    kind = "train" if study.branches else "scratch"
    kind = "checkpoint" if isinstance(study.start, CheckpointStart) else kind
    if branches is None:
        return {"kind": kind, "step": None, "val_loss": None, "plateau": None, "since": None, "going_on": None}
    origin = branches.origin
    return {
        "kind": kind,
        "step": origin.step,
        "val_loss": branches.val_loss,
        "plateau": origin.plateau,
        "since": origin.since,
        "going_on": origin.going_on,
    }


def noise_of(findings: Findings) -> NoiseJson:
    """Return the fields of `Sensitivity`; `sd` and `detects` are null where the noise is unknown."""
    known, reference = findings.sensitivity, findings.results.reference
    if known is not None:
        return {"sd": known.sd, "seeds": known.seeds, "horizon": known.horizon, "detects": known.detects}
    seeds = len(findings.results.baseline_runs)
    return {"sd": None, "seeds": seeds, "horizon": None if reference is None else reference.max_iters, "detects": None}


def course(findings: Findings, knob: str) -> CourseJson:
    """Return what the curves of branches add to a knob."""
    finding = None if findings.branches is None else findings.branches.of(knob)
    return {
        "protocol": "squeezed" if findings.branches is None else "branch",
        "trend": None if finding is None or finding.trend is None else finding.trend.mean,
        "times_as_fast": None if finding is None else finding.times_as_fast,
        "at_equal_time": None if finding is None else finding.at_equal_time,
    }


def race_as_json(race: RaceFinding) -> RaceJson:
    """Return a race: `gap` in nats at `step`, above 0 is better; `params` and `seconds` relative to the origin's."""
    gap = race.gap
    return {
        "change": {race.knob: race.value},
        "step": race.steps or None,
        "gap": None if gap is None else gap.mean,
        "ci": None if gap is None or gap.low is None or gap.high is None else [gap.low, gap.high],
        "growing": race.growing,
        "params": race.params,
        "seconds": race.seconds,
        "at_equal_time": race.at_equal_time,
        "n": len(race.seeds),
        "diverged": race.diverged,
    }
