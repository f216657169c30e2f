"""Which knob breaks the plateau: the confirmed verdict, from runs on seeds that the search has not seen.

Every arm is the baseline with some of the best trial's knobs (none: the baseline; all: the best), or a candidate.
SCIENCE's words: the best *breaks* the plateau if its gain exceeds `min_effect` (one-sided 95 %), is no mere head start
(the gain at the horizon exceeds half of that of runs half as long), and nothing diverged; if the baseline was not on a
plateau, it *improves*. A knob does so alone, is necessary, or works only jointly with another. Holm over the knobs.
Where a knob alone is shown to do it and the best is not, the verdict is of the baseline with that knob changed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sweeps.analysis.contrasts import Contrast
from sweeps.store.records import Run
from sweeps.study.baseline import Value
from trainer.config import TrainConfig


class BestWord(enum.StrEnum):
    """What the best config does to the baseline's plateau."""

    BREAKS = "breaks"
    IMPROVES = "improves"
    """the same evidence, but the baseline's own curves were not on a plateau"""
    NONE = "none"
    """nothing is shown; see `Attribution.decided`"""


class Why(enum.Enum):
    """What keeps the best config from being shown to be better."""

    NOTHING_LOWER = enum.auto()
    """no trial of the search ended lower than the baseline"""
    DIVERGED = enum.auto()
    """runs of the best diverged"""
    TOO_FEW_RUNS = enum.auto()
    """of the best, on fresh seeds"""
    BELOW_MIN_EFFECT = enum.auto()
    """the gain is shown to be below min_effect"""
    NOT_ABOVE_MIN_EFFECT = enum.auto()
    """the gain is not shown to exceed min_effect"""
    NO_SHORT_RUNS = enum.auto()
    """without runs of half the length, a head start is not ruled out"""
    HEAD_START = enum.auto()
    """the gain shrinks by half or more as runs get longer"""
    PERHAPS_HEAD_START = enum.auto()
    """the gain is not shown to last"""


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
    diverged: int
    """runs of the knob alone, of either length, that diverged or didn't fit: it can't break the plateau alone"""
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

    word: BestWord
    decided: bool
    """False: more seeds could change the word"""
    why: Why | None
    """what the word lacks; None where it is shown"""
    best: Run
    """the config that the verdict is of: the search's best trial, or a run of the one knob that is shown without it"""
    change: tuple[str, ...]
    """knobs that it changes, in the order of `knobs`"""
    searched: Run
    """the search's best trial"""
    reference: TrainConfig
    """the baseline's config"""
    effect: Contrast | None
    """baseline - best at the horizon, against min_effect"""
    lasting: Contrast | None
    """effect less half of the effect at half the horizon, against 0: no mere head start"""
    whole: Contrast | None
    """baseline - the search's best; `effect`, unless the verdict is of one knob"""
    whole_lasting: Contrast | None
    """whole less half of it at half the horizon"""
    plateaued: tuple[int, int]
    """baseline runs whose verdict is plateau, of how many"""
    knobs: tuple[KnobVerdict, ...]
    """those that the search's best changes; the largest effect alone first"""
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
        return self.word is not BestWord.NONE

    @property
    def by_one(self) -> bool:
        """Whether the verdict is of one knob, the search's best not being shown to be better."""
        return self.best.id != self.searched.id
