"""Which knob moved the loss: every comparison with the baseline, with its interval and a safe word.

A star run changes one knob alone, to an end of its range; a candidate is a piece of advice as it
stands; all train on the search's seed. Each is one run, held against the seeds of the baseline.
Words are family-wise: with all the study's star runs and candidates together (also those that were
pruned, so that pruning can't choose the family), the chance of any false "lowers" or "raises" is at
most 5 % where seed noise is normal; the plain interval of one comparison stands beside it. Losses are nats
a token on the large window set, effects are positive where the change is better.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.analysis.noise import Noise, noise_of
from sweeps.store.records import Outcome, Results, Run
from trainer.config import TrainConfig


class ScreenWord(enum.StrEnum):
    """What one comparison with the baseline lets a careful person say."""

    LOWERS = "lowers the loss"
    RAISES = "raises the loss"
    NOISE = "within the noise of seeds"
    UNKNOWN = "not enough evidence"
    """the noise of seeds isn't known"""
    NO_LOSS = "no final loss"
    """the run didn't complete"""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One run against the baseline: `effect` = the baseline's mean - the run's final loss, nats."""

    run: Run
    effect: float | None
    """None: the run or the baseline has no final loss"""
    half_width: float | None
    """95 % interval of one comparison: effect ± this; None: noise unknown"""
    family_half_width: float | None
    """95 % for all comparisons of the family at once; the word rests on it"""
    word: ScreenWord


@dataclass(frozen=True, kw_only=True)
class KnobEffect:
    """One knob alone, at the ends of its range."""

    knob: str
    effects: tuple[Effect, ...]
    largest: Effect | None
    """the complete star run furthest from the baseline"""
    span: float | None
    """highest - lowest final loss among the star runs and the baseline's mean, nats"""


@dataclass(frozen=True, kw_only=True)
class SearchBest:
    """The search's best complete trial against the baseline: the winner of `trials`, so its gain is optimistic."""

    run: Run
    gain: float | None
    """the baseline's mean - its final loss, nats; None: no baseline"""
    half_width: float | None
    """95 % interval of one comparison, blind to the choice of the winner"""
    luck: float | None
    """how far below the mean the luckiest of `trials` baseline runs may end (95 %), nats"""
    trials: int
    """trials of the search that it was chosen from, pruned ones too"""


@dataclass(frozen=True, kw_only=True)
class Screening:
    """What a study's runs say about its knobs."""

    baseline: Noise | None
    """None: no baseline run is complete"""
    reference: TrainConfig | None
    """the baseline's config; None: no run of it was started"""
    family: int
    """comparisons that the words hold for together"""
    knobs: tuple[KnobEffect, ...]
    """in the study's order"""
    advice: tuple[Effect, ...]
    best: SearchBest | None


def screen(results: Results) -> Screening:
    """Hold every star run, every candidate and the best trial against the baseline.

    Runs on part of the data are no change to make, and judged apart (`more_data`).
    """
    losses = [_loss(run) for run in results.baseline_runs]
    baseline = noise_of(losses) if losses else None
    star = [run for run in results.runs if run.origin == "star" and run.knob in results.study.sampled]
    candidates = sorted((run for run in results.runs if run.origin == "candidate"), key=lambda run: run.id)
    family = len(star) + len(candidates)
    knobs = (
        _knob_effect(knob, [_effect(run, baseline, family) for run in star if run.knob == knob], baseline)
        for knob in results.study.sampled
    )
    return Screening(
        baseline=baseline,
        reference=results.reference,
        family=family,
        knobs=tuple(knob for knob in knobs if knob.effects),
        advice=tuple(_effect(run, baseline, family) for run in candidates),
        best=_best(results, baseline),
    )


def _effect(run: Run, baseline: Noise | None, family: int) -> Effect:
    if run.val_loss is None or baseline is None:
        word = ScreenWord.UNKNOWN if run.val_loss is not None else ScreenWord.NO_LOSS
        return Effect(run=run, effect=None, half_width=None, family_half_width=None, word=word)
    effect = baseline.mean - run.val_loss
    half, whole = baseline.half_width(), baseline.half_width(looks=family)
    if whole is None:
        word = ScreenWord.UNKNOWN
    elif abs(effect) <= whole:
        word = ScreenWord.NOISE
    else:
        word = ScreenWord.LOWERS if effect > 0 else ScreenWord.RAISES
    return Effect(run=run, effect=effect, half_width=half, family_half_width=whole, word=word)


def _knob_effect(knob: str, effects: Sequence[Effect], baseline: Noise | None) -> KnobEffect:
    effects = sorted(effects, key=lambda effect: effect.run.id)
    known = [effect for effect in effects if effect.effect is not None]
    largest = max(known, key=lambda effect: abs(effect.effect or 0.0), default=None)
    span = None
    if known and baseline is not None:
        losses = [baseline.mean, *(_loss(effect.run) for effect in known)]
        span = max(losses) - min(losses)
    return KnobEffect(knob=knob, effects=tuple(effects), largest=largest, span=span)


def _best(results: Results, baseline: Noise | None) -> SearchBest | None:
    run = results.best
    if run is None:
        return None
    trials = sum(other.outcome != Outcome.RUNNING for other in results.search_runs)
    return SearchBest(
        run=run,
        gain=None if baseline is None else baseline.mean - _loss(run),
        half_width=None if baseline is None else baseline.half_width(),
        luck=None if baseline is None else baseline.half_width(looks=trials),
        trials=trials,
    )


def _loss(run: Run) -> float:
    assert run.val_loss is not None
    return run.val_loss
