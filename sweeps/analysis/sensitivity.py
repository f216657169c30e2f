"""Sensitivity of a study: how far seeds differ at its horizon, and how large an effect must be to show."""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.analysis.noise import detectable, noise_of
from sweeps.store.records import Results


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The noise of the baseline's seeds and what follows from it. The fields are those of `noise` in `--json`."""

    sd: float
    """standard deviation of the baseline's final losses over seeds, nats per token"""
    seeds: int
    """seeds that it was measured on"""
    horizon: int
    """iterations of a trial with the baseline's batch"""
    detects: float | None
    """nats; the smallest effect that `confirm.seeds` seeds show to exceed min_effect in four of five cases (the formula
    is at `detectable`); None: the study has no confirm phase"""


def sensitivity(results: Results) -> Sensitivity | None:
    """Return the sensitivity of a study. None: under two of the baseline's seeds are complete, or they don't differ."""
    study, reference = results.study, results.reference
    losses = [run.val_loss for run in results.baseline_runs if run.val_loss is not None]
    sd = noise_of(losses).sd if losses else None
    if sd is None or reference is None:
        return None
    confirm = study.confirm
    return Sensitivity(
        sd=sd,
        seeds=len(losses),
        horizon=reference.max_iters,
        detects=detectable(sd, confirm.seeds, threshold=study.min_effect) if confirm.max_trials else None,
    )
