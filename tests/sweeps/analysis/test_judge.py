"""The judge, on whole studies in memory whose loss surface is known."""

from __future__ import annotations

import dataclasses
import functools
import math

import pytest

from sweeps.analysis.arms import Arm
from sweeps.analysis.attribution import Attribution, KnobWord
from sweeps.analysis.findings import Findings
from sweeps.analysis.significance import ALPHA_BEST, P_MULTIPLIER
from sweeps.export.ladder import ladder
from sweeps.export.trial import export_run, trial_of
from sweeps.store.records import Results
from sweeps.study.proposals import baseline_params, config_of
from tests.helpers import confirming
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


def _spoilt(config: TrainConfig) -> float:
    """The rate gains 0.17 nats at 3e-3, and every width except the baseline's loses more."""
    return confirming.slow(config) + 0.3 * (config.n_embd != 384)


@functools.cache
def spoilt() -> Results:
    """Return a confirmed study whose best trial, by luck, has a good rate and a bad width."""
    searched = confirming.searched(_spoilt, trials=6)
    params = {**baseline_params(searched.study), "learning_rate": 3e-3, "n_embd": 448}
    config = config_of(searched.study, params, seed=searched.study.seed, vocab_size=searched.data.vocab_size)
    sampled = next(run for run in searched.runs if run.origin == "sampler")
    lucky = dataclasses.replace(sampled, params=params, config=config, val_loss=2.0)
    runs = tuple(lucky if run.id == lucky.id else run for run in searched.runs)
    return confirming.confirmed(dataclasses.replace(searched, runs=runs), _spoilt)


def test_a_knob_is_shown_alone_if_the_best_spoils_its_gain() -> None:
    results = spoilt()
    attribution = judged(results)
    assert attribution.broken
    assert attribution.by_one
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
    assert attribution.searched.val_loss == 2.0
    assert attribution.searched.id == next(run.id for run in results.runs if run.origin == "sampler")
    words = {knob.knob: knob.word for knob in attribution.knobs}
    assert words == {"learning_rate": KnobWord.ALONE, "n_embd": KnobWord.HURTS}


def test_the_export_is_of_the_knob_that_is_shown() -> None:
    findings = Findings(spoilt())
    attribution = judged(spoilt())
    assert attribution.effect is not None
    assert trial_of(findings, None) == attribution.best
    exported = export_run(findings, attribution.best, date="2026-11-24")
    assert exported.settings["learning_rate"] == 3e-3
    assert exported.settings["n_embd"] == 384
    assert "verdict: Learning rate improves on the baseline alone" in exported.text
    assert ladder(findings, attribution.best).seeds == attribution.effect.n
