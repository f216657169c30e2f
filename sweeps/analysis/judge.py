"""The judge of the confirm phase: it runs the tests behind each word of `attribution` on the runs that there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from sweeps.analysis.ablation import path_steps, path_to_best
from sweeps.analysis.arms import BASELINE, Arm
from sweeps.analysis.attribution import Attribution, CandidateVerdict, CandidateWord, KnobVerdict, KnobWord, Pair
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.credit import credited
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.significance import (
    ALPHA_BEST,
    P_MULTIPLIER,
    harmful_among,
    holm,
    seeds_to_decide,
    shown,
)
from sweeps.analysis.words import best_word, candidate_word, is_decided, knob_word, why_not_better, works_jointly
from sweeps.store.records import Outcome, Results, Run
from trainer.config import TrainConfig


def to_train(results: Results, attribution: Attribution | None) -> Run | None:
    """Return the run whose config to train: the verdict's, or the search's best before there is a verdict."""
    return results.best if attribution is None else attribution.best


def judge(evidence: Evidence) -> Attribution | None:
    """Return the verdict, even before the first run of the confirm phase. None: no baseline, or no best trial."""
    reference, arms = evidence.results.reference, evidence.arms
    if reference is None or arms.best is None:
        return None
    winner, min_effect = arms.winner, evidence.study.min_effect
    changed, looks = bool(winner.knobs), P_MULTIPLIER / ALPHA_BEST
    effect = evidence.gain(winner, threshold=min_effect, looks=looks) if changed else None
    lasting = evidence.lasting(winner, looks=looks) if changed else None
    diverged = _diverged(evidence, winner) if changed else 0
    plateaued = evidence.plateaued()
    why = why_not_better(effect, lasting, changed=changed, diverged=diverged, min_effect=min_effect)
    word = best_word(why, plateaued=plateaued)
    gains = shown(effect) and not diverged
    knobs, pair, headline = _knobs_and_pair(evidence, reference, gains=gains, broken=why is None)
    may_last = why is not None and any(knob.word is KnobWord.GAINS for knob in knobs)
    whole = Attribution(
        word=word,
        decided=is_decided(why) and not may_last,
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
        headline=headline,
        pair=pair,
        path=path_steps(evidence, path_to_best(evidence, knobs)),
        candidates=_candidates(evidence, min_effect),
        min_effect=min_effect,
        seeds=tuple(sorted(evidence.losses(winner))) if changed else (),
        runs=sum(run.outcome != Outcome.RUNNING for run in evidence.confirm_runs),
        diverged=diverged,
    )
    return whole if whole.broken else _by_one(whole, evidence)


def _by_one(whole: Attribution, evidence: Evidence) -> Attribution:
    """Return the verdict about the first knob that does it alone, or `whole` if no knob does."""
    first = next((knob for knob in whole.knobs if knob.word is KnobWord.ALONE), None)
    if first is None:
        return whole
    arm = Arm(frozenset([first.knob]))
    return dataclasses.replace(
        whole,
        word=best_word(None, plateaued=whole.plateaued),
        decided=True,
        why=None,
        best=next(run for run in evidence.runs(arm) if run.val_loss is not None),
        change=(first.knob,),
        effect=first.alone,
        lasting=first.lasting,
        seeds=tuple(sorted(evidence.losses(arm))),
        diverged=0,
    )


def _diverged(evidence: Evidence, arm: Arm) -> int:
    """Count the arm's runs without a loss, at the horizon and at half of it."""
    return sum(evidence.without_loss(Arm(arm.knobs, half=half)) for half in (False, True))


def _knobs_and_pair(
    evidence: Evidence, reference: TrainConfig, *, gains: bool, broken: bool
) -> tuple[tuple[KnobVerdict, ...], Pair | None, tuple[str, ...]]:
    """Return the verdicts on all knobs, the 2 x 2 of the top two, and the knobs that the headline credits.

    `gains`: the best's gain is shown; `broken`: it is shown to last as well. The credited knobs come first.
    """
    knobs = _knobs(evidence, reference, gains=gains, broken=broken)
    pair = _pair(evidence, knobs)
    if pair is not None:
        words = [knob.word for knob in knobs if knob.knob in pair.knobs]
        if works_jointly(pair, words, broken=broken):
            knobs = [_joint(knob, pair) for knob in knobs]
    names = credited(knobs, pair)

    def rank(knob: KnobVerdict) -> tuple[int, float]:
        return names.index(knob.knob) if knob.knob in names else len(names), -_size(knob)

    return tuple(sorted(knobs, key=rank)), pair, names


def _knobs(evidence: Evidence, reference: TrainConfig, *, gains: bool, broken: bool) -> list[KnobVerdict]:
    """Return the verdict on each knob by itself, in the study's order."""
    arms, min_effect = evidence.arms, evidence.study.min_effect
    assert arms.best is not None
    looks = P_MULTIPLIER if gains else P_MULTIPLIER / (1 - ALPHA_BEST)
    single = [Arm(frozenset([knob])) for knob in arms.changed]
    gains_alone = _holm_adjusted([evidence.gain(arm, threshold=min_effect, looks=looks) for arm in single])
    harms = harmful_among([evidence.gain(arm, threshold=min_effect) for arm in single], min_effect)
    needs = _holm_adjusted([_needed(evidence, knob) for knob in arms.changed])
    old, new = reference.as_dict(), arms.best.config.as_dict()
    verdicts = []
    for knob, arm, gain, harmful, needed in zip(arms.changed, single, gains_alone, harms, needs, strict=True):
        lasting = evidence.lasting(arm, looks=looks)
        reset = evidence.contrast((1, arms.without(knob)), (-1, arms.winner))
        necessary = broken and shown(needed)
        diverged = _diverged(evidence, arm)
        word = knob_word(
            gain=gain,
            lasting=lasting,
            reset=reset,
            necessary=necessary,
            harmful=harmful,
            diverged=diverged,
            min_effect=min_effect,
        )
        verdicts.append(
            KnobVerdict(
                knob=knob,
                was=old[knob],
                new=new[knob],
                word=word,
                alone=gain,
                lasting=lasting,
                reset=reset,
                needed=needed,
                necessary=necessary,
                partner=None,
                diverged=diverged,
                more_seeds=_more_seeds_of_a_knob(word, gain, lasting, min_effect),
            )
        )
    return verdicts


def _needed(evidence: Evidence, knob: str) -> Contrast | None:
    """What the best loses when the knob is reset, less half of the whole gain."""
    without, winner = evidence.arms.without(knob), evidence.arms.winner
    return evidence.contrast((1, without), (-1, winner), (-0.5, BASELINE), (0.5, winner))


def _more_seeds(contrast: Contrast | None, min_effect: float) -> int | None:
    return None if contrast is None else seeds_to_decide(contrast, min_effect=min_effect)


def _more_seeds_of_a_knob(
    word: KnobWord, gain: Contrast | None, lasting: Contrast | None, min_effect: float
) -> int | None:
    if word is KnobWord.GAINS:
        return _more_seeds(lasting, 0.0)
    return _more_seeds(gain, min_effect) if word is KnobWord.UNKNOWN else None


def _holm_adjusted(contrasts: Sequence[Contrast | None]) -> list[Contrast | None]:
    """Replace each p by Holm's over the family; contrasts without a run yet count in the family."""
    adjusted = holm([None if contrast is None else contrast.p for contrast in contrasts])
    return [
        None if contrast is None else dataclasses.replace(contrast, p=p)
        for contrast, p in zip(contrasts, adjusted, strict=True)
    ]


def top_pair(knobs: Collection[KnobVerdict]) -> tuple[str, str] | None:
    """Return the two knobs that seem to matter most, by what they gain alone or lose when reset. None: under two."""
    ranked = sorted(knobs, key=_size, reverse=True)[:2]
    return (ranked[0].knob, ranked[1].knob) if len(ranked) == 2 else None


def _size(knob: KnobVerdict) -> float:
    """The larger mean of what the knob gains alone and what the best loses without it, nats."""
    return max((contrast.mean for contrast in (knob.alone, knob.reset) if contrast), default=float("-inf"))


def _pair(evidence: Evidence, knobs: Collection[KnobVerdict]) -> Pair | None:
    names = top_pair(knobs)
    if names is None:
        return None
    first, second, both = (Arm(frozenset(part)) for part in (names[:1], names[1:], names))
    gain = evidence.gain(both, threshold=evidence.study.min_effect)
    # (baseline - both) - (baseline - first) - (baseline - second)
    interaction = evidence.contrast((-1, BASELINE), (1, first), (1, second), (-1, both))
    return None if gain is None or interaction is None else Pair(knobs=names, both=gain, interaction=interaction)


def _joint(knob: KnobVerdict, pair: Pair) -> KnobVerdict:
    """Return the knob with the word JOINT if it is one of the pair."""
    if knob.knob not in pair.knobs:
        return knob
    partner = next(name for name in pair.knobs if name != knob.knob)
    return dataclasses.replace(knob, word=KnobWord.JOINT, partner=partner, more_seeds=None)


def _candidates(evidence: Evidence, min_effect: float) -> tuple[CandidateVerdict, ...]:
    arms = [Arm(candidate=index) for index in range(len(evidence.study.candidates))]
    effects = _holm_adjusted([evidence.gain(arm, threshold=min_effect) for arm in arms])
    harms = harmful_among(effects, min_effect)
    verdicts = []
    for index, (arm, effect, harmful) in enumerate(zip(arms, effects, harms, strict=True)):
        diverged = evidence.without_loss(arm)
        word = candidate_word(effect, harmful=harmful, diverged=diverged, min_effect=min_effect)
        verdicts.append(
            CandidateVerdict(
                candidate=index,
                label=evidence.arms.candidate_label(index),
                word=word,
                effect=effect,
                diverged=diverged,
                more_seeds=_more_seeds(effect, min_effect) if word is CandidateWord.UNKNOWN else None,
            )
        )
    return tuple(verdicts)
