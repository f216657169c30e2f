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
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import FloatDistribution

from sweeps import progress, space
from sweeps.noise import Noise, noise_of
from sweeps.results import Results, Run
from trainer.config import TrainConfig

FANOVA_TRIALS = 20
"""complete trials below which fANOVA's forest says nothing reliable"""
MANY_EPOCHS = 4.0
"""repetitions up to which repeated tokens are about as good as fresh ones (Muennighoff et al. 2023, 2305.16264)"""
_FORESTS, _TREES = 3, 32


class Word(enum.StrEnum):
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
    word: Word


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
class Best:
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
    best: Best | None


def baseline_runs(results: Results) -> tuple[Run, ...]:
    """The baseline's complete runs, one a seed, the search's seed first."""
    runs = (run for run in results.runs if run.origin == "baseline" and run.val_loss is not None)
    return tuple(sorted(runs, key=lambda run: (run.seed != results.study.seed, run.seed)))


def reference_config(results: Results) -> TrainConfig | None:
    """The baseline's config under the search's seed, whether or not its run is complete."""
    runs = [run for run in results.runs if run.origin == "baseline"]
    first = min(runs, key=lambda run: (run.seed != results.study.seed, run.seed), default=None)
    return None if first is None else first.config


def best_run(results: Results) -> Run | None:
    """The complete trial of the search's Optuna study with the lowest final loss; the earliest of equals."""
    return progress.best(results.runs, search=results.study.name)


def search_runs(results: Results) -> tuple[Run, ...]:
    """The runs whose trials the sampler sees: those of the search's own Optuna study."""
    return tuple(run for run in results.runs if run.optuna_study == results.study.name)


def screen(results: Results) -> Screening:
    """Hold every star run, every candidate and the best trial against the baseline."""
    losses = [_loss(run) for run in baseline_runs(results)]
    baseline = noise_of(losses) if losses else None
    star = [run for run in results.runs if run.origin == "star"]
    candidates = sorted((run for run in results.runs if run.origin == "candidate"), key=lambda run: run.id)
    family = len(star) + len(candidates)
    knobs = (
        _knob_effect(knob, [_effect(run, baseline, family) for run in star if run.knob == knob], baseline)
        for knob in results.study.knobs
    )
    return Screening(
        baseline=baseline,
        reference=reference_config(results),
        family=family,
        knobs=tuple(knob for knob in knobs if knob.effects),
        advice=tuple(_effect(run, baseline, family) for run in candidates),
        best=_best(results, baseline),
    )


def _effect(run: Run, baseline: Noise | None, family: int) -> Effect:
    if run.val_loss is None or baseline is None:
        word = Word.UNKNOWN if run.val_loss is not None else Word.NO_LOSS
        return Effect(run=run, effect=None, half_width=None, family_half_width=None, word=word)
    effect = baseline.mean - run.val_loss
    half, whole = baseline.half_width(), baseline.half_width(looks=family)
    if whole is None:
        word = Word.UNKNOWN
    elif abs(effect) <= whole:
        word = Word.NOISE
    else:
        word = Word.LOWERS if effect > 0 else Word.RAISES
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


def _best(results: Results, baseline: Noise | None) -> Best | None:
    run = best_run(results)
    if run is None:
        return None
    trials = sum(other.outcome != "running" for other in search_runs(results))
    return Best(
        run=run,
        gain=None if baseline is None else baseline.mean - _loss(run),
        half_width=None if baseline is None else baseline.half_width(),
        luck=None if baseline is None else baseline.half_width(looks=trials),
        trials=trials,
    )


def _loss(run: Run) -> float:
    assert run.val_loss is not None
    return run.val_loss


@dataclass(frozen=True, kw_only=True)
class Importances:
    """Share of the final loss's variance over the search space that each knob explains alone (fANOVA)."""

    shares: Mapping[str, float]
    """by Optuna parameter, largest first; empty where `reason` says why"""
    zero_line: float
    """what a knob without any effect gets from as many trials: shares near or below it mean nothing"""
    trials: int
    reason: str


def importances(results: Results) -> Importances:
    """fANOVA (Hutter et al. 2014) over the search's complete trials, averaged over a few seeded forests.

    Each forest also gets a dummy knob of random values; the largest share that a dummy gets is the
    zero line. Pruned trials have no final loss and are left out, which the reader should be told.
    """
    distributions = space.distributions(results.study)
    runs = [
        run for run in search_runs(results) if run.val_loss is not None and distributions.keys() <= run.params.keys()
    ]
    if len(runs) < FANOVA_TRIALS or not distributions:
        reason = f"importances need at least {FANOVA_TRIALS} complete trials of the search, and there are {len(runs)}"
        return Importances(shares={}, zero_line=0.0, trials=len(runs), reason=reason)
    shares = dict.fromkeys(distributions, 0.0)
    zero_line = 0.0
    for forest in range(_FORESTS):
        dummies = np.random.default_rng(forest).random(len(runs))
        found = _fanova(runs, distributions, dummies, seed=forest)
        zero_line = max(zero_line, found.pop(_DUMMY))
        for name, share in found.items():
            shares[name] += share / _FORESTS
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return Importances(shares=dict(ordered), zero_line=zero_line, trials=len(runs), reason="")


_DUMMY = "(dummy)"


def _fanova(
    runs: Sequence[Run],
    distributions: Mapping[str, optuna.distributions.BaseDistribution],
    dummies: Sequence[float] | np.ndarray,
    *,
    seed: int,
) -> dict[str, float]:
    spaces = {**distributions, _DUMMY: FloatDistribution(0.0, 1.0)}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a study in memory isn't news
    try:
        study = optuna.create_study()
    finally:
        optuna.logging.set_verbosity(verbosity)
    for run, dummy in zip(runs, dummies, strict=True):
        params = {name: run.params[name] for name in distributions} | {_DUMMY: float(dummy)}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, value=_loss(run)))
    from optuna.importance import FanovaImportanceEvaluator  # loads scikit-learn, which takes seconds

    return FanovaImportanceEvaluator(n_trees=_TREES, seed=seed).evaluate(study, params=list(spaces))


def epochs(config: TrainConfig, results: Results) -> float:
    """Times that a whole run goes over the training tokens."""
    return config.max_iters * config.tokens_per_iter / results.data.train_tokens


def perplexity(loss: float) -> float:
    """exp of a loss in nats: the number of tokens that it is as uncertain as a fair choice of."""
    return math.exp(loss) if loss < 700 else math.inf


def bits_per_byte(loss: float, results: Results) -> float | None:
    """A loss in nats a token as bits a byte of text, comparable across tokenizers; None: bytes unknown."""
    size = results.data.bytes_per_token
    return None if size is None else loss / math.log(2) / size
