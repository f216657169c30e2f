"""The greedy ablation path from the baseline to the best trial (Fawcett & Hoos 2016, J. Heuristics 22), in real runs.

From the baseline on, the knob is changed that lowers the loss most given those changed already. What is left when the
best's loss is reached, or where every knob left is known to matter little, is changed together in the last step.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sweeps.analysis.arms import BASELINE, Arm
from sweeps.analysis.attribution import KnobVerdict, KnobWord, PathStep
from sweeps.analysis.evidence import Evidence


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


def path_to_best(evidence: Evidence, knobs: Collection[KnobVerdict]) -> Path:
    """The ablation path, without the knobs that are shown, or seem, to matter little."""
    floor = evidence.study.confirm.min_effect
    idle = [
        knob.knob for knob in knobs if knob.word in (KnobWord.NO_EFFECT, KnobWord.HURTS) or _seems_idle(knob, floor)
    ]
    return ablation_path(evidence, idle=idle, reached=floor)


def _seems_idle(knob: KnobVerdict, floor: float) -> bool:
    """Whether it neither gains alone nor is missed by the best, as far as their means tell."""
    return all(each is not None and each.mean < floor for each in (knob.alone, knob.reset))


def _steps(evidence: Evidence, path: Path) -> tuple[PathStep, ...]:
    steps = []
    for before, arm in zip((None, *path.arms), path.arms, strict=False):
        added = evidence.arms.in_order(arm.knobs - before.knobs) if before is not None else []
        steps.append(
            PathStep(
                knob=added[0] if len(added) == 1 else None,
                rest=tuple(added) if len(added) > 1 else (),
                losses=dict(evidence.losses(arm)),
                drop=None if before is None else evidence.contrast((1, before), (-1, arm)),
            )
        )
    return tuple(steps)
