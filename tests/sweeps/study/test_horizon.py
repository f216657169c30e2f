"""The length of a trial: schedules, evaluations and equal tokens, by hand and for every horizon."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import SpecError
from sweeps.study.horizon import evaluation_windows, grid
from sweeps.study.proposals import baseline_config, config_of
from tests.helpers.stories import STORY, story
from tests.helpers.study_files import small
from trainer.config import TrainConfig
from trainer.errors import ConfigError


def test_the_baseline_at_the_horizon() -> None:
    config = baseline_config(story(), seed=1337, vocab_size=50304)
    assert config == TrainConfig(
        n_layer=12,
        n_head=12,
        n_embd=384,
        dropout=0.1,
        vocab_size=50304,
        learning_rate=1e-3,
        min_lr=1e-4,
        warmup_iters=15,  # 500 / 20000 x 600
        lr_decay_iters=600,
        max_iters=600,
        beta2=0.99,
        batch_size=8,
        gradient_accumulation_steps=8,
        seed=1337,
        sampling="step",
        device="auto",
        eval_interval=20,  # 30 evaluations
        eval_windows=153,  # 0.12 x 600 x 64 / 30 = 153.6
        final_windows=2048,
    )


@pytest.mark.parametrize(
    ("baseline", "iters", "warmup", "decay"),
    [
        ({}, 600, 15, 600),
        ({}, 20, 1, 20),  # 0.5 rounds to 0, and a baseline with a warm-up keeps one
        ({"warmup_iters": 0}, 600, 0, 600),
        ({"lr_decay_iters": 10000}, 600, 15, 300),
        ({"lr_decay_iters": 40000}, 600, 15, 1200),
        ({"lr_decay_iters": 501}, 20, 0, 1),  # no room for a warm-up
        ({"warmup_iters": 19999}, 600, 599, 600),
        ({"warmup_iters": 30000, "decay_lr": False}, 600, 900, 600),
    ],
)
def test_the_schedule_by_its_fractions(baseline: dict[str, Any], iters: int, warmup: int, decay: int) -> None:
    study = story(
        baseline={**STORY, **baseline}, horizon={"iters": iters}, knobs={"dropout": {"low": 0.0, "high": 0.3}}
    )
    config = baseline_config(study, seed=1, vocab_size=0)
    assert (config.warmup_iters, config.lr_decay_iters, config.max_iters) == (warmup, decay, iters)


@pytest.mark.parametrize(
    ("iters", "wanted", "evaluations", "interval"),
    [
        (600, 30, 30, 20),
        (600, 40, 40, 15),
        (600, 38, 40, 15),
        (600, 20, 20, 30),
        (400, 30, 25, 16),
        (400, 38, 40, 10),
        (20000, 30, 32, 625),
        (31, 30, 31, 1),
        (10, 30, 10, 1),
        (19, 20, 19, 1),
        (41, 30, 21, 2),  # a prime: the last interval is shorter
        (601, 30, 31, 20),
    ],
)
def test_evaluations_divide_the_horizon_where_they_can(
    iters: int, wanted: int, evaluations: int, interval: int
) -> None:
    evaluated = grid(story(horizon={"iters": iters}, evaluations=wanted))
    assert (evaluated.evaluations, evaluated.interval) == (evaluations, interval)


@given(st.integers(10, 10**9), st.integers(20, 40))
@settings(deadline=None)
def test_twenty_to_forty_evaluations(iters: int, wanted: int) -> None:
    evaluated = grid(story(horizon={"iters": iters}, evaluations=wanted))
    assert math.ceil(iters / evaluated.interval) == evaluated.evaluations
    assert 20 <= evaluated.evaluations <= 40 or iters == evaluated.evaluations < 20
    if any(iters % count == 0 for count in range(20, 41)):
        assert iters % evaluated.interval == 0


@given(st.integers(20, 100_000), st.sampled_from([1, 8, 64, 480]), st.sampled_from([32, 1024]))
@settings(deadline=None)
def test_evaluations_cost_a_tenth_at_most(iters: int, batch: int, block: int) -> None:
    """In FLOPs per parameter and token: 6 to train, 2 to evaluate."""
    baseline = {**STORY, "batch_size": batch, "gradient_accumulation_steps": 1, "block_size": block}
    study = story(baseline=baseline, horizon={"iters": iters})
    windows, count = evaluation_windows(study), grid(study).evaluations + 1
    training = 6 * iters * batch * block
    evaluating = 2 * count * 2 * windows * block
    assert evaluating <= 0.1 * (training + evaluating) or windows == 2  # fewer have no standard error
    assert 2 <= windows <= 2048


def test_final_windows_are_never_fewer_than_those_of_evaluations() -> None:
    config = baseline_config(story(final_windows=64), seed=1, vocab_size=0)
    assert (config.eval_windows, config.final_windows) == (153, 153)


def test_batch_sizes_see_equal_tokens_on_one_grid() -> None:
    study = story(knobs={"batch_size": {"choices": [4, 8, 16, 24]}})
    trials = {size: config_of(study, {"batch_size": size}, seed=1, vocab_size=0) for size in (4, 8, 16, 24)}
    assert {size: config.max_iters for size, config in trials.items()} == {4: 1200, 8: 600, 16: 300, 24: 200}
    assert {config.max_iters * config.tokens_per_iter for config in trials.values()} == {600 * 65536}
    assert {config.max_iters / config.eval_interval for config in trials.values()} == {25}  # divides 200 and 600
    assert {config.eval_windows for config in trials.values()} == {184}
    assert [trials[size].warmup_iters for size in (4, 8, 16, 24)] == [30, 15, 8, 5]
    assert all(config.lr_decay_iters == config.max_iters for config in trials.values())


def test_batch_sizes_that_cannot_see_equal_tokens(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        small(tmp_path, "knobs.batch_size={choices: [8, 170]}")
    assert str(error.value) == (
        "--set: knobs.batch_size.choices: batch_size=170 x 2 would see the baseline's tokens in 28.24 iterations, but "
        "30 evaluations at equal intervals need 30; use batch sizes that divide or multiply the baseline's, or a "
        "longer horizon"
    )


def test_every_batch_size_between_is_checked(tmp_path: Path) -> None:
    """The ends, 4 and 12, can see equal tokens; 11 can't."""
    with pytest.raises(SpecError, match=r"--set: knobs\.batch_size: batch_size=\d+ x 2 would see"):
        small(tmp_path, "knobs.batch_size={low: 4, high: 12}", "horizon.iters=120")


def test_a_prime_horizon_has_no_other_batches(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="601 iterations are not; nearest: 600 and 620"):
        small(tmp_path, "knobs.batch_size={choices: [8, 16]}", "horizon.iters=601")


@given(
    st.lists(st.sampled_from([1, 2, 4, 8, 16, 24, 32]), min_size=1, max_size=3, unique=True),
    st.sampled_from([120, 240, 480, 600, 720, 1000, 4800]),
    st.integers(20, 40),
)
@settings(deadline=None)
def test_equal_tokens_hold_for_every_trial(sizes: list[int], iters: int, evaluations: int) -> None:
    choices = sorted({8, *sizes, 48})
    study = story(knobs={"batch_size": {"choices": choices}}, horizon={"iters": iters}, evaluations=evaluations)
    evaluations_of_trials = set()
    for size in choices:
        try:
            config = config_of(study, {"batch_size": size}, seed=1, vocab_size=0)
        except ConfigError:
            continue
        assert config.max_iters * size == pytest.approx(iters * 8, rel=0.02)
        evaluations_of_trials.add(config.max_iters / config.eval_interval)
    assert len(evaluations_of_trials) == 1
