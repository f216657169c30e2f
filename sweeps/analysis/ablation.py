"""The greedy ablation path from the baseline to the best trial, in real runs (Fawcett and Hoos 2016, J. Heuristics 22).

Each step changes the knob that lowers the loss most, given the knobs already changed. The last step changes all other
knobs together, once the best's loss is reached or every other knob is known to matter little.
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
    """The part of the path that the runs determine."""

    arms: tuple[Arm, ...]
    """the baseline first; the best last, once the path is complete"""
    missing: tuple[Arm, ...]
    """alternatives of the next step that have no run at `seed`; empty: the path is complete, or it can't go on"""
    seed: int | None
    """steps are chosen at this seed, and at all others that the alternatives share"""


def ablation_path(evidence: Evidence, *, idle: Collection[str], reached: float) -> Path:
    """Return the path as far as the runs determine it.

    `idle` knobs wait for the last step, and so do all others once the loss is within `reached` nats of the best's.
    """
    winner, arms = evidence.arms.winner, [BASELINE]
    best, base = evidence.losses(winner), evidence.losses(BASELINE)
    seed = min((seed for seed in best if seed in base), default=None)
    if seed is None or not winner.knobs:
        return Path(arms=(BASELINE,), missing=(), seed=seed)
    unchanged = [knob for knob in evidence.arms.changed if knob not in idle]
    while unchanged and mean_difference(evidence.losses(arms[-1]), best) > reached:
        alternatives = [Arm(arms[-1].knobs | {knob}) for knob in unchanged]
        alternatives = [arm for arm in alternatives if evidence.arms.config(arm) is not None]
        missing = [arm for arm in alternatives if evidence.run(arm, seed) is None]
        if missing:
            return Path(arms=tuple(arms), missing=tuple(missing), seed=seed)
        losses = {arm: evidence.losses(arm) for arm in alternatives if seed in evidence.losses(arm)}
        if not losses:
            break
        arms.append(lowest(losses))
        unchanged = [knob for knob in unchanged if knob not in arms[-1].knobs]
    if arms[-1] != winner:
        arms.append(winner)
    return Path(arms=tuple(arms), missing=(), seed=seed)


def lowest(losses: Mapping[Arm, Mapping[int, float]]) -> Arm:
    """Return the arm with the lowest mean loss over the seeds that all arms share."""
    shared = set.intersection(*(set(by_seed) for by_seed in losses.values()))
    return min(losses, key=lambda arm: statistics.fmean(losses[arm][seed] for seed in shared))


def mean_difference(losses: Mapping[int, float], others: Mapping[int, float]) -> float:
    """Return the mean of losses - others over shared seeds, nats. Infinite if they share none."""
    shared = losses.keys() & others.keys()
    return statistics.fmean(losses[seed] - others[seed] for seed in shared) if shared else math.inf


def path_to_best(evidence: Evidence, knobs: Collection[KnobVerdict]) -> Path:
    """Return the ablation path on which the knobs that matter little wait for the last step."""
    min_effect = evidence.study.min_effect
    idle = [knob.knob for knob in knobs if matters_little(knob, min_effect)]
    return ablation_path(evidence, idle=idle, reached=min_effect)


def matters_little(knob: KnobVerdict, min_effect: float) -> bool:
    """Whether the knob is shown to matter little, or gains and loses less than `min_effect` on average."""
    if knob.word in (KnobWord.NO_EFFECT, KnobWord.HURTS):
        return True
    return all(contrast is not None and contrast.mean < min_effect for contrast in (knob.alone, knob.reset))


def path_steps(evidence: Evidence, path: Path) -> tuple[PathStep, ...]:
    """Return what each step of the path changes, and by how much the loss drops."""
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
