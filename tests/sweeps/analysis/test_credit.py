"""Credit of the headline: by the size of what is shown, whatever the word."""

from __future__ import annotations

import pytest

from sweeps.analysis.attribution import KnobVerdict, KnobWord, Pair
from sweeps.analysis.credit import CLAIMS, credited
from tests.helpers.attributions import KNOBS, contrast, gain, knob

ALONE, GAINS, JOINT, NECESSARY = CLAIMS
RATE = knob("learning_rate", GAINS, gain(1.18, se=0.05, n=3), reset=contrast(1.2, se=0.05, n=3), necessary=True)
WIDTH = knob("n_embd", ALONE, gain(0.14), lasting=contrast(0.1))
DROPOUT = knob("dropout", GAINS, gain(0.46, n=2, se=0.005))
PAIR = Pair(knobs=("learning_rate", "n_embd"), both=gain(0.3), interaction=contrast(0.2))


@pytest.mark.parametrize(
    ("knobs", "names"),
    [
        ((), ()),
        (KNOBS, ("learning_rate", "n_embd")),
        ((WIDTH, RATE), ("learning_rate", "n_embd")),
        ((knob("n_embd", ALONE, gain(0.37, se=0.1)), DROPOUT), ("dropout", "n_embd")),
        # a knob that is necessary counts by what the best loses without it, unless it gains alone
        ((WIDTH, knob("dropout", NECESSARY, gain(0.5, se=0.5), reset=contrast(0.2))), ("dropout", "n_embd")),
        ((WIDTH, knob("dropout", NECESSARY, gain(0.5, se=0.5), reset=contrast(0.1))), ("n_embd", "dropout")),
        ((WIDTH, knob("dropout", NECESSARY, gain(0.13), reset=contrast(0.2))), ("n_embd", "dropout")),
        # and so where a run of it alone diverged
        ((WIDTH, knob("dropout", NECESSARY, gain(0.5), reset=contrast(0.1), diverged=1)), ("n_embd", "dropout")),
        # of a pair without resets, what both gain together
        ((WIDTH, knob("dropout", JOINT, gain(0.01), partner="learning_rate")), ("dropout", "n_embd")),
        # nothing is shown of the others, whatever they seem to gain
        (tuple(knob("n_embd", word, gain(0.4, se=1.0)) for word in KnobWord if word not in CLAIMS), ()),
    ],
)
def test_the_knob_with_the_largest_shown_size_comes_first(
    knobs: tuple[KnobVerdict, ...], names: tuple[str, ...]
) -> None:
    assert credited(knobs, PAIR) == names
    assert credited(tuple(reversed(knobs)), PAIR) == names
