"""Words of the confirmed verdict: a table per rule, a row per way through it."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.analysis.attribution import BestWord, CandidateWord, KnobWord, Pair, Why
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.words import best_word, candidate_word, is_decided, knob_word, why_not_better, works_jointly
from tests.helpers.attributions import FLOOR
from tests.helpers.contrasts import by_hand

SHOWN = by_hand(p=0.05)
OPEN = by_hand(p=0.051, upper=0.021)
TOO_SMALL = by_hand(p=0.9, low=-0.03, upper=FLOOR)
NEGLIGIBLE = by_hand(p=0.9, low=-0.019, high=0.019)
NO_NOISE = by_hand(p=None, low=None, high=None, lower=None, upper=None)
NO_BOUNDS = by_hand(p=0.2, low=None, high=None, lower=None, upper=None)
ONE_PAIR = by_hand(differences={0: 0.1})
LASTS = by_hand(threshold=0.0, p=0.05)
MAY_LAST = by_hand(threshold=0.0, p=0.051, upper=0.001)
SHRINKS = by_hand(threshold=0.0, p=1.0, upper=0.0)


@pytest.mark.parametrize(
    ("effect", "lasting", "others", "why"),
    [
        (SHOWN, LASTS, {}, None),
        (None, None, {"changed": False}, Why.NOTHING_LOWER),
        (SHOWN, LASTS, {"changed": False, "diverged": 1}, Why.NOTHING_LOWER),
        (SHOWN, LASTS, {"diverged": 1}, Why.DIVERGED),
        (None, None, {"diverged": 3}, Why.DIVERGED),
        (None, None, {}, Why.TOO_FEW_RUNS),
        (NO_NOISE, LASTS, {}, Why.TOO_FEW_RUNS),
        (TOO_SMALL, LASTS, {}, Why.BELOW_MIN_EFFECT),
        (OPEN, LASTS, {}, Why.NOT_ABOVE_MIN_EFFECT),
        (NO_BOUNDS, LASTS, {}, Why.NOT_ABOVE_MIN_EFFECT),
        (SHOWN, None, {}, Why.NO_SHORT_RUNS),
        (SHOWN, NO_NOISE, {}, Why.NO_SHORT_RUNS),
        (SHOWN, SHRINKS, {}, Why.HEAD_START),
        (SHOWN, MAY_LAST, {}, Why.PERHAPS_HEAD_START),
        (SHOWN, NO_BOUNDS, {}, Why.PERHAPS_HEAD_START),
    ],
)
def test_why_a_best_is_not_shown(
    effect: Contrast | None, lasting: Contrast | None, others: dict[str, Any], why: Why | None
) -> None:
    inputs = {"changed": True, "diverged": 0, "min_effect": FLOOR, **others}
    assert why_not_better(effect, lasting, **inputs) is why


@pytest.mark.parametrize(
    ("why", "decided"),
    [
        (None, True),
        (Why.NOTHING_LOWER, True),
        (Why.DIVERGED, True),
        (Why.TOO_FEW_RUNS, False),
        (Why.BELOW_MIN_EFFECT, True),
        (Why.NOT_ABOVE_MIN_EFFECT, False),
        (Why.NO_SHORT_RUNS, False),
        (Why.HEAD_START, True),
        (Why.PERHAPS_HEAD_START, False),
    ],
)
def test_a_word_is_decided_unless_more_seeds_may_show_it(why: Why | None, decided: bool) -> None:
    assert is_decided(why) is decided


@pytest.mark.parametrize(
    ("why", "plateaued", "word"),
    [
        (None, (3, 5), BestWord.BREAKS),
        (None, (1, 1), BestWord.BREAKS),
        (None, (2, 4), BestWord.IMPROVES),  # more than half is needed
        (None, (0, 5), BestWord.IMPROVES),
        (None, (0, 0), BestWord.IMPROVES),
        *((why, (5, 5), BestWord.NONE) for why in Why),
    ],
)
def test_the_word_of_a_best(why: Why | None, plateaued: tuple[int, int], word: BestWord) -> None:
    assert best_word(why, plateaued=plateaued) is word


@pytest.mark.parametrize(
    ("inputs", "word"),
    [
        ({"gain": SHOWN, "lasting": LASTS}, KnobWord.ALONE),
        ({"gain": SHOWN, "lasting": LASTS, "necessary": True}, KnobWord.ALONE),
        ({"gain": SHOWN, "lasting": MAY_LAST}, KnobWord.GAINS),
        ({"gain": SHOWN, "lasting": None}, KnobWord.GAINS),
        ({"gain": SHOWN, "lasting": NO_NOISE}, KnobWord.GAINS),
        ({"gain": SHOWN, "lasting": MAY_LAST, "necessary": True}, KnobWord.GAINS),
        ({"gain": SHOWN, "lasting": MAY_LAST, "diverged": 1}, KnobWord.HURTS),
        ({"gain": SHOWN, "lasting": SHRINKS}, KnobWord.UNKNOWN),
        ({"gain": SHOWN, "lasting": SHRINKS, "necessary": True}, KnobWord.NECESSARY),
        ({"gain": OPEN, "lasting": LASTS}, KnobWord.UNKNOWN),
        ({"gain": SHOWN, "lasting": LASTS, "diverged": 1}, KnobWord.HURTS),
        ({"gain": SHOWN, "lasting": LASTS, "diverged": 1, "necessary": True}, KnobWord.NECESSARY),
        ({"gain": OPEN, "necessary": True}, KnobWord.NECESSARY),
        ({"necessary": True, "harmful": True}, KnobWord.NECESSARY),
        ({"gain": OPEN, "harmful": True}, KnobWord.HURTS),
        ({"diverged": 2}, KnobWord.HURTS),
        ({"gain": NEGLIGIBLE}, KnobWord.NO_EFFECT),
        ({"gain": NEGLIGIBLE, "reset": by_hand(lower=FLOOR)}, KnobWord.NO_EFFECT),
        ({"gain": NEGLIGIBLE, "reset": NO_NOISE}, KnobWord.NO_EFFECT),
        ({"gain": NEGLIGIBLE, "reset": by_hand(lower=0.021)}, KnobWord.UNKNOWN),  # the best misses it
        ({"gain": OPEN}, KnobWord.UNKNOWN),
        ({"gain": NO_NOISE}, KnobWord.UNKNOWN),
        ({}, KnobWord.UNKNOWN),
    ],
)
def test_the_word_of_a_knob(inputs: dict[str, Any], word: KnobWord) -> None:
    nothing = {"gain": None, "lasting": None, "reset": None, "necessary": False, "harmful": False, "diverged": 0}
    assert knob_word(**{**nothing, **inputs}, min_effect=FLOOR) is word


def pair(both: Contrast, interaction: Contrast) -> Pair:
    return Pair(knobs=("learning_rate", "n_embd"), both=both, interaction=interaction)


@pytest.mark.parametrize(
    ("two", "words", "broken", "jointly"),
    [
        (pair(SHOWN, LASTS), [KnobWord.UNKNOWN, KnobWord.NECESSARY], True, True),
        (pair(SHOWN, LASTS), [KnobWord.UNKNOWN, KnobWord.ALONE], True, False),
        (pair(SHOWN, LASTS), [KnobWord.GAINS, KnobWord.UNKNOWN], True, False),
        (pair(SHOWN, LASTS), [KnobWord.UNKNOWN, KnobWord.UNKNOWN], False, False),
        (pair(OPEN, LASTS), [KnobWord.UNKNOWN, KnobWord.UNKNOWN], True, False),
        (pair(SHOWN, MAY_LAST), [KnobWord.UNKNOWN, KnobWord.UNKNOWN], True, False),
        (None, [KnobWord.UNKNOWN], True, False),
    ],
    ids=["joint", "one alone", "one gains", "best not shown", "both not shown", "no interaction", "no pair"],
)
def test_a_pair_works_jointly(two: Pair | None, words: list[KnobWord], broken: bool, jointly: bool) -> None:
    assert works_jointly(two, words, broken=broken) is jointly


@pytest.mark.parametrize(
    ("effect", "inputs", "word"),
    [
        (SHOWN, {}, CandidateWord.RIGHT),
        (OPEN, {}, CandidateWord.UNKNOWN),
        (NO_NOISE, {}, CandidateWord.UNKNOWN),
        (None, {}, CandidateWord.UNKNOWN),
        (NEGLIGIBLE, {}, CandidateWord.NO_EFFECT),
        (OPEN, {"harmful": True}, CandidateWord.WRONG),
        (ONE_PAIR, {}, CandidateWord.ONE_RUN),
        (ONE_PAIR, {"harmful": True}, CandidateWord.ONE_RUN),
        (ONE_PAIR, {"diverged": 1}, CandidateWord.WRONG),
        (SHOWN, {"diverged": 1}, CandidateWord.WRONG),
        (None, {"diverged": 1}, CandidateWord.WRONG),
    ],
)
def test_the_word_of_advice(effect: Contrast | None, inputs: dict[str, Any], word: CandidateWord) -> None:
    assert candidate_word(effect, **{"harmful": False, "diverged": 0, **inputs}, min_effect=FLOOR) is word
