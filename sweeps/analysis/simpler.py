"""A simpler config than the search's best: one knob, the top pair, or all but a knob that hurts alone.

Some of the best trial's changes came along by chance, and some do harm. Where fewer changes are shown to gain, and gain
more, the verdict is about these. The confirm phase doesn't look at this: it goes on asking about the search's best.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from sweeps.analysis.arms import Arm
from sweeps.analysis.attribution import Attribution, KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.significance import shown
from sweeps.analysis.words import is_refuted


def with_fewer_changes(attribution: Attribution, evidence: Evidence) -> Attribution:
    """Return the verdict about the fewer changes that gain more than the search's best, or else the same verdict."""
    if not attribution.broken or attribution.fewer:
        return attribution
    assert attribution.effect is not None
    whole = attribution.effect.mean
    better = [
        (arm, gain)
        for arm, gain in _alternatives(attribution, evidence)
        if gain.mean > whole and gain.n > 1 and not _fails(evidence, arm)
    ]
    if not better:
        return attribution
    arm, gain = max(better, key=lambda each: each[1].mean)
    return dataclasses.replace(
        attribution,
        best=next(run for run in evidence.runs(arm) if run.val_loss is not None),
        change=tuple(knob.knob for knob in attribution.knobs if knob.knob in arm.knobs),
        effect=gain,
        lasting=evidence.lasting(arm),
        seeds=tuple(sorted(evidence.losses(arm))),
    )


def _alternatives(attribution: Attribution, evidence: Evidence) -> Iterator[tuple[Arm, Contrast]]:
    """Yield the arms with fewer changes that are shown to gain, with their gains."""
    if len(attribution.knobs) > 1:
        for knob in attribution.knobs:
            if knob.word is KnobWord.ALONE and knob.alone is not None:
                yield Arm(frozenset([knob.knob])), knob.alone
            without = evidence.arms.without(knob.knob)
            gain = evidence.gain(without, threshold=attribution.min_effect) if knob.word is KnobWord.HURTS else None
            if gain is not None and shown(gain):
                yield without, gain
    pair = attribution.pair
    if pair is not None and len(attribution.knobs) > len(pair.knobs) and shown(pair.both):
        yield Arm(frozenset(pair.knobs)), pair.both


def _fails(evidence: Evidence, arm: Arm) -> bool:
    """Whether a run of the arm has no loss, or its gain is shown to be a head start."""
    return evidence.without_loss(arm) > 0 or is_refuted(evidence.lasting(arm))
