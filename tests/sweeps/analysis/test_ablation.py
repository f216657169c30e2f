"""The ablation path, on surfaces whose first steps are known, and the rule for the knobs that wait for its end."""

from __future__ import annotations

import pytest

from sweeps.analysis.ablation import matters_little
from sweeps.analysis.attribution import KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.findings import Findings
from tests.helpers import attributions, confirming

SMALL, LARGE = attributions.contrast(0.019), attributions.contrast(0.02)
"""contrasts with a mean below min_effect, and at it"""


@pytest.mark.parametrize(
    ("word", "alone", "reset", "waits"),
    [
        (KnobWord.NO_EFFECT, LARGE, LARGE, True),
        (KnobWord.HURTS, LARGE, LARGE, True),
        (KnobWord.UNKNOWN, SMALL, SMALL, True),
        (KnobWord.NECESSARY, SMALL, SMALL, True),
        (KnobWord.UNKNOWN, LARGE, SMALL, False),
        (KnobWord.UNKNOWN, SMALL, LARGE, False),
        (KnobWord.UNKNOWN, SMALL, None, False),
        (KnobWord.UNKNOWN, None, SMALL, False),
        (KnobWord.ALONE, LARGE, LARGE, False),
    ],
)
def test_a_knob_matters_little_by_its_word_or_by_both_means(
    word: KnobWord, alone: Contrast | None, reset: Contrast | None, waits: bool
) -> None:
    assert matters_little(attributions.knob("dropout", word, alone, reset=reset), attributions.FLOOR) is waits


@pytest.mark.parametrize("surface", confirming.SURFACES)
def test_the_path_falls_to_the_best(surface: str) -> None:
    attribution = Findings(confirming.known(surface)).attribution
    assert attribution is not None
    if surface == "flat":
        return
    knobs = [step.knob for step in attribution.path]
    assert knobs[0] is None
    assert attribution.path[0].losses
    first = {"slow": {"learning_rate"}, "both": {"weight_decay", "n_embd"}}[surface]
    assert set(knobs[1 : 1 + len(first)]) == first
    changed = [knob for knob in knobs if knob] + [knob for step in attribution.path for knob in step.rest]
    assert sorted(changed) == sorted(knob.knob for knob in attribution.knobs)
