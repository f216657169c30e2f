"""Types of the confirmed verdict: which knob breaks the plateau, from runs on seeds that the search has not seen.

Each run belongs to an arm, a config without its seed: the baseline with some of the best trial's knobs, or a candidate.

- The best *breaks* the plateau if its gain exceeds `min_effect` (one-sided, 95 %), the gain is no mere head start, and
  no run of the best diverged. A gain is no head start if it exceeds half of the gain of runs half as long. If the
  baseline was not on a plateau, the best *improves* on it.
- A knob does this alone, is necessary, or works only jointly with another. A knob whose gain is shown, and isn't shown
  to last yet, *gains*. p-values are corrected by Holm's method over the knobs.
- The headline credits the knobs for which any of this is shown, the one with the largest shown size first.
- If one knob alone is shown to do it and the best is not, the verdict is about the baseline with that knob changed. So
  it is where one knob or the top pair ends lower than the best (`simpler`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.significance import shown
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
    """the best has too few runs on fresh seeds"""
    BELOW_MIN_EFFECT = enum.auto()
    """the gain is shown to be below min_effect"""
    NOT_ABOVE_MIN_EFFECT = enum.auto()
    """the gain is not shown to exceed min_effect"""
    NO_SHORT_RUNS = enum.auto()
    """there are no runs of half the length to rule out a head start"""
    HEAD_START = enum.auto()
    """the gain shrinks by half or more as runs get longer"""
    PERHAPS_HEAD_START = enum.auto()
    """the gain is not shown to last"""


class KnobWord(enum.StrEnum):
    """What one knob does."""

    ALONE = "breaks it alone"
    GAINS = "gains"
    """alone it gains over `min_effect`; whether that lasts is neither shown nor refuted yet"""
    NECESSARY = "necessary"
    JOINT = "only jointly"
    HURTS = "raises the loss"
    NO_EFFECT = "no effect shown"
    UNKNOWN = "not enough evidence"


class CandidateWord(enum.StrEnum):
    """What following a piece of advice did."""

    RIGHT = "right"
    WRONG = "wrong"
    NO_EFFECT = "no effect shown"
    ONE_RUN = "one run"
    """compared with the baseline on a single seed"""
    UNKNOWN = "not enough evidence"


@dataclass(frozen=True, kw_only=True)
class KnobVerdict:
    """The verdict on one knob that the best trial changes."""

    knob: str
    """nanoGPT's name"""
    was: Value
    """the baseline's value, in nanoGPT's absolute units"""
    new: Value
    """the best trial's value, in the same units"""
    word: KnobWord
    alone: Contrast | None
    """baseline - baseline with this knob alone, against min_effect; p is Holm's over the knobs"""
    lasting: Contrast | None
    """gain of the knob alone at the horizon - half of its gain at half the horizon, against 0"""
    reset: Contrast | None
    """what the best loses when this knob is reset, against 0"""
    needed: Contrast | None
    """what the best loses when this knob is reset - half of the whole gain, against 0; p is Holm's over the knobs"""
    necessary: bool
    """whether the best needs the knob; can be true of a knob that breaks the plateau alone"""
    partner: str | None
    """word JOINT: the other knob"""
    diverged: int
    """runs of the knob alone, at either length, that diverged or did not fit; if any, the word is not ALONE"""
    more_seeds: int | None
    """further seeds that would decide if the noise stays, of a word UNKNOWN, or of GAINS whether the gain lasts; None:
    over 64, or not known"""


@dataclass(frozen=True, kw_only=True)
class PathStep:
    """One step of the greedy ablation path from the baseline to the best (Fawcett and Hoos 2016)."""

    knob: str | None
    """changed at this step; None: the baseline, or a last step that changes several knobs"""
    rest: tuple[str, ...]
    """knobs that the last step changes together"""
    losses: dict[int, float]
    """final loss by seed"""
    drop: Contrast | None
    """loss of the previous step - loss of this step; None at the baseline"""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The 2 x 2 of two knobs: the baseline, each knob alone, both."""

    knobs: tuple[str, str]
    both: Contrast
    """baseline - both, against min_effect"""
    interaction: Contrast
    """gain of both - the sum of their gains alone, against 0"""


@dataclass(frozen=True, kw_only=True)
class CandidateVerdict:
    """A candidate against the baseline, paired by seed."""

    candidate: int
    """its index in the study"""
    label: str
    word: CandidateWord
    effect: Contrast | None
    """baseline - candidate, against min_effect; p is Holm's over the candidates"""
    diverged: int
    """seeds without a loss because the candidate diverged or did not fit"""
    more_seeds: int | None
    """word UNKNOWN: further seeds that would decide if the noise stays; None: over 64, or not known"""


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """The confirmed verdict."""

    word: BestWord
    decided: bool
    """False: more seeds could change the word, that of the best or that of a knob which gains"""
    why: Why | None
    """what the best lacks; None where it is shown to be better"""
    best: Run
    """run whose config the verdict is about: the search's best trial, or a run with fewer changes (`fewer`)"""
    change: tuple[str, ...]
    """knobs that `best` changes, in the order of `knobs`"""
    searched: Run
    """the search's best trial"""
    reference: TrainConfig
    """the baseline's config"""
    effect: Contrast | None
    """baseline - `best` at the horizon, against min_effect"""
    lasting: Contrast | None
    """effect - half of the effect at half the horizon, against 0: above it, no mere head start"""
    whole: Contrast | None
    """baseline - `searched`; equals `effect` unless the verdict is about one knob"""
    whole_lasting: Contrast | None
    """`whole` - half of it at half the horizon"""
    plateaued: tuple[int, int]
    """baseline runs that end on a plateau, and baseline runs in all"""
    knobs: tuple[KnobVerdict, ...]
    """knobs that `searched` changes; those of `headline` first, then by size"""
    headline: tuple[str, ...]
    """knobs for which something is shown, the one with the largest shown size first"""
    pair: Pair | None
    path: tuple[PathStep, ...]
    candidates: tuple[CandidateVerdict, ...]
    min_effect: float
    seeds: tuple[int, ...]
    """fresh seeds of `best`"""
    runs: int
    """confirm runs that ended"""
    diverged: int
    """confirm runs of `best` that diverged"""

    @property
    def broken(self) -> bool:
        """Whether the best passes every test, on a plateau or not."""
        return self.word is not BestWord.NONE

    @property
    def fewer(self) -> bool:
        """Whether the verdict is about fewer changes than those of the search's best, which gains no more."""
        return self.best.id != self.searched.id

    @property
    def whole_word(self) -> BestWord:
        """The word of the search's best itself, with all its changes."""
        proven = not self.fewer or (shown(self.whole) and shown(self.whole_lasting))
        return self.word if proven else BestWord.NONE

    @property
    def complete_path(self) -> bool:
        """Whether the ablation path leads, in measured steps, from the baseline all the way to the search's best."""
        changed = {name for step in self.path for name in (*((step.knob,) if step.knob else ()), *step.rest)}
        measured = all(step.drop is not None for step in self.path[1:])
        return measured and bool(changed) and changed == {knob.knob for knob in self.knobs}
