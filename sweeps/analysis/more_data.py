"""Amounts of data: what it costs the baseline to train on part of the data (the knob `data_fraction`).

Runs on part of the data have the baseline's seeds, so the same initial weights but other batches. They are compared as
two samples. What less data costs is measured; what more data than there is would gain is only extrapolated.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.analysis.contrasts import Contrast, Sample, contrast
from sweeps.store.records import Results
from sweeps.study.knobs import DATA
from trainer.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Amount:
    """The baseline on another amount of the data."""

    fraction: float
    """share of the training tokens"""
    epochs: float
    """of its runs"""
    seeds: int
    """number of complete runs, each on its own seed"""
    gain: Contrast | None
    """loss with less data - loss with more data, against min_effect; above it, data helps. None: no runs to compare"""


def amounts(results: Results) -> tuple[Amount, ...]:
    """Return the amounts that the study tries, the largest first. Empty: it does not sweep them, or has no baseline."""
    reference, knob = results.reference, results.study.knobs.get(DATA)
    if reference is None or knob is None:
        return ()
    tried = sorted({*map(float, knob.ends().values()), reference.data_fraction}, reverse=True)
    samples = {fraction: _sample(results, reference.replace(data_fraction=fraction)) for fraction in tried}
    base, min_effect = reference.data_fraction, results.study.min_effect
    return tuple(
        Amount(
            fraction=fraction,
            epochs=results.data.epochs(reference.replace(data_fraction=fraction)),
            seeds=len(samples[fraction].losses),
            gain=_gain(samples, less=min(fraction, base), more=max(fraction, base), min_effect=min_effect),
        )
        for fraction in tried
        if fraction != base
    )


def _sample(results: Results, config: TrainConfig) -> Sample:
    """Return a config's final losses by seed. Another amount of data makes other batches, so nothing is paired."""
    runs = (run for run in results.runs if run.val_loss is not None and run.config == config.replace(seed=run.seed))
    return Sample(losses={run.seed: run.val_loss for run in runs if run.val_loss is not None}, shape=config)


def _gain(samples: dict[float, Sample], *, less: float, more: float, min_effect: float) -> Contrast | None:
    if not samples[less].losses or not samples[more].losses:
        return None
    return contrast({less: 1, more: -1}, samples, threshold=min_effect)
