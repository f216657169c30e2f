"""Sensitivity of a study: how noisy its comparisons are at its horizon, and how large an effect must be to show."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from sweeps.analysis.arms import BASELINE, Arm
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.noise import detectable, noise_of
from sweeps.store.records import Results


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The noise between seeds and what follows from it. The fields are those of `noise` in `--json`."""

    sd: float
    """nats per token; from scratch the standard deviation of the baseline's final losses over seeds, in a study of
    branches that of the differences between the control and other branches at one seed"""
    seeds: int
    """seeds of the baseline, or of the control"""
    horizon: int
    """iterations of a trial with the baseline's batch"""
    detects: float | None
    """nats; the smallest effect that `confirm.seeds` seeds show to exceed min_effect in four of five cases (the formula
    is at `detectable`); None: the study has no confirm phase"""


def sensitivity(results: Results) -> Sensitivity | None:
    """Return the sensitivity of a study. None: under two of the baseline's seeds are complete, or they don't differ."""
    study, reference = results.study, results.reference
    losses = [run.val_loss for run in results.baseline_runs if run.val_loss is not None]
    of_losses = noise_of(losses).sd if losses else None
    sd = paired_sd(Evidence(results)) if study.branches else of_losses
    if sd is None or reference is None:
        return None
    confirm = study.confirm
    alike = sd / math.sqrt(2) if study.branches else sd  # of losses that differ as much
    return Sensitivity(
        sd=sd,
        seeds=len(losses),
        horizon=reference.max_iters,
        detects=detectable(alike, confirm.seeds, threshold=study.min_effect) if confirm.max_trials else None,
    )


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
