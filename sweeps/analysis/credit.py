"""Credit of the headline: the knobs for which something is shown, by the size of what is shown."""

from __future__ import annotations

from collections.abc import Collection

from sweeps.analysis.attribution import KnobVerdict, KnobWord, Pair
from sweeps.analysis.significance import shown

CLAIMS = (KnobWord.ALONE, KnobWord.GAINS, KnobWord.JOINT, KnobWord.NECESSARY)
"""words that name a knob as a cause"""


def credited(knobs: Collection[KnobVerdict], pair: Pair | None) -> tuple[str, ...]:
    """Return the knobs for which something is shown, the one with the largest shown size first.

    The words don't count: a reader wants to hear first of the knob that gains most.
    """
    sizes = {knob.knob: shown_size(knob, pair) for knob in knobs if knob.word in CLAIMS}
    return tuple(sorted(sizes, key=lambda knob: -sizes[knob]))


def shown_size(knob: KnobVerdict, pair: Pair | None) -> float:
    """Return the size of what is shown of a knob with a word of CLAIMS, nats.

    It is what the knob gains alone, else what the best loses without it, else what the pair gains together.
    """
    if knob.alone is not None and shown(knob.alone) and not knob.diverged:
        return knob.alone.mean
    if knob.reset is not None and (shown(knob.reset) or knob.word is KnobWord.NECESSARY):
        return knob.reset.mean
    return 0.0 if pair is None else pair.both.mean
