"""Contrasts for tests: computed from short lists of losses, or with every field given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sweeps.analysis.contrasts import Contrast, Sample, contrast

GAIN = {"baseline": 1.0, "best": -1.0}
BASELINE, BEST = [4.11, 4.02, 4.2, 4.06, 4.13], [4.05, 3.99, 4.1, 4.045, 4.01]
BIMODAL = [0.41, 0.4, 0.02, 0.43, 0.01, 0.39, 0.42]
"""gains of seeds of which five broke through and two did not"""


def arm(losses: Sequence[float | None], *, shape: str = "a") -> Sample:
    """Return an arm with a loss per seed, from seed 0 on. None: no run."""
    return Sample(losses={seed: loss for seed, loss in enumerate(losses) if loss is not None}, shape=shape)


def contrast_of(
    weights: dict[str, float], samples: dict[str, Sample], *, threshold: float = 0.0, looks: float = 1.0
) -> Contrast:
    """Return a contrast that must exist."""
    effect = contrast(weights, samples, threshold=threshold, looks=looks)
    assert effect is not None
    return effect


def of_gains(gains: Sequence[float], threshold: float) -> Contrast:
    """Return the contrast of two arms whose differences by seed are `gains`."""
    samples = {"baseline": arm([4 + gain for gain in gains]), "best": arm([4.0] * len(gains))}
    return contrast_of(GAIN, samples, threshold=threshold)


def by_hand(**changes: Any) -> Contrast:
    """Return a contrast with given fields; `changes` replace them."""
    fields: dict[str, Any] = {
        "differences": {0: 0.1, 1: 0.1},
        "mean": 0.1,
        "se": 0.02,
        "degrees": 4.0,
        "low": 0.04,
        "high": 0.16,
        "lower": 0.06,
        "upper": 0.14,
        "threshold": 0.02,
        "p": 0.01,
        "method": "layout",
    }
    return Contrast(**{**fields, **changes})
