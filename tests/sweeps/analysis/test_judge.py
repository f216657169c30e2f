"""The judge, on whole studies in memory whose loss surface is known."""

from __future__ import annotations

import dataclasses
import functools
import math

import pytest

from sweeps.analysis.arms import Arm
from sweeps.analysis.attribution import Attribution, BestWord, CandidateWord, KnobWord, Why
from sweeps.analysis.credit import CLAIMS
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.findings import Findings
from sweeps.analysis.judge import judge
from sweeps.analysis.significance import ALPHA_BEST, P_MULTIPLIER, shown
from sweeps.engine import confirm
from sweeps.export.ladder import ladder
from sweeps.export.trial import export_run, trial_of
from sweeps.store.records import Results
from sweeps.study.proposals import baseline_params, config_of
from tests.helpers import confirming, synthetic
from trainer.config import TrainConfig


def judged(results: Results) -> Attribution:
    attribution = Findings(results).attribution
    assert attribution is not None
    return attribution


@pytest.mark.parametrize("surface", confirming.SURFACES)
def test_the_words_are_the_truth(surface: str) -> None:
    attribution = judged(confirming.known(surface))
    assert attribution.decided
    words = {knob.knob: knob.word for knob in attribution.knobs}
    claimed = {knob for knob, word in words.items() if word in (KnobWord.ALONE, KnobWord.JOINT, KnobWord.NECESSARY)}
    assert attribution.broken is (surface != "flat")
    assert claimed == {"flat": set(), "slow": {"learning_rate"}, "both": {"weight_decay", "n_embd"}}[surface]
    if surface == "both":
        assert {words[knob] for knob in claimed} == {KnobWord.JOINT}
        assert {knob.partner for knob in attribution.knobs if knob.knob in claimed} == claimed
        assert all(knob.partner != knob.knob for knob in attribution.knobs)


@pytest.mark.parametrize("surface", confirming.SURFACES)
def test_intervals_hold_the_truth(surface: str) -> None:
    loss, attribution = confirming.SURFACES[surface], judged(confirming.known(surface))
    assert attribution.effect is not None
    assert attribution.effect.low is not None
    gain = loss(attribution.reference) - loss(attribution.best.config)
    low, high = attribution.effect.low, attribution.effect.high or 0
    assert low - 0.01 <= gain <= high + 0.01  # one draw of a 95 % interval


def test_a_knob_that_diverges_alone_does_not_break_the_plateau_alone() -> None:
    alone = Arm(frozenset(["learning_rate"]))
    attribution = judged(confirming.with_a_diverged_run(confirming.known("slow"), alone))
    knob = next(knob for knob in attribution.knobs if knob.knob == "learning_rate")
    assert (knob.word, knob.diverged) in ((KnobWord.NECESSARY, 1), (KnobWord.HURTS, 1))
    another = next(knob for knob in attribution.knobs if knob.knob != "learning_rate")
    assert another.diverged == 0


def test_an_idle_knob_that_diverges_hurts() -> None:
    results = confirming.known("slow")
    idle = next(knob.knob for knob in judged(results).knobs if knob.knob != "learning_rate" and not knob.necessary)
    attribution = judged(confirming.with_a_diverged_run(results, Arm(frozenset([idle]))))
    assert {knob.knob: knob.word for knob in attribution.knobs}[idle] is KnobWord.HURTS


def _without_half_runs(results: Results) -> Results:
    """Return the study before its runs of half the length."""
    arms = Evidence(results).arms
    runs = tuple(run for run in results.runs if (arm := arms.arm_of(run)) is None or not arm.half)
    assert len(runs) < len(results.runs)
    return dataclasses.replace(results, runs=runs)


def test_a_shown_gain_without_half_runs_gains_and_the_phase_makes_them_next() -> None:
    results = _without_half_runs(confirming.known("slow"))
    attribution = judged(results)
    first = attribution.knobs[0]
    assert (first.knob, first.word, first.necessary) == ("learning_rate", KnobWord.GAINS, False)
    assert (attribution.word, attribution.why) == (BestWord.NONE, Why.NO_SHORT_RUNS)
    assert not attribution.decided
    assert attribution.headline == ("learning_rate",)
    assert first.alone is not None
    assert shown(first.alone)
    following = confirm.next_run(Evidence(results))
    assert following is not None
    assert following[0].half


@pytest.mark.parametrize("surface", confirming.SURFACES)
def test_the_headline_is_the_knobs_that_are_claimed_in_the_order_of_all(surface: str) -> None:
    attribution = judged(confirming.known(surface))
    names = tuple(knob.knob for knob in attribution.knobs if knob.word in CLAIMS)
    assert attribution.headline == names == tuple(knob.knob for knob in attribution.knobs)[: len(names)]


STEPS = {"learning_rate": 1.18, "dropout": 0.46, "n_embd": 0.14}
"""nats that each change gains"""


def _steps(config: TrainConfig) -> float:
    changed = {
        "learning_rate": config.learning_rate == 3e-3,
        "dropout": config.dropout == 0.05,
        "n_embd": config.n_embd == 448,
    }
    return 4.4 - sum(STEPS[name] for name, is_changed in changed.items() if is_changed)


def _found(loss: confirming.Surface, params: dict[str, float]) -> Results:
    """Return a searched study whose best trial has these parameters."""
    searched = confirming.searched(loss, trials=6, baseline={**synthetic.study().baseline, "dropout": 0.2})
    values = {**baseline_params(searched.study), **params}
    config = config_of(searched.study, values, seed=searched.study.seed, vocab_size=searched.data.vocab_size)
    sampled = next(run for run in searched.runs if run.origin == "sampler")
    lucky = dataclasses.replace(sampled, params=values, config=config, val_loss=1.0)
    return dataclasses.replace(searched, runs=tuple(lucky if run.id == lucky.id else run for run in searched.runs))


def test_the_headline_credits_the_knob_that_gains_most_first() -> None:
    """Three knobs work alone. The largest comes first, and so does it before it is shown to last."""
    found = _found(_steps, {"learning_rate": 3e-3, "dropout": 0.05, "n_embd": 448})
    results = confirming.confirmed(found, _steps, luck=0.01)
    attribution = judged(results)
    assert attribution.headline == ("learning_rate", "dropout", "n_embd")
    assert {knob.word for knob in attribution.knobs} == {KnobWord.ALONE}
    # the twins of the rate are missing: its word is weaker than the others', its place the same
    rate = Arm(frozenset(["learning_rate"]), half=True)
    arms = Evidence(results).arms
    runs = tuple(run for run in results.runs if arms.arm_of(run) != rate)
    partly = dataclasses.replace(results, runs=runs)
    attribution = judged(partly)
    assert attribution.headline == ("learning_rate", "dropout", "n_embd")
    assert attribution.knobs[0].word is KnobWord.GAINS
    assert attribution.knobs[0].alone is not None
    assert attribution.knobs[0].alone.low is not None
    assert attribution.knobs[0].alone.low < STEPS["learning_rate"] < (attribution.knobs[0].alone.high or 0)
    # they are the next runs, on as many seeds as a question gets, before any knob is reset
    wanted = list(confirm.wanted(Evidence(partly)))
    missing = [place for place, (arm, _) in enumerate(wanted) if arm == rate]
    reset = next(place for place, (arm, _) in enumerate(wanted) if arm == arms.without("n_embd"))
    seeds = {wanted[place][1] for place in missing if place < reset}
    assert len(seeds) == results.study.confirm.seeds
    following = confirm.next_run(Evidence(partly))
    assert following is not None
    assert following[0] == rate


def test_advice_on_one_pair_is_one_run_and_gets_a_second() -> None:
    results = confirming.searched(confirming.slow, trials=6)
    arms = [Arm(candidate=index) for index in range(len(results.study.candidates))]
    before = judged_before(results)
    assert [candidate.word for candidate in before.candidates] == [CandidateWord.ONE_RUN] * len(arms)
    assert [candidate.effect and candidate.effect.n for candidate in before.candidates] == [1] * len(arms)
    assert [candidate.more_seeds for candidate in before.candidates] == [None] * len(arms)
    after = judged(confirming.confirmed(results, confirming.slow))
    for candidate in after.candidates:
        assert candidate.effect is not None
        assert candidate.effect.n > 1
        assert candidate.word is not CandidateWord.ONE_RUN


def judged_before(results: Results) -> Attribution:
    """Return the verdict before the first run of the confirm phase."""
    attribution = judge(Evidence(results))
    assert attribution is not None
    return attribution


def _spoilt(config: TrainConfig) -> float:
    """The rate gains 0.17 nats at 3e-3, and every width except the baseline's loses more."""
    return confirming.slow(config) + 0.3 * (config.n_embd != 384)


@functools.cache
def spoilt() -> Results:
    """Return a confirmed study whose best trial, by luck, has a good rate and a bad width."""
    return confirming.confirmed(_found(_spoilt, {"learning_rate": 3e-3, "n_embd": 448}), _spoilt)


def test_a_knob_is_shown_alone_if_the_best_spoils_its_gain() -> None:
    results = spoilt()
    attribution = judged(results)
    assert attribution.broken
    assert attribution.fewer
    assert attribution.change == ("learning_rate",)
    effect = attribution.effect
    assert effect is not None
    assert effect.low < 0.14 * math.log(3) ** 2 < effect.high  # type: ignore[operator]  # it has bounds
    assert effect.looks == pytest.approx(P_MULTIPLIER / (1 - ALPHA_BEST))
    assert attribution.whole is not None
    assert attribution.whole.mean < 0
    assert attribution.whole.looks == pytest.approx(P_MULTIPLIER / ALPHA_BEST)
    best = attribution.best.config
    assert best.replace(seed=0) == results.runs[0].config.replace(seed=0, learning_rate=3e-3, min_lr=best.min_lr)
    assert attribution.searched.val_loss == 1.0
    assert attribution.searched.id == next(run.id for run in results.runs if run.origin == "sampler")
    words = {knob.knob: knob.word for knob in attribution.knobs}
    assert words == {"learning_rate": KnobWord.ALONE, "n_embd": KnobWord.HURTS}


def test_a_best_that_spoils_a_gain_is_undecided_while_the_gain_may_last() -> None:
    results = spoilt()
    arms = Evidence(results).arms
    runs = tuple(run for run in results.runs if (arm := arms.arm_of(run)) is None or not arm.half or not arm.knobs)
    attribution = judged(dataclasses.replace(results, runs=runs))
    assert attribution.why in (Why.BELOW_MIN_EFFECT, Why.DIVERGED)
    assert (attribution.word, attribution.decided) == (BestWord.NONE, False)
    assert attribution.headline == ("learning_rate",)


def test_the_export_is_of_the_knob_that_is_shown() -> None:
    findings = Findings(spoilt())
    attribution = judged(spoilt())
    assert attribution.effect is not None
    assert trial_of(findings, None) == attribution.best
    exported = export_run(findings, attribution.best, date="2026-11-24")
    assert exported.settings["learning_rate"] == 3e-3
    assert exported.settings["n_embd"] == 384
    assert "verdict: Learning rate 0.001 -> 0.003 improves on the baseline alone" in exported.text
    assert ladder(findings, attribution.best).seeds == attribution.effect.n
