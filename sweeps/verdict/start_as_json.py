"""JSON of where a study starts, of its noise, of the courses of its branches, and of its races.

Every key is always there. What doesn't apply is null.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from sweeps.analysis.branches import BranchFinding
from sweeps.analysis.findings import Findings
from sweeps.analysis.races import RaceFinding
from sweeps.study.start import CheckpointStart
from sweeps.verdict.from_plateau import of_control


def start_keys(findings: Findings) -> dict[str, Any]:
    """Return the keys `start`, `noise` and `races` of a study's JSON."""
    return {
        "start": _start(findings),
        "noise": _noise(findings),
        "races": [_race(race) for race in findings.races],
    }


def with_protocols(verdict: dict[str, Any], findings: Findings) -> dict[str, Any]:
    """Return the JSON of a confirmed verdict with what the curves of branches add to each knob.

    `protocol` is branch or squeezed (short trials from scratch). Races have a list of their own, since their sizes
    can't be ranked with these.
    """
    branches = findings.branches
    protocol = "squeezed" if branches is None else "branch"
    knobs = [
        {**knob, "protocol": protocol, **_course(None if branches is None else branches.of(knob["name"]))}
        for knob in verdict["knobs"]
    ]
    why = verdict["why"] if branches is None else of_control([verdict["why"]])[0]
    return {**verdict, "why": why, "knobs": knobs}


def _start(findings: Findings) -> dict[str, Any]:
    """Return where trials start. `val_loss` is in nats per token, and so is what going on brings."""
    study, branches = findings.study, findings.branches
    kind = "train" if study.branches else "scratch"
    kind = "checkpoint" if isinstance(study.start, CheckpointStart) else kind
    if branches is None:
        unknown = dict.fromkeys(("step", "val_loss", "plateau", "since", "going_on"))
        return {"kind": kind, **unknown}
    origin = branches.origin
    return {
        "kind": kind,
        "step": origin.step,
        "val_loss": branches.val_loss,
        "plateau": origin.plateau,
        "since": origin.since,
        "going_on": origin.going_on,
    }


def _noise(findings: Findings) -> dict[str, Any]:
    """Return the fields of `Sensitivity`; `sd` and `detects` are null where the noise is unknown."""
    if findings.sensitivity is not None:
        return dataclasses.asdict(findings.sensitivity)
    reference = findings.results.reference
    seeds = len(findings.results.baseline_runs)
    return {"sd": None, "seeds": seeds, "horizon": None if reference is None else reference.max_iters, "detects": None}


def _course(finding: BranchFinding | None) -> dict[str, float | None]:
    """Return what the curves add to a knob: nats per 100 iterations, a multiple of the control's fall, nats."""
    return {
        "trend": None if finding is None or finding.trend is None else finding.trend.mean,
        "times_as_fast": None if finding is None else finding.times_as_fast,
        "at_equal_time": None if finding is None else finding.at_equal_time,
    }


def _race(race: RaceFinding) -> dict[str, Any]:
    """Return a race: `gap` in nats at `step`, above 0 is better; `params` and `seconds` relative to the origin's."""
    gap = race.gap
    known = gap is not None and gap.low is not None and gap.high is not None
    return {
        "change": {race.knob: race.value},
        "step": race.steps or None,
        "gap": None if gap is None else gap.mean,
        "ci": [gap.low, gap.high] if gap is not None and known else None,
        "growing": race.growing,
        "params": race.params,
        "seconds": race.seconds,
        "at_equal_time": race.at_equal_time,
        "n": len(race.seeds),
        "diverged": race.diverged,
    }
