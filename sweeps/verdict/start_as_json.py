"""JSON of where a study starts, of its noise, of the courses of its branches, and of its races.

Every key is always there. What doesn't apply is null.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

from sweeps.analysis.arms import BASELINE, Arm
from sweeps.analysis.branches import BranchFinding
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.findings import Findings
from sweeps.analysis.noise import standard_errors_to_show
from sweeps.analysis.races import RaceFinding
from sweeps.analysis.significance import P_MULTIPLIER
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
    """Return the noise of a comparison, nats, and the smallest effect that the confirm phase is made to show.

    From scratch, `sd` is that of the baseline's final losses over `seeds`. In a study of branches it is that of the
    differences between the control and other branches at one seed, and `seeds` counts those of the control.
    """
    study, baseline, reference = findings.study, findings.screening.baseline, findings.results.reference
    of_losses = None if baseline is None else baseline.sd
    sd = paired_sd(findings.evidence) if study.branches else of_losses
    smallest = None
    if sd is not None:
        smallest = detects(sd, seeds=study.confirm.seeds, min_effect=study.min_effect, paired=study.branches)
    return {
        "sd": sd,
        "seeds": 0 if baseline is None else baseline.seeds,
        "horizon": None if reference is None else reference.max_iters,
        "detects": smallest,
    }


def paired_sd(evidence: Evidence) -> float | None:
    """Return the standard deviation of control - branch at one seed, pooled over the knobs changed alone, nats.

    Before any knob has run at two of the control's seeds it is sqrt(2) times the sd of the control's losses, as if
    pairing bought nothing. None: the control has a single seed.
    """
    control = evidence.losses(BASELINE)
    squares, degrees = 0.0, 0
    for knob in evidence.arms.changed:
        branch = evidence.losses(Arm(frozenset([knob])))
        differences = [control[seed] - branch[seed] for seed in control.keys() & branch.keys()]
        if len(differences) > 1:
            squares += statistics.variance(differences) * (len(differences) - 1)
            degrees += len(differences) - 1
    if degrees:
        return math.sqrt(squares / degrees)
    return math.sqrt(2) * statistics.stdev(control.values()) if len(control) > 1 else None


def detects(sd: float, *, seeds: int, min_effect: float, paired: bool) -> float:
    """Return the smallest true effect, in nats, that `seeds` seeds show with a chance of 80 %.

    An effect is shown if its mean exceeds `min_effect` by t(1 - 0.05/2.5, df) standard errors, 2.5 being the factor on
    every p-value. With a true effect of `min_effect + d * se` the mean, in standard errors above `min_effect`, has the
    noncentral t distribution with noncentrality d. So the smallest effect is `min_effect + d * se` with the d for which
    80 % of that distribution lie above t(1 - 0.05/2.5, df). Paired: `sd` is that of the differences, se = sd / sqrt(n),
    df = n - 1. Unpaired: `sd` is that of either side's losses, se = sd * sqrt(2/n), df = 2n - 2. This holds for one
    comparison: Holm's correction over several knobs asks for more.
    """
    df = seeds - 1 if paired else 2 * seeds - 2
    se = sd * math.sqrt((1 if paired else 2) / seeds)
    return min_effect + standard_errors_to_show(df, looks=P_MULTIPLIER) * se


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
