"""Synthetic verdicts of a confirm phase: a case per word, from means and standard errors alone.

Intervals are Student's t, from scipy.stats. No number comes from the code under test.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from typing import Any

import numpy as np
from scipy import stats

from sweeps.analysis.arms import Arm, Arms
from sweeps.analysis.attribution import (
    Attribution,
    BestWord,
    CandidateVerdict,
    CandidateWord,
    KnobVerdict,
    KnobWord,
    Pair,
    PathStep,
    Why,
)
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.credit import CLAIMS
from sweeps.analysis.findings import Findings
from sweeps.store.records import Results, Run
from sweeps.study.proposals import (
    Proposal,
    baseline_params,
    baseline_proposals,
    candidate_proposals,
    config_of,
    one_at_a_time_proposals,
)
from tests.helpers import synthetic

FLOOR = 0.02
"""min_effect, nats"""
SEED = 1337
"""the search's own seed; fresh seeds follow it"""
ADVICE = ({"dropout": 0.2, "weight_decay": 0.2}, {"warmup_iters": 60}, {"learning_rate": 2e-3}, {"beta2": 0.99})
WINNER = {"learning_rate": 3e-3, "dropout": 0.05, "n_embd": 768}
"""parameters of the best trial that differ from the baseline's"""
BEST = synthetic.config_of(WINNER)


def contrast(mean: float, *, se: float | None = 0.01, n: int = 5, threshold: float = 0.0, **changes: Any) -> Contrast:
    """Return a contrast over n fresh seeds with this mean and standard error (nats), by the paired t-test."""
    spread = [2 * index - (n - 1) for index in range(n)]
    unit = statistics.stdev(spread) / math.sqrt(n) if n > 1 else 1.0
    known = se if n > 1 else None
    fields: dict[str, Any] = {
        "differences": {SEED + 1 + i: mean + (known or 0.0) * offset / unit for i, offset in enumerate(spread)},
        "mean": mean,
        "se": known,
        "degrees": None,
        "low": None,
        "high": None,
        "lower": None,
        "upper": None,
        "threshold": threshold,
        "p": None,
        "method": "paired",
    }
    if known is not None:
        law = stats.t(n - 1, loc=mean, scale=known)
        fields |= {"degrees": float(n - 1), "low": law.ppf(0.025), "high": law.ppf(0.975)}
        fields |= {"lower": law.ppf(0.05), "upper": law.ppf(0.95), "p": law.cdf(threshold)}
    return Contrast(**{**fields, **changes})


def gain(mean: float, **changes: Any) -> Contrast:
    """Return a contrast against FLOOR."""
    return contrast(mean, **{"threshold": FLOOR, **changes})


def bimodal(stuck: int, through: int, *, size: float = 0.5) -> Contrast:
    """Return a gain whose seeds stay stuck (0) or break through (`size` nats)."""
    outcomes = [0.0] * stuck + [size] * through
    differences = {SEED + 1 + index: gained for index, gained in enumerate(outcomes)}
    n = len(outcomes)
    return gain(statistics.fmean(outcomes), se=0.1, n=n, differences=differences, bimodal=True)


def knob(name: str, word: KnobWord, alone: Contrast | None, **changes: Any) -> KnobVerdict:
    """Return the verdict on a knob that the best trial changes."""
    fields: dict[str, Any] = {
        "knob": name,
        "was": getattr(synthetic.BASELINE, name),
        "new": getattr(BEST, name),
        "word": word,
        "alone": alone,
        "lasting": None,
        "reset": None,
        "needed": None,
        "necessary": word is KnobWord.NECESSARY,
        "partner": None,
        "diverged": 0,
        "more_seeds": None,
    }
    return KnobVerdict(**{**fields, **changes})


def candidate(index: int, word: CandidateWord, effect: Contrast | None, **changes: Any) -> CandidateVerdict:
    """Return the verdict on one of ADVICE."""
    label = ", ".join(f"{name} {value:g}" for name, value in ADVICE[index].items())
    fields: dict[str, Any] = {"candidate": index, "label": label, "word": word, "effect": effect}
    return CandidateVerdict(**{**fields, "diverged": 0, "more_seeds": None, **changes})


def best(**changes: Any) -> Run:
    """Return the search's best trial."""
    fields: dict[str, Any] = {"config": BEST, "params": synthetic.params_of(BEST), "val_loss": 3.30}
    return synthetic.run(17, **{**fields, **changes})


KNOBS = (
    knob(
        "learning_rate",
        KnobWord.ALONE,
        gain(0.40),
        lasting=contrast(0.22),
        reset=contrast(0.31),
        needed=contrast(0.06),
        necessary=True,
    ),
    knob("n_embd", KnobWord.ALONE, gain(0.15), lasting=contrast(0.09), reset=contrast(0.10), needed=contrast(-0.15)),
    knob("dropout", KnobWord.NO_EFFECT, gain(0.003, se=0.004), reset=contrast(0.002, se=0.004)),
)
PAIR = Pair(knobs=("learning_rate", "n_embd"), both=gain(0.50), interaction=contrast(-0.05))
PATH = (
    PathStep(knob=None, rest=(), losses={1338: 3.80, 1339: 3.84}, drop=None),
    PathStep(knob="learning_rate", rest=(), losses={1338: 3.40, 1339: 3.44}, drop=contrast(0.40, n=2)),
    PathStep(knob="n_embd", rest=(), losses={1338: 3.30, 1339: 3.34}, drop=contrast(0.10, n=2)),
    PathStep(knob="dropout", rest=(), losses={1338: 3.30, 1339: 3.33}, drop=contrast(0.005, n=2)),
)
ANSWERS = (
    candidate(0, CandidateWord.WRONG, gain(-0.08)),
    candidate(1, CandidateWord.NO_EFFECT, gain(0.001, se=0.003)),
    candidate(2, CandidateWord.RIGHT, gain(0.25)),
    candidate(3, CandidateWord.UNKNOWN, gain(0.01, n=2), more_seeds=4),
)
ONE_RUN = candidate(0, CandidateWord.ONE_RUN, gain(0.838, n=1, low=0.778, high=0.899, p=1e-6))
"""advice on one pair, whose noise is estimated from other arms"""


def attribution(**changes: Any) -> Attribution:
    """Return a plateau broken by each of two knobs alone. A third has no effect. `changes` replace fields."""
    fields: dict[str, Any] = {
        "word": BestWord.BREAKS,
        "decided": True,
        "why": None,
        "best": best(),
        "reference": synthetic.BASELINE,
        "effect": gain(0.51),
        "lasting": contrast(0.25),
        "plateaued": (4, 5),
        "knobs": KNOBS,
        "pair": PAIR,
        "path": PATH,
        "candidates": ANSWERS,
        "min_effect": FLOOR,
        "seeds": tuple(range(SEED + 1, SEED + 6)),
        "runs": 41,
        "diverged": 0,
    }
    fields |= changes
    derived = {
        "change": tuple(knob.knob for knob in fields["knobs"]),
        "headline": tuple(knob.knob for knob in fields["knobs"] if knob.word in CLAIMS),
        "searched": fields["best"],
        "whole": fields["effect"],
        "whole_lasting": fields["lasting"],
    }
    return Attribution(**{**derived, **fields})


_RATE = synthetic.BASELINE.replace(learning_rate=3e-3, min_lr=3e-4, seed=SEED + 1)
RATE = synthetic.run(
    200 + SEED + 1,
    trial=11,
    seed=SEED + 1,
    phase="confirm",
    origin="confirm",
    label=f"learning_rate alone, seed {SEED + 1}",
    config=_RATE,
    params=synthetic.params_of(_RATE),
    val_loss=3.41,
    optuna_study="plateau-confirm",
)
"""the baseline with only the best's learning rate"""


def results() -> Results:
    """Return the study of `attribution()`: six seeds of the baseline near 3.82, five of the best near 3.31."""
    seeds = range(SEED, SEED + 6)
    runs = [
        synthetic.run(
            index,
            "baseline",
            seed=seed,
            config=synthetic.BASELINE.replace(seed=seed),
            val_loss=3.80 + 0.01 * index,
            label=f"baseline, seed {seed}",
            optuna_study="plateau" if seed == SEED else "plateau-confirm",
        )
        for index, seed in enumerate(seeds)
    ]
    runs.append(best())
    runs += [
        best(
            id=100 + index,
            trial=index,
            seed=seed,
            phase="confirm",
            origin="confirm",
            label=f"best (trial 17), seed {seed}",
            config=BEST.replace(seed=seed),
            val_loss=3.29 + 0.01 * index,
            optuna_study="plateau-confirm",
        )
        for index, seed in enumerate(seeds)
        if index
    ]
    runs += [
        dataclasses.replace(RATE, id=200 + seed, seed=seed, config=RATE.config.replace(seed=seed), val_loss=loss)
        for seed, loss in zip(seeds[1:], (3.41, 3.42, 3.43, 3.44, 3.45), strict=True)
    ]
    return synthetic.results(runs, study=synthetic.study(candidates=list(ADVICE)))


def findings_of(verdict: Attribution | None, of: Results | None = None) -> Findings:
    """Return the findings of `results()`, or of other results, with `verdict` as their confirmed verdict."""
    findings = Findings(of or results())
    vars(findings)["attribution"] = verdict
    return findings


OPEN = {"pair": None, "path": PATH[:1], "candidates": (ANSWERS[0], ANSWERS[1], ANSWERS[3]), "lasting": None}
BASELINE_ALONE = {"knobs": (), "pair": None, "path": PATH[:1], "candidates": (), "lasting": None, "seeds": ()}


def jointly() -> Attribution:
    """Return a plateau that two knobs break only together."""
    pair_knobs = [
        knob(
            name,
            KnobWord.JOINT,
            gain(0.01),
            reset=contrast(0.45),
            needed=contrast(0.2),
            necessary=True,
            partner=partner,
        )
        for name, partner in (("learning_rate", "n_embd"), ("n_embd", "learning_rate"))
    ]
    pair = Pair(knobs=("learning_rate", "n_embd"), both=gain(0.48), interaction=contrast(0.46))
    return attribution(knobs=(*pair_knobs, KNOBS[2]), pair=pair)


def necessary() -> Attribution:
    """Return a plateau that no knob breaks alone, and one knob is necessary."""
    needed = knob("learning_rate", KnobWord.NECESSARY, gain(0.05, se=0.05), reset=contrast(0.4), needed=contrast(0.15))
    undecided_knob = knob("n_embd", KnobWord.UNKNOWN, gain(0.04, n=3), more_seeds=5)
    return attribution(knobs=(needed, undecided_knob, KNOBS[2]), pair=None)


def nobody() -> Attribution:
    """Return a broken plateau for which no single knob is shown as the cause."""
    knobs = (
        knob("learning_rate", KnobWord.UNKNOWN, gain(0.1, se=0.06, n=3), more_seeds=5),
        knob("n_embd", KnobWord.UNKNOWN, gain(0.04, n=1)),
        knob("dropout", KnobWord.HURTS, gain(-0.2)),
    )
    return attribution(knobs=knobs, pair=None)


def improved() -> Attribution:
    """Return the evidence of `attribution()` with a baseline that was not on a plateau."""
    return attribution(word=BestWord.IMPROVES, plateaued=(1, 5))


def head_start(*, decided: bool = True) -> Attribution:
    """Return a gain that shrinks, or may shrink, as runs get longer."""
    lasting = contrast(-0.05) if decided else contrast(0.01)
    return _unproven(Why.HEAD_START if decided else Why.PERHAPS_HEAD_START, decided=decided, lasting=lasting)


def diverged() -> Attribution:
    """Return a best of which two runs diverged."""
    return _unproven(Why.DIVERGED, diverged=2, effect=gain(0.5, n=3))


def nothing() -> Attribution:
    """Return a best that is shown to gain less than FLOOR."""
    return _unproven(Why.BELOW_MIN_EFFECT, effect=gain(0.002, se=0.003))


def undecided() -> Attribution:
    """Return a best that may gain more than FLOOR."""
    return _unproven(Why.NOT_ABOVE_MIN_EFFECT, decided=False, effect=gain(0.05, se=0.02, n=3))


def gaining() -> Attribution:
    """Return a broken plateau whose largest share is shown of a knob of which no half-length run exists yet."""
    rate = knob(
        "learning_rate", KnobWord.GAINS, gain(1.18, se=0.03, n=3), reset=contrast(1.2, se=0.05, n=3), necessary=True
    )
    width = knob("n_embd", KnobWord.ALONE, gain(0.14), lasting=contrast(0.1), reset=contrast(0.1))
    return attribution(knobs=(rate, width, KNOBS[2]), effect=gain(1.31, se=0.03, n=3), pair=None)


def perhaps_lasting() -> Attribution:
    """Return a best and a knob that both gain, and neither gain is shown to last."""
    dropout = knob(
        "dropout", KnobWord.GAINS, gain(0.46, se=0.001, n=2), lasting=contrast(0.2, n=2, se=0.05), more_seeds=2
    )
    width = knob("n_embd", KnobWord.UNKNOWN, gain(0.37, se=0.1, n=2), more_seeds=3)
    knobs = {"knobs": (dropout, width), "lasting": contrast(0.3, n=2, se=0.2)}
    return _unproven(Why.PERHAPS_HEAD_START, decided=False, effect=gain(0.68, n=3), **knobs)


def gaining_alone() -> Attribution:
    """Return a knob whose gain may last, changed by a best that is shown to gain less than FLOOR."""
    rate = knob("learning_rate", KnobWord.GAINS, gain(0.4), lasting=None)
    width = knob("n_embd", KnobWord.HURTS, gain(-0.4))
    return _unproven(Why.BELOW_MIN_EFFECT, decided=False, effect=gain(0.002, se=0.003), knobs=(rate, width))


def one_alone() -> Attribution:
    """Return a verdict about one knob, because the best with all of its changes is not shown."""
    knobs = (KNOBS[0], knob("n_embd", KnobWord.HURTS, gain(-0.2)))
    return attribution(
        knobs=knobs,
        pair=None,
        path=PATH[:1],
        best=RATE,
        searched=best(),
        change=("learning_rate",),
        effect=KNOBS[0].alone,
        lasting=KNOBS[0].lasting,
        whole=gain(0.05, se=0.03),
        whole_lasting=None,
    )


def unchanged() -> Attribution:
    """Return the verdict on a best trial that is the baseline."""
    baseline = best(config=synthetic.BASELINE, params=synthetic.params_of(synthetic.BASELINE), origin="baseline")
    why = Why.NOTHING_LOWER
    return attribution(**{**BASELINE_ALONE, "word": BestWord.NONE, "why": why, "best": baseline, "effect": None})


def _unproven(why: Why, **changes: Any) -> Attribution:
    knobs = tuple(
        knob(name, KnobWord.UNKNOWN, gain(0.05, se=0.02, n=3), more_seeds=9) for name in ("learning_rate", "n_embd")
    )
    return attribution(**{**OPEN, "word": BestWord.NONE, "why": why, "knobs": knobs, **changes})


CASES = {
    "broken": attribution,
    "jointly": jointly,
    "necessary": necessary,
    "nobody": nobody,
    "improved": improved,
    "one alone": one_alone,
    "gaining": gaining,
    "gaining alone": gaining_alone,
    "perhaps lasting": perhaps_lasting,
    "head start": head_start,
    "head start?": lambda: head_start(decided=False),
    "diverged": diverged,
    "nothing": nothing,
    "undecided": undecided,
    "unchanged": unchanged,
}
"""every verdict that the confirm phase may end with"""


@functools.cache
def swept(*, seeds: int = 5, noise: float = 0.004) -> Results:
    """Return a study that was searched and confirmed on `synthetic.surface`: rate and width help, dropout hurts.

    A seed moves all runs alike, and every run has a little noise of its own. The best trial is WINNER. Every arm ran at
    every fresh seed, the candidates and the arms of half the length included.
    """
    study = synthetic.study(candidates=list(ADVICE), trials=16)
    runs: list[Run] = []

    def add(proposal: Proposal, *, bonus: float = 0.0) -> Run:
        config = proposal.config
        luck = np.random.default_rng([config.seed, config.max_iters]).normal(0, 0.02)
        of_run = np.random.default_rng(len(runs)).normal(0, noise)
        shorter = 0.15 * math.log2(600 / config.max_iters)
        loss = synthetic.surface(config) + float(luck + of_run) + shorter - bonus
        searched = proposal.params is not None and proposal.seed == SEED
        home = "plateau" if searched else "plateau-confirm"
        run = synthetic.run(
            len(runs),
            proposal.origin,
            trial=sum(run.optuna_study == home for run in runs),
            optuna_study=home,
            phase=proposal.phase,
            label=proposal.label,
            knob=proposal.knob,
            seed=proposal.seed,
            params=proposal.params or {},
            config=config,
            val_loss=loss,
            points=synthetic.stuck(synthetic.points(config, loss), since=20),
        )
        runs.append(run)
        return run

    size = {"vocab_size": 2048}
    for proposal in (
        *baseline_proposals(study, **size),
        *candidate_proposals(study, **size),
        *one_at_a_time_proposals(study, **size),
    ):
        add(proposal)
    params = {**baseline_params(study), **WINNER}
    config = config_of(study, params, seed=SEED, **size)
    label = f"trial {sum(run.optuna_study == 'plateau' for run in runs)}"
    searched = Proposal(
        key="", phase="search", origin="sampler", label=label, knob=None, seed=SEED, params=params, config=config
    )
    arms = Arms(study, add(searched, bonus=0.03), **size)
    knobs = [Arm(frozenset(names)) for names in (arms.changed, *((name,) for name in arms.changed))]
    knobs += [arms.without(name) for name in arms.changed]
    halves = [Arm(arm.knobs, half=True) for arm in (Arm(), *knobs)]
    known = {run.config for run in runs}
    for seed in range(SEED + 1, SEED + 1 + seeds):
        for arm in dict.fromkeys((Arm(), *knobs, *halves, *(Arm(candidate=index) for index in range(len(ADVICE))))):
            proposal = arms.proposal(arm, seed)
            if proposal.config not in known:
                add(proposal)
    return synthetic.results(runs, study=study)
