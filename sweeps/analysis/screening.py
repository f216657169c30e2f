"""Screening of single runs: every comparison with the baseline, with its interval and a word.

A single-knob run changes one knob alone, to an end of its range. A candidate is a piece of advice as it stands. Every
such run trains once, on the search's seed, and is compared with the baseline's seeds.

Words hold for the whole family: the study's single-knob runs and candidates together, pruned runs included, so that
pruning can't choose the family. The chance of any false "lowers" or "raises" is at most 5 % if the noise of seeds is
normal. The interval of a single comparison is given as well. Losses are in nats per token on the large window set, and
an effect is positive if the change is better.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.analysis.noise import Noise, noise_of
from sweeps.store.records import Outcome, Results, Run
from sweeps.study.proposals import ONE_AT_A_TIME
from trainer.config import TrainConfig


class ScreenWord(enum.StrEnum):
    """What one comparison with the baseline shows."""

    LOWERS = "lowers the loss"
    RAISES = "raises the loss"
    NOISE = "within the noise of seeds"
    UNKNOWN = "not enough evidence"
    """the noise of seeds is unknown"""
    NO_LOSS = "no final loss"
    """the run did not complete"""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One run against the baseline. `effect` is the baseline's mean - the run's final loss, nats."""

    run: Run
    effect: float | None
    """None: the run or the baseline has no final loss"""
    half_width: float | None
    """the 95 % interval of one comparison is effect ± this; None: noise unknown"""
    family_half_width: float | None
    """the same with 95 % for all comparisons of the family at once; the word rests on it"""
    word: ScreenWord


@dataclass(frozen=True, kw_only=True)
class KnobEffect:
    """One knob alone, at the ends of its range."""

    knob: str
    effects: tuple[Effect, ...]
    largest: Effect | None
    """the complete single-knob run whose loss is furthest from the baseline's"""
    span: float | None
    """highest - lowest final loss among the single-knob runs and the baseline's mean, nats"""


@dataclass(frozen=True, kw_only=True)
class SearchBest:
    """The search's best complete trial against the baseline. It won among `trials`, so its gain is optimistic."""

    run: Run
    gain: float | None
    """the baseline's mean - the trial's final loss, nats; None: no baseline"""
    half_width: float | None
    """the 95 % interval of one comparison is gain ± this; it ignores that the trial was chosen as the best"""
    luck: float | None
    """how far below the mean the luckiest of `trials` baseline runs may end (95 %), nats"""
    trials: int
    """trials of the search that it was chosen from, pruned trials included"""


@dataclass(frozen=True, kw_only=True)
class Screening:
    """What a study's runs say about its knobs."""

    baseline: Noise | None
    """noise of the baseline; None: no baseline run is complete"""
    reference: TrainConfig | None
    """the baseline's config; None: no baseline run was started"""
    family: int
    """number of comparisons for which the words hold together"""
    knobs: tuple[KnobEffect, ...]
    """in the study's order"""
    candidates: tuple[Effect, ...]
    best: SearchBest | None


def screen(results: Results) -> Screening:
    """Compare every single-knob run, every candidate and the best trial with the baseline.

    Runs on part of the data are left out, since less data is no change to recommend; see `more_data`.
    """
    losses = [_loss(run) for run in results.baseline_runs]
    baseline = noise_of(losses) if losses else None
    single_knob = [run for run in results.runs if run.origin == ONE_AT_A_TIME and run.knob in results.study.sampled]
    candidates = sorted((run for run in results.runs if run.origin == "candidate"), key=lambda run: run.id)
    family = len(single_knob) + len(candidates)
    knobs = (
        _knob_effect(knob, [_effect(run, baseline, family) for run in single_knob if run.knob == knob], baseline)
        for knob in results.study.sampled
    )
    return Screening(
        baseline=baseline,
        reference=results.reference,
        family=family,
        knobs=tuple(knob for knob in knobs if knob.effects),
        candidates=tuple(_effect(run, baseline, family) for run in candidates),
        best=_best(results, baseline),
    )


def _effect(run: Run, baseline: Noise | None, family: int) -> Effect:
    complete = run.val_loss is not None
    if run.val_loss is None or baseline is None:
        word = screen_word(None, None, complete=complete)
        return Effect(run=run, effect=None, half_width=None, family_half_width=None, word=word)
    effect = baseline.mean - run.val_loss
    family_half_width = baseline.half_width(looks=family)
    return Effect(
        run=run,
        effect=effect,
        half_width=baseline.half_width(),
        family_half_width=family_half_width,
        word=screen_word(effect, family_half_width, complete=complete),
    )


def screen_word(effect: float | None, family_half_width: float | None, *, complete: bool) -> ScreenWord:
    """Return the word of a comparison. `complete`: the run has a final loss. None: no baseline, or noise unknown."""
    if not complete:
        return ScreenWord.NO_LOSS
    if effect is None or family_half_width is None:
        return ScreenWord.UNKNOWN
    if abs(effect) <= family_half_width:
        return ScreenWord.NOISE
    return ScreenWord.LOWERS if effect > 0 else ScreenWord.RAISES


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
    trials = sum(trial.outcome != Outcome.RUNNING for trial in results.search_runs)
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
