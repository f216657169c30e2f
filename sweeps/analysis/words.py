"""Words of the confirmed verdict. The rule for every word is a pure function of contrasts and counts."""

from __future__ import annotations

from collections.abc import Collection

from sweeps.analysis.attribution import BestWord, CandidateWord, KnobWord, Pair, Why
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.significance import negligible, shown

_MORE_SEEDS_MAY_SHOW = {Why.TOO_FEW_RUNS, Why.NOT_ABOVE_MIN_EFFECT, Why.NO_SHORT_RUNS, Why.PERHAPS_HEAD_START}


def why_not_better(
    effect: Contrast | None, lasting: Contrast | None, *, changed: bool, diverged: int, min_effect: float
) -> Why | None:
    """Return what keeps the best from being shown to be better, or None if it is shown.

    `changed`: whether the best differs from the baseline. `diverged`: its runs without a loss, at either length.
    """
    if not changed:
        return Why.NOTHING_LOWER
    if diverged:
        return Why.DIVERGED
    if effect is None or effect.p is None:
        return Why.TOO_FEW_RUNS
    if not shown(effect):
        too_small = effect.upper is not None and effect.upper <= min_effect
        return Why.BELOW_MIN_EFFECT if too_small else Why.NOT_ABOVE_MIN_EFFECT
    if lasting is None or lasting.p is None:
        return Why.NO_SHORT_RUNS
    if not shown(lasting):
        return Why.HEAD_START if is_refuted(lasting) else Why.PERHAPS_HEAD_START
    return None


def is_refuted(lasting: Contrast | None) -> bool:
    """Whether a gain is shown to be a mere head start: it shrinks by half or more as runs get longer."""
    return lasting is not None and lasting.upper is not None and lasting.upper <= 0


def is_decided(why: Why | None) -> bool:
    """Whether no number of further seeds could change the word of the best."""
    return why not in _MORE_SEEDS_MAY_SHOW


def best_word(why: Why | None, *, plateaued: tuple[int, int]) -> BestWord:
    """Return the word of a best that lacks `why`. `plateaued`: baseline runs on a plateau, and baseline runs in all."""
    on_plateau, runs = plateaued
    if why is not None:
        return BestWord.NONE
    return BestWord.BREAKS if 2 * on_plateau > runs else BestWord.IMPROVES


def knob_word(
    *,
    gain: Contrast | None,
    lasting: Contrast | None,
    reset: Contrast | None,
    necessary: bool,
    harmful: bool,
    diverged: int,
    min_effect: float,
) -> KnobWord:
    """Return the word of one knob, before pairs are considered.

    The arguments are named as in `KnobVerdict`; `gain` is its `alone`. `harmful`: the knob alone is shown to raise the
    loss by over `min_effect`.
    """
    if shown(gain) and not diverged:
        if shown(lasting):
            return KnobWord.ALONE
        if not is_refuted(lasting):
            return KnobWord.GAINS
    if necessary:
        return KnobWord.NECESSARY
    if harmful or diverged:
        return KnobWord.HURTS
    missed_by_best = reset is not None and reset.lower is not None and reset.lower > min_effect
    if negligible(gain, min_effect) and not missed_by_best:
        return KnobWord.NO_EFFECT
    return KnobWord.UNKNOWN


def works_jointly(pair: Pair | None, words: Collection[KnobWord], *, broken: bool) -> bool:
    """Whether the pair's knobs get the word JOINT. `words`: those of the two; `broken`: the best is shown."""
    if not broken or pair is None or not {KnobWord.ALONE, KnobWord.GAINS}.isdisjoint(words):
        return False
    return shown(pair.both) and shown(pair.interaction)


def candidate_word(effect: Contrast | None, *, harmful: bool, diverged: int, min_effect: float) -> CandidateWord:
    """Return the word of a candidate. `harmful`: it is shown to raise the loss by over `min_effect`."""
    one_run = effect is not None and effect.n == 1
    if diverged or (harmful and not one_run):
        return CandidateWord.WRONG
    if one_run:
        return CandidateWord.ONE_RUN
    if shown(effect):
        return CandidateWord.RIGHT
    return CandidateWord.NO_EFFECT if negligible(effect, min_effect) else CandidateWord.UNKNOWN
