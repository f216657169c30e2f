"""Sensitivity of a study: how noisy its comparisons are at its horizon, and how large an effect must be to show."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from sweeps.analysis.arms import BASELINE, Arm
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.noise import detectable, noise_of, pooled_sd


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


def sensitivity(evidence: Evidence) -> Sensitivity | None:
    """Return the sensitivity of a study. None: under two of the baseline's seeds are complete, or they don't differ."""
    results = evidence.results
    study, reference = results.study, results.reference
    losses = [run.val_loss for run in results.baseline_runs if run.val_loss is not None]
    of_losses = noise_of(losses).sd if losses else None
    sd = paired_sd(evidence) if study.branches else of_losses
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
    branches = [evidence.losses(Arm(frozenset([knob]))) for knob in evidence.arms.changed]
    differences = [[control[seed] - branch[seed] for seed in control.keys() & branch.keys()] for branch in branches]
    sd, _ = pooled_sd(differences)
    if sd is not None:
        return sd
    return math.sqrt(2) * statistics.stdev(control.values()) if len(control) > 1 else None
