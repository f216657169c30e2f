"""The greedy ablation path from the baseline to the best trial (Fawcett & Hoos 2016, J. Heuristics 22), in real runs.

From the baseline on, the knob is changed that lowers the loss most given those changed already. What is left when the
best's loss is reached, or where every knob left is known to matter little, is changed together in the last step.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sweeps.arms import BASELINE, Arm
from sweeps.evidence import Evidence


@dataclass(frozen=True, kw_only=True)
class Path:
    """How far the path is known."""

    arms: tuple[Arm, ...]
    """the baseline first; the best last, once it is complete"""
    missing: tuple[Arm, ...]
    """alternatives of the next step that have no loss at `seed`; empty: complete, or it can't go on"""
    seed: int | None
    """the steps are chosen at this seed, and at all others that the alternatives share"""


def ablation_path(evidence: Evidence, *, idle: Collection[str], reached: float) -> Path:
    """The path by the runs there are. `idle` knobs are left for the last step; so is what is left once the loss is
    within `reached` nats of the best's."""
    winner, taken = evidence.arms.winner, [BASELINE]
    best, base = evidence.losses(winner), evidence.losses(BASELINE)
    seed = min((each for each in best if each in base), default=None)
    if seed is None or not winner.knobs:
        return Path(arms=(BASELINE,), missing=(), seed=seed)
    left = [knob for knob in evidence.arms.changed if knob not in idle]
    while left and mean_difference(evidence.losses(taken[-1]), best) > reached:
        steps = [Arm(taken[-1].knobs | {knob}) for knob in left]
        steps = [arm for arm in steps if evidence.arms.config(arm) is not None]
        missing = [arm for arm in steps if evidence.run(arm, seed) is None]
        if missing:
            return Path(arms=tuple(taken), missing=tuple(missing), seed=seed)
        found = {arm: evidence.losses(arm) for arm in steps if seed in evidence.losses(arm)}
        if not found:
            break
        taken.append(lowest(found))
        left = [knob for knob in left if knob not in taken[-1].knobs]
    if taken[-1] != winner:
        taken.append(winner)
    return Path(arms=tuple(taken), missing=(), seed=seed)


def lowest(found: Mapping[Arm, Mapping[int, float]]) -> Arm:
    """The arm with the lowest mean loss over the seeds that all have."""
    shared = set.intersection(*(set(losses) for losses in found.values()))
    return min(found, key=lambda arm: statistics.fmean(found[arm][seed] for seed in shared))


def mean_difference(one: Mapping[int, float], other: Mapping[int, float]) -> float:
    """Mean of one - other over shared seeds, nats; infinite where there is none."""
    shared = one.keys() & other.keys()
    return statistics.fmean(one[seed] - other[seed] for seed in shared) if shared else math.inf
