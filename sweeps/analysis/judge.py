"""From the runs there are to the verdict: the tests behind each word of `attribution`."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from sweeps.analysis.ablation import _steps, path_to_best
from sweeps.analysis.arms import BASELINE, Arm
from sweeps.analysis.attribution import Advice, AdviceWord, Attribution, BestWord, KnobVerdict, KnobWord, Pair, Why
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.evidence import ALPHA_BEST, P_MULTIPLIER, Evidence
from sweeps.analysis.significance import harmful_among, holm, negligible, seeds_to_decide, shown
from sweeps.store.records import Outcome, Results, Run
from trainer.config import TrainConfig


def to_train(results: Results, attribution: Attribution | None) -> Run | None:
    """The run whose config the verdict is of; before there is a verdict, the search's best. None: there is neither."""
    return results.best if attribution is None else attribution.best


def judge(evidence: Evidence) -> Attribution | None:
    """The verdict, also before the first run of the confirm phase. None: no baseline, or no best trial."""
    reference, arms = evidence.results.reference, evidence.arms
    if reference is None or arms.best is None:
        return None
    floor, winner = evidence.study.confirm.min_effect, arms.winner
    looks = P_MULTIPLIER / ALPHA_BEST
    effect = evidence.gain(winner, threshold=floor, looks=looks) if winner.knobs else None
    lasting = evidence.lasting(winner, looks=looks) if winner.knobs else None
    diverged = sum(evidence.without_loss(Arm(winner.knobs, half=half)) for half in (False, True)) if winner.knobs else 0
    plateaued = evidence.plateaued()
    word, decided, why = _word(
        effect, lasting, diverged=diverged, plateaued=plateaued, floor=floor, any_change=bool(winner.knobs)
    )
    knobs = _knobs(evidence, reference, broken=word is not BestWord.NONE)
    pair = _pair(evidence, knobs, floor=floor)
    if word is not BestWord.NONE and pair is not None:
        knobs = tuple(_joint(knob, pair, knobs) for knob in knobs)
    knobs = tuple(sorted(knobs, key=_telling))
    whole = Attribution(
        word=word,
        decided=decided,
        why=why,
        best=arms.best,
        change=tuple(knob.knob for knob in knobs),
        searched=arms.best,
        reference=reference,
        effect=effect,
        lasting=lasting,
        whole=effect,
        whole_lasting=lasting,
        plateaued=plateaued,
        knobs=knobs,
        pair=pair,
        path=_steps(evidence, path_to_best(evidence, knobs)),
        advice=_advice(evidence, floor=floor),
        min_effect=floor,
        seeds=tuple(sorted(evidence.losses(winner))) if winner.knobs else (),
        runs=sum(run.outcome != Outcome.RUNNING for run in evidence.confirm_runs),
        diverged=diverged,
    )
    return whole if whole.broken else _by_one(whole, evidence)


def _by_one(found: Attribution, evidence: Evidence) -> Attribution:
    """The verdict of the first knob that does it alone, where there is one."""
    first = next((knob for knob in found.knobs if knob.word is KnobWord.ALONE), None)
    if first is None:
        return found
    arm = Arm(frozenset([first.knob]))
    return dataclasses.replace(
        found,
        word=_what(found.plateaued),
        decided=True,
        why=None,
        best=next(run for run in evidence.runs(arm) if run.val_loss is not None),
        change=(first.knob,),
        effect=first.alone,
        lasting=first.lasting,
        seeds=tuple(sorted(evidence.losses(arm))),
        diverged=0,
    )


def _what(plateaued: tuple[int, int]) -> BestWord:
    return BestWord.BREAKS if 2 * plateaued[0] > plateaued[1] else BestWord.IMPROVES


def _word(
    effect: Contrast | None,
    lasting: Contrast | None,
    *,
    diverged: int,
    plateaued: tuple[int, int],
    floor: float,
    any_change: bool,
) -> tuple[BestWord, bool, Why | None]:
    """The word, whether more seeds could change it, and what it lacks."""
    if not any_change:
        return BestWord.NONE, True, Why.NOTHING_LOWER
    if diverged:
        return BestWord.NONE, True, Why.DIVERGED
    if effect is None or effect.p is None:
        return BestWord.NONE, False, Why.TOO_FEW_RUNS
    if not shown(effect):
        over = effect.upper is not None and effect.upper <= floor
        return BestWord.NONE, over, Why.BELOW_MIN_EFFECT if over else Why.NOT_ABOVE_MIN_EFFECT
    if lasting is None or lasting.p is None:
        return BestWord.NONE, False, Why.NO_SHORT_RUNS
    if not shown(lasting):
        if lasting.upper is not None and lasting.upper <= 0:
            return BestWord.NONE, True, Why.HEAD_START
        return BestWord.NONE, False, Why.PERHAPS_HEAD_START
    return _what(plateaued), True, None


def _knobs(evidence: Evidence, reference: TrainConfig, *, broken: bool) -> tuple[KnobVerdict, ...]:
    arms, floor = evidence.arms, evidence.study.confirm.min_effect
    assert arms.best is not None
    looks = P_MULTIPLIER if broken else P_MULTIPLIER / (1 - ALPHA_BEST)
    single = [Arm(frozenset([knob])) for knob in arms.changed]
    alone = _adjusted([evidence.gain(arm, threshold=floor, looks=looks) for arm in single])
    needed = _adjusted(
        [
            evidence.contrast((1, arms.without(knob)), (-1, arms.winner), (-0.5, BASELINE), (0.5, arms.winner))
            for knob in arms.changed
        ]
    )
    was, new = reference.as_dict(), arms.best.config.as_dict()
    harmful = harmful_among([evidence.gain(arm, threshold=floor) for arm in single], floor)
    made = []
    for knob, arm, gain, need, hurts in zip(arms.changed, single, alone, needed, harmful, strict=True):
        lasting = evidence.lasting(arm, looks=looks)
        reset = evidence.contrast((1, arms.without(knob)), (-1, arms.winner))
        necessary = broken and need is not None and shown(need)
        diverged = sum(evidence.without_loss(Arm(arm.knobs, half=half)) for half in (False, True))
        gains = gain is not None and shown(gain) and lasting is not None and shown(lasting)
        by_itself = gains and not diverged
        if by_itself:
            word = KnobWord.ALONE
        elif necessary:
            word = KnobWord.NECESSARY
        elif hurts or diverged:
            word = KnobWord.HURTS
        elif gain is not None and negligible(gain, floor) and not (reset and reset.lower and reset.lower > floor):
            word = KnobWord.NO_EFFECT
        else:
            word = KnobWord.UNKNOWN
        made.append(
            KnobVerdict(
                knob=knob,
                was=was[knob],
                new=new[knob],
                word=word,
                alone=gain,
                lasting=lasting,
                reset=reset,
                needed=need,
                necessary=necessary,
                partner=None,
                diverged=diverged,
                more_seeds=seeds_to_decide(gain, min_effect=floor) if gain and word is KnobWord.UNKNOWN else None,
            )
        )
    return tuple(made)


def _adjusted(contrasts: list[Contrast | None]) -> list[Contrast | None]:
    """With Holm's p over the family, those without a run yet being of it."""
    found = holm([None if each is None else each.p for each in contrasts])
    return [None if each is None else dataclasses.replace(each, p=p) for each, p in zip(contrasts, found, strict=True)]


def top_pair(knobs: Collection[KnobVerdict]) -> tuple[str, str] | None:
    """The two knobs that seem to matter most, by what they gain alone or lose when reset; None: there are no two."""

    def size(knob: KnobVerdict) -> float:
        return max(each.mean if each else float("-inf") for each in (knob.alone, knob.reset))

    ranked = sorted(knobs, key=size, reverse=True)[:2]
    return (ranked[0].knob, ranked[1].knob) if len(ranked) == 2 else None


def _pair(evidence: Evidence, knobs: Collection[KnobVerdict], *, floor: float) -> Pair | None:
    names = top_pair(knobs)
    if names is None:
        return None
    one, other, both = Arm(frozenset(names[:1])), Arm(frozenset(names[1:])), Arm(frozenset(names))
    gain = evidence.gain(both, threshold=floor)
    # (b - both) - (b - one) - (b - other)
    interaction = evidence.contrast((-1, BASELINE), (1, one), (1, other), (-1, both))
    return None if gain is None or interaction is None else Pair(knobs=names, both=gain, interaction=interaction)


def _joint(knob: KnobVerdict, pair: Pair, knobs: Collection[KnobVerdict]) -> KnobVerdict:
    """The knob with word JOINT where its pair passes and no single knob does."""
    passes = knob.knob in pair.knobs and shown(pair.both) and shown(pair.interaction)
    if not passes or any(each.word is KnobWord.ALONE for each in knobs):
        return knob
    partner = next(name for name in pair.knobs if name != knob.knob)
    return dataclasses.replace(knob, word=KnobWord.JOINT, partner=partner, more_seeds=None)


_ORDER = (KnobWord.ALONE, KnobWord.JOINT, KnobWord.NECESSARY)


def _telling(knob: KnobVerdict) -> tuple[int, float]:
    """Those with a claim first, then by what the knob alone is known to gain at least."""
    rank = _ORDER.index(knob.word) if knob.word in _ORDER else len(_ORDER)
    size = max(each.mean for each in (knob.alone, knob.reset) if each) if knob.alone or knob.reset else float("-inf")
    return rank, -size


def _advice(evidence: Evidence, *, floor: float) -> tuple[Advice, ...]:
    arms = [Arm(candidate=index) for index in range(len(evidence.study.candidates))]
    effects = _adjusted([evidence.gain(arm, threshold=floor) for arm in arms])
    made = []
    for index, (arm, effect, harmful) in enumerate(zip(arms, effects, harmful_among(effects, floor), strict=True)):
        lost = evidence.without_loss(arm)
        word = _advice_word(effect, wrong=harmful or lost > 0, floor=floor)
        unknown = effect is not None and word is AdviceWord.UNKNOWN
        made.append(
            Advice(
                candidate=index,
                label=evidence.arms.advice(index),
                word=word,
                effect=effect,
                diverged=lost,
                more_seeds=seeds_to_decide(effect, min_effect=floor) if unknown and effect else None,
            )
        )
    return tuple(made)


def _advice_word(effect: Contrast | None, *, wrong: bool, floor: float) -> AdviceWord:
    if wrong:
        return AdviceWord.WRONG
    if effect is None:
        return AdviceWord.UNKNOWN
    if shown(effect):
        return AdviceWord.RIGHT
    return AdviceWord.NO_EFFECT if negligible(effect, floor) else AdviceWord.UNKNOWN
