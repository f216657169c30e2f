"""Verdicts and findings on simulated runs with one fault each: what is said, what comes first, and what must not be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.diagnose.findings.finding import Code
from sweeps.diagnose.findings.ranked import RULES
from sweeps.diagnose.judgement import RunState
from tests.helpers.logged_runs import FIRST, Simulated, falling, flat

NAN = math.nan


def above(step: float) -> float:
    return flat(step) + 0.05


def u_shaped(step: float) -> float:
    return falling(min(step, 600)) + max(step - 600, 0) * 4e-4


def memorised(step: float) -> float:
    return falling(step) - max(step - 400, 0) * 6e-4


def blown(step: float) -> float:
    return falling(step) if step < 1000 else falling(1000) + (step - 950) / 300


def nan_from_1500(step: float) -> float:
    return falling(step) if step < 1500 else NAN


def rising_to_nan(step: float) -> float:
    return falling(step) + max(step - 1300, 0) / 100 if step < 1500 else NAN


def shuffled(step: float) -> float:
    return max(falling(step), 3.5) + step * 2e-4


def spiked(step: float) -> float:
    return falling(step) + (3.0 if step in (700, 1200) else 0.0)


def frozen(step: float) -> float:
    return FIRST if step < 3000 else 0.0


RUNS: dict[str, tuple[Simulated, RunState, Code | None, set[Code]]] = {
    "still falling": (Simulated(), RunState.IMPROVING, None, {Code.OVERFITTING, Code.CAPACITY_LIMITED}),
    "too few evaluations": (Simulated(last=200), RunState.TOO_SHORT, None, {Code.OVERFITTING, Code.CAPACITY_LIMITED}),
    "flat, never below the validation loss": (
        Simulated(train=above, val=flat, settings={"n_embd": 16, "n_layer": 1}),
        RunState.PLATEAU,
        Code.CAPACITY_LIMITED,
        {Code.OVERFITTING, Code.DATA_LIMITED},
    ),
    "dropout though it underfits": (
        Simulated(train=above, val=flat, settings={"dropout": 0.3}),
        RunState.PLATEAU,
        Code.DROPOUT_ON_UNDERFIT,
        {Code.OVERFITTING},
    ),
    "weight decay of 2": (
        Simulated(train=above, val=flat, settings={"weight_decay": 2.0}),
        RunState.PLATEAU,
        Code.WEIGHT_DECAY_TOO_STRONG,
        {Code.OVERFITTING},
    ),
    "validation loss turns": (
        Simulated(train=memorised, val=u_shaped),
        RunState.OVERFITTING,
        Code.OVERFITTING,
        {Code.CAPACITY_LIMITED, Code.DROPOUT_ON_UNDERFIT},
    ),
    "a gap that opens": (
        Simulated(train=memorised, val=falling),
        RunState.IMPROVING,
        Code.DATA_LIMITED,
        {Code.OVERFITTING, Code.CAPACITY_LIMITED},
    ),
    "validation text out of order": (
        Simulated(val=shuffled, data_tokens=10_000_000),
        RunState.BROKEN_DATA,
        Code.VAL_MISMATCH,
        {Code.OVERFITTING, Code.DATA_LIMITED},
    ),
    "a rate of a hundredth": (
        Simulated(train=flat, val=flat, settings={"learning_rate": 1e-5, "min_lr": 1e-6}),
        RunState.PLATEAU,
        Code.LR_TOO_LOW,
        {Code.OVERFITTING, Code.CAPACITY_LIMITED},
    ),
    "blown up at a rate of 1": (
        Simulated(train=blown, val=blown, settings={"learning_rate": 1.0, "grad_clip": 0.0}),
        RunState.DIVERGED,
        Code.LR_TOO_HIGH,
        {Code.OVERFITTING, Code.CAPACITY_LIMITED},
    ),
    "blown up at a usual rate": (
        Simulated(train=blown, val=blown),
        RunState.DIVERGED,
        Code.INSTABILITY,
        {Code.OVERFITTING, Code.CAPACITY_LIMITED},
    ),
    "nan from one line to the next": (
        Simulated(iters=nan_from_1500, train=nan_from_1500, val=nan_from_1500, settings={"dtype": "float16"}),
        RunState.NAN,
        Code.PRECISION_OVERFLOW,
        {Code.OVERFITTING, Code.INSTABILITY},
    ),
    "nan after a rise": (
        Simulated(iters=rising_to_nan, train=rising_to_nan, val=rising_to_nan),
        RunState.NAN,
        Code.INSTABILITY,
        {Code.OVERFITTING, Code.PRECISION_OVERFLOW},
    ),
    "iterations alone, then nan": (
        Simulated(iters=nan_from_1500, val=None, known=False),
        RunState.NAN,
        Code.PRECISION_OVERFLOW,
        {Code.OVERFITTING},
    ),
    "nothing learnt": (
        Simulated(train=frozen, val=frozen, settings={"learning_rate": 1e-12, "min_lr": 1e-13}),
        RunState.PLATEAU,
        Code.NO_UPDATE,
        {Code.OVERFITTING, Code.CAPACITY_LIMITED},
    ),
    "exactly constant": (
        Simulated(train=flat, val=flat, noise=0.0, iters=flat),
        RunState.PLATEAU,
        Code.NO_UPDATE,
        {Code.OVERFITTING, Code.CAPACITY_LIMITED},
    ),
    "a rate of 0": (
        Simulated(train=flat, val=flat, settings={"min_lr": 0.0, "lr_decay_iters": 800}),
        RunState.PLATEAU,
        Code.NO_UPDATE,
        {Code.OVERFITTING},
    ),
    "warm-up of ten runs": (
        Simulated(settings={"warmup_iters": 20_000, "lr_decay_iters": 40_000}),
        RunState.IMPROVING,
        Code.WARMUP_TOO_LONG,
        {Code.OVERFITTING, Code.CAPACITY_LIMITED},
    ),
    "decay over at a third": (
        Simulated(train=flat, val=flat, settings={"lr_decay_iters": 700, "min_lr": 1e-6}),
        RunState.PLATEAU,
        Code.LR_DECAYED_EARLY,
        {Code.OVERFITTING, Code.WARMUP_TOO_LONG},
    ),
    "losses off by the accumulation": (
        Simulated(iters=lambda step: falling(step) / 8, settings={"gradient_accumulation_steps": 8}),
        RunState.IMPROVING,
        Code.ACCUMULATION_MIS_SCALED,
        {Code.OVERFITTING},
    ),
    "two sequences of 8 tokens per update": (
        Simulated(train=flat, val=flat, settings={"batch_size": 2, "block_size": 8}),
        RunState.PLATEAU,
        Code.BATCH_TOO_SMALL,
        {Code.OVERFITTING, Code.CAPACITY_LIMITED},
    ),
    "noisy evaluations": (
        Simulated(noise=0.06, settings={"eval_iters": 10}),
        RunState.IMPROVING,
        Code.EVAL_NOISE,
        {Code.OVERFITTING},
    ),
    "spikes": (Simulated(iters=spiked), RunState.IMPROVING, Code.INSTABILITY, {Code.OVERFITTING}),
}
"""a run, its verdict, the first finding (None: any), and what must not be found"""


@pytest.mark.parametrize("name", RUNS)
def test_verdict_first_finding_and_what_must_not_be_said(name: str) -> None:
    run, state, first, never = RUNS[name]
    diagnosis = run.diagnosis()
    codes = [finding.code for finding in diagnosis.findings]
    assert diagnosis.judgement.state is state
    if first is not None:
        assert codes[0] is first
    assert not never & set(codes)


def test_every_code_is_found_somewhere() -> None:
    """A finding that no run here has is one that nothing tests."""
    found = {finding.code for run, *_ in RUNS.values() for finding in run.diagnosis().findings}
    elsewhere = {Code.RESUME_SHOCK, Code.RESUME_PINNED_AT_MIN_LR, Code.BATCH_NOISE}
    assert found | elsewhere == set(Code)
    assert len(RULES) == len(Code)


def test_faults_come_before_stronger_findings() -> None:
    findings = Simulated(train=flat, val=flat, settings={"batch_size": 2, "block_size": 8}).diagnosis().findings
    assert findings[0].fault
    assert [finding.fault for finding in findings] == sorted((finding.fault for finding in findings), reverse=True)


def test_a_constant_rate_with_a_small_batch_hovers() -> None:
    constant = {"decay_lr": False, "batch_size": 2, "n_embd": 512, "n_layer": 6}
    codes = [finding.code for finding in Simulated(train=flat, val=flat, settings=constant).diagnosis().findings]
    assert Code.BATCH_NOISE in codes
    decayed = Simulated(train=flat, val=flat, settings={**constant, "decay_lr": True}).diagnosis()
    assert Code.BATCH_NOISE not in [finding.code for finding in decayed.findings]


def test_overfitting_is_contradicted_where_the_training_loss_is_above() -> None:
    diagnosis = Simulated(train=above, val=flat).diagnosis()
    (said,) = [entry for entry in diagnosis.contradicted if entry.code is Code.OVERFITTING]
    assert "above the validation loss in 40 of 40 evaluations" in said.evidence
    assert not any(
        entry.code is Code.OVERFITTING for entry in Simulated(train=memorised, val=u_shaped).diagnosis().contradicted
    )


def test_less_than_an_epoch_contradicts_too_little_data_and_explains_a_gap_by_other_text() -> None:
    tokens = 2000 * 16 * 128
    once = Simulated(train=memorised, val=u_shaped, data_tokens=2 * tokens).diagnosis()
    assert once.judgement.state is RunState.BROKEN_DATA
    assert Code.DATA_LIMITED in {entry.code for entry in once.contradicted} | {Code.DATA_LIMITED}
    assert Code.DATA_LIMITED not in {finding.code for finding in once.findings}
    often = Simulated(train=memorised, val=u_shaped, data_tokens=tokens // 8).diagnosis()
    assert often.judgement.state is RunState.OVERFITTING
    assert often.facts.epochs == pytest.approx(8)


def test_a_plateau_begins_where_the_curve_stops() -> None:
    since = Simulated(train=above, val=flat, noise=0.001).diagnosis().judgement.since
    assert since is not None
    assert 600 <= since <= 1300


@given(
    shift=st.floats(-0.5, 3.0),
    seed=st.integers(0, 99),
    loss=st.sampled_from([falling, flat, u_shaped, blown]),
)
@settings(max_examples=25, deadline=None)
def test_a_verdict_doesnt_depend_on_the_level_of_the_loss(shift: float, seed: int, loss: object) -> None:
    assert callable(loss)
    plain = Simulated(train=loss, val=loss, seed=seed, vocab_size=512).diagnosis()
    moved = Simulated(
        train=lambda step: loss(step) + shift, val=lambda step: loss(step) + shift, seed=seed, vocab_size=512
    ).diagnosis()
    assert moved.judgement.state is plain.judgement.state
    assert moved.judgement.since == plain.judgement.since


@given(
    points=st.lists(
        st.tuples(st.floats(width=32), st.floats(width=32)).map(lambda pair: tuple(np.float64(x) for x in pair)),
        min_size=1,
        max_size=60,
    ),
    known=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_losses_break_it(points: list[tuple[float, float]], known: bool) -> None:  # Hypothesis
    run = Simulated(
        train=lambda step: points[int(step) // 50][0],
        val=lambda step: points[int(step) // 50][1],
        noise=0.0,
        last=50 * (len(points) - 1),
        known=known,
    )
    diagnosis = run.diagnosis()
    assert diagnosis.judgement.state in RunState
    assert all(0 <= finding.strength <= 1 for finding in diagnosis.findings)
