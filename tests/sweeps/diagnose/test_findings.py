"""Verdicts and findings on simulated runs with one fault each: what is said, what comes first, and what must not be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.diagnose.diagnosis import diagnosis_of
from sweeps.diagnose.findings.finding import Code
from sweeps.diagnose.findings.ranked import RULES
from sweeps.diagnose.judgement import RunState
from sweeps.diagnose.log import read_log
from sweeps.diagnose.measured import Given
from tests.helpers.logged_runs import FIRST, Simulated, falling, flat
from tests.helpers.training_logs import text_of

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


FINISHED = (
    (0, 5.4535, 5.4471),
    (20, 4.2000, 4.1703),
    (40, 3.1585, 3.0865),
    (60, 2.9104, 2.8087),
    (80, 2.8540, 2.7521),
    (100, 2.8015, 2.6963),
    (120, 2.7158, 2.6125),
    (140, 2.6255, 2.5234),
    (160, 2.5688, 2.4707),
    (180, 2.5379, 2.4434),
    (200, 2.5040, 2.4095),
    (220, 2.4952, 2.4052),
    (240, 2.4500, 2.3615),
    (260, 2.4346, 2.3507),
    (280, 2.4202, 2.3292),
    (300, 2.4040, 2.3172),
    (320, 2.3961, 2.3130),
    (340, 2.3846, 2.3042),
    (360, 2.3785, 2.2969),
    (380, 2.3727, 2.2881),
    (400, 2.3724, 2.2822),
)
"""step, training and validation loss of a sound run of this project's trainer up to the end of its cosine"""


def test_a_sound_run_at_the_end_of_its_cosine_is_no_plateau() -> None:
    """Its last quarter brings less than 0.02 nats per tenth of the run, as any curve's does when the rate has gone."""
    lines = [f"step {step}: train loss {train:.4f}, val loss {val:.4f}" for step, train, val in FINISHED]
    (run,) = read_log(text_of(lines), name="run.log")
    cosine = {"learning_rate": 3e-3, "min_lr": 3e-4, "warmup_iters": 20, "lr_decay_iters": 400, "max_iters": 400}
    known = diagnosis_of(run, Given(settings=cosine)).judgement
    assert (known.state, known.slow) == (RunState.IMPROVING, True)
    assert diagnosis_of(run).judgement.state is RunState.PLATEAU  # without the schedule it looks flat


def test_an_explosion_shows_after_three_evaluations() -> None:
    lines = [f"step {step}: train loss {loss}, val loss {loss}" for step, loss in ((0, 5.45), (20, 39.9), (40, 8.6))]
    (run,) = read_log(text_of(lines), name="run.log")
    assert diagnosis_of(run).judgement.state is RunState.DIVERGED


def test_faults_come_before_stronger_findings() -> None:
    changes = {"batch_size": 2, "block_size": 8, "dropout": 0.45}
    findings = Simulated(train=above, val=flat, settings=changes).diagnosis().findings
    assert findings[0].code is Code.BATCH_TOO_SMALL
    assert findings[0].strength < findings[1].strength
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


def test_a_steep_start_is_no_part_of_a_plateau_however_long_it_is() -> None:
    def early(step: float) -> float:
        return 2.5 + (FIRST - 2.5) * math.exp(-step / 60)

    settings = {"lr_decay_iters": 300, "max_iters": 3000, "min_lr": 1e-6}
    found = Simulated(train=early, val=early, settings=settings, last=3000, noise=0.012).diagnosis().judgement
    assert (found.state, found.since is not None and 250 <= found.since <= 600) == (RunState.PLATEAU, True)


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


def test_printed_shares_of_the_peak_tell_a_spent_schedule() -> None:
    """nanochat prints lrm, the rate as a share of its peak, and validation losses in bits per byte."""

    def nanochat(*, decay: bool) -> list[str]:
        lines = []
        for step in range(0, 2001, 10):
            share = max(1 - step / 1000, 0.05) if decay else 1.0
            lines.append(f"step {step:05d}/02000 (1.00%) | loss: {flat(step):.6f} | lrm: {share:.2f} | dt: 10.00ms")
            if step % 50 == 0:
                lines.append(f"Step {step:05d} | Validation bpb: {flat(step) / 3 + step % 100 / 1e5:.4f}")
        return lines

    for decay in (True, False):
        (run,) = read_log(text_of(nanochat(decay=decay)), name="run.log")
        found = diagnosis_of(run)
        assert (Code.SCHEDULE_EXHAUSTED in {finding.code for finding in found.findings}) is decay
        assert (Code.SCHEDULE_EXHAUSTED in {entry.code for entry in found.contradicted}) is not decay
        assert found.facts.bits_per_byte == pytest.approx(flat(2000) / 3, abs=1e-3)


@pytest.mark.parametrize("noise", [0.06, 0.15])
def test_noisy_evaluations_of_one_text_are_no_mismatch_of_the_splits(noise: float) -> None:
    runs = [Simulated(noise=noise, every=100, data_tokens=10**9, seed=seed) for seed in range(40)]
    named = [Code.VAL_MISMATCH in [finding.code for finding in run.diagnosis().findings] for run in runs]
    assert sum(named) <= 1


def test_a_run_that_warms_up_for_long_and_falls_is_improving_not_too_short() -> None:
    warm = Simulated(settings={"warmup_iters": 800, "lr_decay_iters": 4000}, every=100).diagnosis()
    assert warm.judgement.state is RunState.IMPROVING
    still = Simulated(train=flat, val=flat, settings={"warmup_iters": 800, "lr_decay_iters": 4000}, every=100)
    assert still.diagnosis().judgement.state is RunState.TOO_SHORT
