"""A simpler config than the search's best: one knob, or the top pair, that gains more than all changes together.

Some of the best trial's changes came along by chance, and some do harm. Where fewer changes are shown to gain and end
lower on the seeds that both have, the verdict is about these. The confirm phase doesn't look at this: it goes on asking
about the search's best.
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

_FEWEST = 2
"""seeds that both configs have"""


def with_fewer_changes(attribution: Attribution, evidence: Evidence) -> Attribution:
    """Return the verdict about the knob or pair that ends lower than the search's best, or else the same verdict."""
    if not attribution.broken or attribution.fewer:
        return attribution
    lower = [(_more(evidence, arm), arm, gain) for arm, gain in _alternatives(attribution)]
    better = [(more, arm, gain) for more, arm, gain in lower if more > 0]
    if not better:
        return attribution
    _, arm, gain = max(better, key=lambda each: each[0])
    return dataclasses.replace(
        attribution,
        best=next(run for run in evidence.runs(arm) if run.val_loss is not None),
        change=tuple(knob.knob for knob in attribution.knobs if knob.knob in arm.knobs),
        effect=gain,
        lasting=evidence.lasting(arm),
        seeds=tuple(sorted(evidence.losses(arm))),
    )


def _alternatives(attribution: Attribution) -> Iterator[tuple[Arm, Contrast]]:
    """Yield the arms with fewer changes that are shown to gain, with their gains."""
    if len(attribution.knobs) > 1:
        for knob in attribution.knobs:
            if knob.word is KnobWord.ALONE and knob.alone is not None:
                yield Arm(frozenset([knob.knob])), knob.alone
    pair = attribution.pair
    if pair is not None and len(attribution.knobs) > len(pair.knobs) and shown(pair.both):
        yield Arm(frozenset(pair.knobs)), pair.both


def _more(evidence: Evidence, arm: Arm) -> float:
    """Return by how much an arm ends lower than the search's best, nats; negative where it isn't known to."""
    difference = evidence.contrast((1, evidence.arms.winner), (-1, arm))
    out = evidence.without_loss(arm) or is_refuted(evidence.lasting(arm))
    return -1.0 if difference is None or difference.n < _FEWEST or out else difference.mean
