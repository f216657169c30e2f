"""JSON of where a study starts, of its noise, of the courses of its branches, and of its races.

Every key is always there. What doesn't apply is null.
"""

from __future__ import annotations

import math
import statistics

from sweeps.analysis.arms import BASELINE, Arm
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.findings import Findings
from sweeps.analysis.noise import standard_errors_to_show
from sweeps.analysis.races import RaceFinding
from sweeps.analysis.significance import P_MULTIPLIER
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
