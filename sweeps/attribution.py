"""Which knob breaks the plateau: the confirmed verdict, from runs on seeds that the search has not seen.

Every arm is the baseline with some of the best trial's knobs (none: the baseline; all: the best), or a candidate.
SCIENCE's words: the best *breaks* the plateau if its gain exceeds `min_effect` (one-sided 95 %), is no mere head start
(the gain at the horizon exceeds half of that of runs half as long), and nothing diverged; if the baseline was not on a
plateau, it *improves*. A knob does so alone, is necessary, or works only jointly with another. Holm over the knobs.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection
from dataclasses import dataclass

from sweeps.ablation import Path, ablation_path
from sweeps.arms import BASELINE, PHASE, Arm
from sweeps.chosen import reference_config
from sweeps.contrasts import Contrast, harmful_among, holm, negligible, seeds_to_decide, shown
from sweeps.evidence import Evidence
from sweeps.results import Results, Run
from sweeps.settings import Value
from trainer.config import TrainConfig


class Word(enum.StrEnum):
    """What the best config does to the baseline's plateau."""

    BREAKS = "breaks"
    IMPROVES = "improves"
    """the same evidence, but the baseline's own curves were not on a plateau"""
    NONE = "none"
    """nothing is shown; see `Attribution.decided`"""


class KnobWord(enum.StrEnum):
    """What one knob does."""

    ALONE = "breaks it alone"
    NECESSARY = "necessary"
    JOINT = "only jointly"
    HURTS = "raises the loss"
    NO_EFFECT = "no effect shown"
    UNKNOWN = "not enough evidence"


class AdviceWord(enum.StrEnum):
    """What following a piece of advice did."""

    RIGHT = "right"
    WRONG = "wrong"
    NO_EFFECT = "no effect shown"
    UNKNOWN = "not enough evidence"


@dataclass(frozen=True, kw_only=True)
class KnobVerdict:
    """One knob that the best trial changes."""

    knob: str
    """nanoGPT's name"""
    was: Value
    """absolute nanoGPT values: the baseline's, the best's"""
    new: Value
    word: KnobWord
    alone: Contrast | None
    """baseline - baseline with this knob alone, against min_effect; its p is Holm's over the knobs"""
    lasting: Contrast | None
    """gain of the knob alone at the horizon less half of that at half the horizon, against 0"""
    reset: Contrast | None
    """what the best loses with this knob reset, against 0"""
    needed: Contrast | None
    """what the best loses with this knob reset, less half of the whole gain, against 0; p is Holm's over the knobs"""
    necessary: bool
    """also of a knob that breaks it alone"""
    partner: str | None
    """word JOINT: the other knob"""
    more_seeds: int | None
    """word UNKNOWN: further seeds that would decide, were the noise to stay; None: over 64, or not known"""


@dataclass(frozen=True, kw_only=True)
class PathStep:
    """One step of the greedy ablation path from the baseline to the best (Fawcett & Hoos 2016)."""

    knob: str | None
    """changed at this step; None: the baseline, and the last step where the knobs left matter no more"""
    rest: tuple[str, ...]
    """the last step: the knobs changed together"""
    losses: dict[int, float]
    """final loss by seed"""
    drop: Contrast | None
    """loss of the step before - of this one; None at the baseline"""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The 2x2 of two knobs: baseline, each alone, both."""

    knobs: tuple[str, str]
    both: Contrast
    """baseline - both, against min_effect"""
    interaction: Contrast
    """gain of both less the sum of their gains alone, against 0"""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A candidate against the baseline, paired by seed."""

    candidate: int
    """its index in the study"""
    label: str
    word: AdviceWord
    effect: Contrast | None
    """baseline - candidate, against min_effect; p is Holm's over the candidates"""
    diverged: int
    """seeds at which it diverged or didn't fit: no loss"""
    more_seeds: int | None


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """The verdict."""

    word: Word
    decided: bool
    """False: more seeds could change the word"""
    why: str
    """what the word lacks: 'a head start', 'a run of the best diverged', ...; empty where it is shown"""
    best: Run
    """the search's best trial"""
    reference: TrainConfig
    """the baseline's config"""
    effect: Contrast | None
    """baseline - best at the horizon, against min_effect"""
    lasting: Contrast | None
    """effect less half of the effect at half the horizon, against 0: no mere head start"""
    plateaued: tuple[int, int]
    """baseline runs whose verdict is plateau, of how many"""
    knobs: tuple[KnobVerdict, ...]
    """those that the best changes; the largest effect alone first"""
    pair: Pair | None
    path: tuple[PathStep, ...]
    advice: tuple[Advice, ...]
    min_effect: float
    seeds: tuple[int, ...]
    """fresh seeds of the best's runs"""
    runs: int
    """confirm runs that ended"""
    diverged: int
    """confirm runs of the best that diverged"""

    @property
    def broken(self) -> bool:
        """Whether the best does what breaks a plateau, wherever the baseline was."""
        return self.word is not Word.NONE


def attribute(results: Results) -> Attribution | None:
    """The verdict by the runs there are; None: nothing has been run to confirm it, or there is nothing to confirm."""
    return judge(Evidence(results)) if any(run.phase == PHASE for run in results.runs) else None


def judge(evidence: Evidence) -> Attribution | None:
    """The verdict, also before the first run of the confirm phase. None: no baseline, or no best trial."""
    reference, arms = reference_config(evidence.results), evidence.arms
    if reference is None or arms.best is None:
        return None
    floor, winner = evidence.study.confirm.min_effect, arms.winner
    effect = evidence.gain(winner, threshold=floor) if winner.knobs else None
    lasting = evidence.lasting(winner) if winner.knobs else None
    diverged = sum(evidence.without_loss(Arm(winner.knobs, half=half)) for half in (False, True)) if winner.knobs else 0
    plateaued = evidence.plateaued()
    word, decided, why = _word(
        effect, lasting, diverged=diverged, plateaued=plateaued, floor=floor, any_change=bool(winner.knobs)
    )
    knobs = _knobs(evidence, reference, broken=word is not Word.NONE)
    pair = _pair(evidence, knobs, floor=floor)
    if word is not Word.NONE and pair is not None:
        knobs = tuple(_joint(knob, pair, knobs) for knob in knobs)
    return Attribution(
        word=word,
        decided=decided,
        why=why,
        best=arms.best,
        reference=reference,
        effect=effect,
        lasting=lasting,
        plateaued=plateaued,
        knobs=tuple(sorted(knobs, key=_telling)),
        pair=pair,
        path=_steps(evidence, path_of(evidence, knobs)),
        advice=_advice(evidence, floor=floor),
        min_effect=floor,
        seeds=tuple(sorted(evidence.losses(winner))) if winner.knobs else (),
        runs=sum(run.outcome != "running" for run in evidence.confirm_runs),
        diverged=diverged,
    )


def _word(
    effect: Contrast | None,
    lasting: Contrast | None,
    *,
    diverged: int,
    plateaued: tuple[int, int],
    floor: float,
    any_change: bool,
) -> tuple[Word, bool, str]:
    """The word, whether more seeds could change it, and what it lacks."""
    if not any_change:
        return Word.NONE, True, "no trial of the search ended lower than the baseline"
    if diverged:
        return Word.NONE, True, "runs of the best config diverged"
    if effect is None or effect.p is None:
        return Word.NONE, False, "the best config has too few runs on fresh seeds"
    if not shown(effect):
        over = effect.upper is not None and effect.upper <= floor
        return Word.NONE, over, f"its gain on fresh seeds is {'below' if over else 'not shown to exceed'} min_effect"
    if lasting is None or lasting.p is None:
        return Word.NONE, False, "runs of half the length are missing, so it may be a head start"
    if not shown(lasting):
        over = lasting.upper is not None and lasting.upper <= 0
        return (
            Word.NONE,
            over,
            "a head start: the gain shrinks by half or more as runs get longer"
            if over
            else ("the gain may be a head start that shrinks as runs get longer"),
        )
    return Word.BREAKS if 2 * plateaued[0] > plateaued[1] else Word.IMPROVES, True, ""


def _knobs(evidence: Evidence, reference: TrainConfig, *, broken: bool) -> tuple[KnobVerdict, ...]:
    arms, floor = evidence.arms, evidence.study.confirm.min_effect
    assert arms.best is not None
    single = [Arm(frozenset([knob])) for knob in arms.changed]
    alone = _adjusted([evidence.gain(arm, threshold=floor) for arm in single])
    needed = _adjusted(
        [
            evidence.contrast((1, arms.without(knob)), (-1, arms.winner), (-0.5, BASELINE), (0.5, arms.winner))
            for knob in arms.changed
        ]
    )
    was, new = reference.as_dict(), arms.best.config.as_dict()
    harmful = harmful_among(alone, floor)
    made = []
    for knob, arm, gain, need, hurts in zip(arms.changed, single, alone, needed, harmful, strict=True):
        lasting = evidence.lasting(arm)
        reset = evidence.contrast((1, arms.without(knob)), (-1, arms.winner))
        necessary = broken and need is not None and shown(need)
        sound = not any(evidence.without_loss(Arm(arm.knobs, half=half)) for half in (False, True))
        by_itself = broken and sound and gain is not None and shown(gain) and lasting is not None and shown(lasting)
        if by_itself:
            word = KnobWord.ALONE
        elif necessary:
            word = KnobWord.NECESSARY
        elif hurts:
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


def path_of(evidence: Evidence, knobs: Collection[KnobVerdict]) -> Path:
    """The ablation path, without the knobs that are shown to matter little."""
    idle = [knob.knob for knob in knobs if knob.word in (KnobWord.NO_EFFECT, KnobWord.HURTS)]
    return ablation_path(evidence, idle=idle, reached=evidence.study.confirm.min_effect)


def _steps(evidence: Evidence, path: Path) -> tuple[PathStep, ...]:
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
                label=evidence.arms.label(arm).removeprefix("advice "),
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
