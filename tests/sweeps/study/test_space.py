"""Knobs to trials and back: numbers worked out by hand, and what holds for every study."""

from __future__ import annotations

import dataclasses
import math
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.engine import sampler
from sweeps.errors import SpecError
from sweeps.pruning.pruner import PlateauPruner
from sweeps.study import space
from sweeps.study.horizon import evaluation_windows, grid
from sweeps.study.proposals import (
    baseline_config,
    baseline_params,
    baseline_proposals,
    candidate_proposals,
    config_of,
    star_proposals,
)
from sweeps.study.study import Study
from tests.helpers.study_files import TEXT, small
from trainer import strict_yaml
from trainer.config import TrainConfig
from trainer.errors import ConfigError

GOOD: dict[str, Any] = strict_yaml.load(TEXT, name="x").value
STORY = {
    "n_layer": 12,
    "n_embd": 384,
    "head_size": 32,
    "learning_rate": 1e-3,
    "min_lr": 1e-4,
    "warmup_iters": 500,
    "lr_decay_iters": 20000,
    "max_iters": 20000,
    "dropout": 0.1,
    "beta2": 0.99,
    "batch_size": 8,
    "gradient_accumulation_steps": 8,
}


def story(**changes: Any) -> Study:
    """The run that started it, as a study."""
    given = {
        "name": "story",
        "baseline": STORY,
        "horizon": {"iters": 600},
        "knobs": {
            "learning_rate": {"low": 1e-4, "high": 6e-3, "log": True},
            "min_lr": {"ratio_of": "learning_rate", "low": 0.0, "high": 0.3},
            "warmup_iters": {"fraction_of": "max_iters", "low": 0.01, "high": 0.2},
            "dropout": {"low": 0.0, "high": 0.3},
            "weight_decay": {"low": 1e-3, "high": 0.5, "log": True},
            "n_embd": {"low": 192, "high": 768, "step": 64},
        },
    }
    return Study.model_validate({**given, **changes})


def differing(one: TrainConfig, other: TrainConfig) -> set[str]:
    mine, theirs = one.as_dict(), other.as_dict()
    return {name for name in mine if mine[name] != theirs[name]}


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
    found = grid(story(horizon={"iters": iters}, evaluations=wanted))
    assert (found.evaluations, found.interval) == (evaluations, interval)


@given(st.integers(10, 10**9), st.integers(20, 40))
@settings(deadline=None)
def test_twenty_to_forty_evaluations(iters: int, wanted: int) -> None:
    found = grid(story(horizon={"iters": iters}, evaluations=wanted))
    assert math.ceil(iters / found.interval) == found.evaluations
    assert 20 <= found.evaluations <= 40 or iters == found.evaluations < 20
    if any(iters % count == 0 for count in range(20, 41)):
        assert iters % found.interval == 0


@given(st.integers(20, 100_000), st.sampled_from([1, 8, 64, 480]), st.sampled_from([32, 1024]))
@settings(deadline=None)
def test_evaluations_cost_a_tenth_at_most(iters: int, batch: int, block: int) -> None:
    """Counted in FLOP a parameter and token: 6 to train, 2 to evaluate."""
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


def test_parameters_of_the_baseline() -> None:
    assert baseline_params(story()) == {
        "learning_rate": 1e-3,
        "min_lr_ratio": 0.1,
        "warmup_fraction": 0.025,
        "dropout": 0.1,
        "weight_decay": 0.1,
        "n_embd": 384,
    }


def test_parameters_to_a_config() -> None:
    params = {
        "learning_rate": 2e-3,
        "min_lr_ratio": 0.05,
        "warmup_fraction": 0.1,
        "dropout": 0.0,
        "weight_decay": 0.3,
        "n_embd": 512,
    }
    config = config_of(story(), params, seed=5, vocab_size=0)
    baseline = baseline_config(story(), seed=5, vocab_size=0)
    assert config == baseline.replace(
        learning_rate=2e-3, min_lr=1e-4, warmup_iters=60, dropout=0.0, weight_decay=0.3, n_embd=512, n_head=16
    )


def test_distributions() -> None:
    study = story(
        knobs={
            "learning_rate": {"low": 1e-4, "high": 6e-3, "log": True},
            "min_lr": {"ratio_of": "learning_rate", "low": 0, "high": 0.3},
            "dropout": {"low": 0.0, "high": 0.3, "step": 0.1},
            "n_embd": {"low": 192, "high": 768, "step": 64},
            "n_layer": {"low": 6, "high": 24, "log": True},
            "beta2": {"choices": [0.95, 0.99]},
        }
    )
    assert space.distributions(study) == {
        "learning_rate": FloatDistribution(1e-4, 6e-3, log=True),
        "min_lr_ratio": FloatDistribution(0.0, 0.3),
        "dropout": FloatDistribution(0.0, 0.3, step=0.1),
        "n_embd": IntDistribution(192, 768, step=64),
        "n_layer": IntDistribution(6, 24, log=True),
        "beta2": CategoricalDistribution((0.95, 0.99)),
    }


# --- heads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "rounded"), [(200, 192), (208, 192), (209, 224), (10, 32), (224, 224)])
def test_rounded_widths(width: int, rounded: int) -> None:
    study = story(knobs={"n_embd": {"low": 10, "high": 700, "log": True, "round": True}})
    config = config_of(study, {"n_embd": width}, seed=1, vocab_size=0)
    assert (config.n_embd, config.n_head) == (rounded, rounded // 32)


def test_a_fixed_number_of_heads() -> None:
    baseline = {**STORY, "n_head": 4}
    del baseline["head_size"]
    study = story(baseline=baseline)
    assert {point.config.n_head for point in star_proposals(study, vocab_size=0)} == {4}


# --- equal tokens -------------------------------------------------------------------------------------------


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
        "--set: knobs.batch_size.choices: batch_size=170 x 2 would see the baseline's tokens in 28.24 iterations, and "
        "30 evaluations at the baseline's shares of them need 30; use batch sizes that divide or multiply the "
        "baseline's, or a longer horizon"
    )


def test_every_batch_size_between_is_checked(tmp_path: Path) -> None:
    """The ends, 4 and 12, could see equal tokens; 11 couldn't."""
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
    found = set()
    for size in choices:
        try:
            config = config_of(study, {"batch_size": size}, seed=1, vocab_size=0)
        except ConfigError:
            continue
        assert config.max_iters * size == pytest.approx(iters * 8, rel=0.02)
        found.add(config.max_iters / config.eval_interval)
    assert len(found) == 1


# --- proposals ----------------------------------------------------------------------------------------------


def test_seeds_of_the_baseline() -> None:
    first, *others = baseline_proposals(story(baseline_seeds=3, seed=7), vocab_size=0)
    assert [each.key for each in (first, *others)] == ["baseline:0", "baseline:1", "baseline:2"]
    assert [each.config.seed for each in (first, *others)] == [each.seed for each in (first, *others)] == [7, 8, 9]
    assert first.label == "baseline, seed 7"
    assert all(differing(first.config, each.config) == {"seed"} for each in others)
    assert {each.phase for each in (first, *others)} == {"baseline"}


def test_candidates() -> None:
    study = story(
        candidates=[
            {"learning_rate": 5e-4, "min_lr": 5e-5},
            {"warmup_iters": 2000},
            {"dropout": 0.2, "weight_decay": 0.2},
            {"learning_rate": 5e-4},  # min_lr stays where it was
            {"learning_rate": 5e-5},  # min_lr would be above it
            {"n_embd": 512},
        ]
    )
    baseline = baseline_config(study, seed=1337, vocab_size=0)
    expected: list[dict[str, Any]] = [
        {"learning_rate": 5e-4, "min_lr": 5e-5},
        {"warmup_iters": 60},
        {"dropout": 0.2, "weight_decay": 0.2},
        {"learning_rate": 5e-4},
        {"learning_rate": 5e-5, "min_lr": 5e-6},
        {"n_embd": 512, "n_head": 16},
    ]
    found = candidate_proposals(study, vocab_size=0)
    assert [each.config for each in found] == [baseline.replace(**changes) for changes in expected]
    assert found[0].label == "candidate: learning_rate 0.0005, min_lr 5e-05"
    assert found[3].params is not None
    assert found[3].params["min_lr_ratio"] == 0.2
    assert [each.params is None for each in found] == [False, False, False, False, True, False]  # 5e-5 is out of range


def test_a_candidate_on_the_edge_is_inside() -> None:
    """Optuna refuses what rounding has put a hair outside."""
    study = story(
        candidates=[{"learning_rate": 1e-3 * (1 + 1e-12), "min_lr": 3e-4 * (1 + 1e-12), "dropout": 0.1 + 0.2}]
    )
    (found,) = candidate_proposals(study, vocab_size=0)
    assert found.params is not None
    assert (found.params["dropout"], found.params["min_lr_ratio"]) == (0.3, 0.3)
    assert found.config.dropout == 0.3


@pytest.mark.parametrize(
    "candidate",
    [
        {"n_layer": 6},  # no knob
        {"beta2": 0.95},
        {"n_embd": 416},  # off the grid
        {"dropout": 0.5},  # out of range
        {"learning_rate": 1e-3, "min_lr": 5e-4},  # half of it
        {"n_head": 6},
        {"head_size": 64},
        {"lr_decay_iters": 10000},
        {"gradient_accumulation_steps": 16},
        {"bias": True},
        {"decay_lr": False},
        {"batch_size": 16, "dropout": 0.2},
    ],
)
def test_candidates_that_the_space_cannot_express(candidate: dict[str, Any]) -> None:
    study = story(candidates=[candidate])
    (found,) = candidate_proposals(study, vocab_size=0)
    assert found.params is None
    assert found.config != baseline_config(study, seed=1337, vocab_size=0)


def test_a_candidate_with_another_batch_sees_equal_tokens() -> None:
    (found,) = candidate_proposals(story(candidates=[{"gradient_accumulation_steps": 16}]), vocab_size=0)
    assert (found.config.max_iters, found.config.eval_interval, found.config.lr_decay_iters) == (300, 10, 300)


def test_the_star() -> None:
    study = story()
    baseline = baseline_config(study, seed=1337, vocab_size=0)
    expected: dict[str, dict[str, Any]] = {
        "star:learning_rate:low": {"learning_rate": 1e-4, "min_lr": 1e-5},
        "star:learning_rate:high": {"learning_rate": 6e-3, "min_lr": 6e-4},
        "star:min_lr:low": {"min_lr": 0.0},
        "star:min_lr:high": {"min_lr": 3e-4},
        "star:warmup_iters:low": {"warmup_iters": 6},
        "star:warmup_iters:high": {"warmup_iters": 120},
        "star:dropout:low": {"dropout": 0.0},
        "star:dropout:high": {"dropout": 0.3},
        "star:weight_decay:low": {"weight_decay": 1e-3},
        "star:weight_decay:high": {"weight_decay": 0.5},
        "star:n_embd:low": {"n_embd": 192, "n_head": 6},
        "star:n_embd:high": {"n_embd": 768, "n_head": 24},
    }
    found = star_proposals(study, vocab_size=0)
    assert {each.key: each.config for each in found} == {
        key: baseline.replace(**changes) for key, changes in expected.items()
    }
    assert {(each.phase, each.origin) for each in found} == {("search", "star")}
    labels = {each.key: each.label for each in found}
    assert labels["star:dropout:high"] == "dropout at its high, 0.3"
    assert labels["star:min_lr:high"] == "min_lr at its high, 0.3 of learning_rate"


def test_the_star_skips_what_is_the_baseline() -> None:
    study = story(knobs={"dropout": {"low": 0.1, "high": 0.3}, "batch_size": {"choices": [4, 8, 16]}})
    keys = [each.key for each in star_proposals(study, vocab_size=0)]
    assert keys == ["star:dropout:high", "star:batch_size:4", "star:batch_size:16"]


def test_the_amount_of_data_is_tried_on_every_seed_of_the_baseline() -> None:
    knobs = {"dropout": {"low": 0.1, "high": 0.3}, "data_fraction": {"choices": [0.25, 0.5, 1]}}
    study = story(knobs=knobs, baseline_seeds=2)
    found = star_proposals(study, vocab_size=0)
    baseline = baseline_config(study, seed=1337, vocab_size=0)
    assert {each.key: each.config for each in found[1:]} == {
        f"star:data_fraction:{part}:{seed}": baseline.replace(data_fraction=part, seed=seed)
        for part in (0.25, 0.5)
        for seed in (1337, 1338)
    }
    assert {each.params for each in found[1:]} == {None}  # the sampler does not see them
    assert found[2].label == "data_fraction 0.25, seed 1338"
    assert list(space.distributions(study)) == ["dropout"]


def test_a_baseline_on_part_of_the_data_may_be_tried_on_more() -> None:
    knobs = {"dropout": {"low": 0.1, "high": 0.3}, "data_fraction": {"choices": [0.5, 1.0]}}
    study = story(knobs=knobs, baseline={**STORY, "data_fraction": 0.5}, baseline_seeds=1)
    assert baseline_config(study, seed=1337, vocab_size=0).data_fraction == 0.5
    star = star_proposals(study, vocab_size=0)
    assert [(each.key, each.config.data_fraction) for each in star] == [
        ("star:dropout:high", 0.5),
        ("star:data_fraction:1:1337", 1.0),
    ]


def test_a_candidate_on_part_of_the_data_is_outside_the_space() -> None:
    knobs = {"dropout": {"low": 0.1, "high": 0.3}, "data_fraction": {"choices": [0.5, 1.0]}}
    (found,) = candidate_proposals(story(knobs=knobs, candidates=[{"data_fraction": 0.5}]), vocab_size=0)
    assert (found.params, found.config.data_fraction) == (None, 0.5)


def test_without_a_knob_min_lr_stays_unless_the_rate_falls_below() -> None:
    study = story(knobs={"learning_rate": {"low": 5e-5, "high": 6e-3, "log": True}})
    low, high = star_proposals(study, vocab_size=0)
    assert (low.config.learning_rate, low.config.min_lr) == (5e-5, 5e-6)
    assert (high.config.learning_rate, high.config.min_lr) == (6e-3, 1e-4)


FOLLOWERS = {"learning_rate": {"min_lr"}, "n_embd": {"n_head"}, "batch_size": {"max_iters", "lr_decay_iters",
             "warmup_iters", "eval_interval"}, "data_fraction": {"seed"}}  # fmt: skip


@st.composite
def studies(draw: st.DrawFn) -> Study:
    """Studies with any knobs, baselines of many digits and candidates on and off the grid."""
    digits = draw(st.integers(2, 17))

    def number(low: float, high: float) -> float:
        return float(f"{draw(st.floats(low, high)):.{digits}g}")

    max_iters = draw(st.sampled_from([1000, 2000, 20000, 600000]))
    rate = number(1.1e-4, 5.9e-3)
    baseline = {
        **STORY,
        "learning_rate": rate,
        "min_lr": number(0, 0.29) * rate,
        "max_iters": max_iters,
        "lr_decay_iters": draw(st.sampled_from([max_iters, max_iters * 2, max_iters // 2 + 1])),
        "warmup_iters": draw(st.integers(max_iters // 100 + 1, max_iters // 6)),
        "dropout": number(0, 0.29),
        "weight_decay": number(2e-3, 0.49),
        "beta2": draw(st.sampled_from([0.95, 0.99])),
    }
    knobs = {
        **story().model_dump()["knobs"],
        "beta2": {"choices": [0.95, 0.99, 0.999]},
        "batch_size": {"choices": [4, 8, 16]},
        "n_layer": {"low": 2, "high": 24, "log": True},
    }
    names = draw(st.lists(st.sampled_from(sorted(knobs)), min_size=1, unique=True))
    if draw(st.booleans()):
        names.append("data_fraction")
        knobs["data_fraction"] = {"choices": [0.25, 0.5, 1.0]}
    candidates = draw(
        st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "learning_rate": st.floats(1e-4, 1e-2),
                    "min_lr": st.floats(0, 1e-4),
                    "warmup_iters": st.integers(0, max_iters // 3),
                    "dropout": st.floats(0, 0.5),
                    "n_embd": st.sampled_from([192, 256, 320, 352]),
                    "batch_size": st.sampled_from([4, 8, 16]),
                    "n_layer": st.integers(1, 30),
                },
            ),
            max_size=3,
        )
    )
    return Study.model_validate(
        {
            "name": "drawn",
            "baseline": baseline,
            "horizon": {"iters": draw(st.sampled_from([120, 400, 600, 1000]))},
            "knobs": {name: knobs[name] for name in names},
            "candidates": candidates,
        }
    )


@given(studies())
@settings(max_examples=60, deadline=None)
def test_what_holds_for_every_study(study: Study) -> None:
    seed, vocabulary = 11, 50304
    baseline = baseline_config(study, seed=seed, vocab_size=vocabulary)
    params, distributions = baseline_params(study), space.distributions(study)
    assert config_of(study, params, seed=seed, vocab_size=vocabulary) == baseline
    for name in ("learning_rate", "dropout", "weight_decay", "beta2", "n_embd", "n_layer"):
        assert getattr(baseline, name) == study.baseline[name]
    assert baseline.min_lr == pytest.approx(float(study.baseline["min_lr"]), rel=1e-12)
    assert baseline.max_iters == study.iters

    proposals = [
        *baseline_proposals(study, vocab_size=vocabulary),
        *candidate_proposals(study, vocab_size=vocabulary),
        *star_proposals(study, vocab_size=vocabulary),
    ]
    assert len({each.key for each in proposals}) == len(proposals)
    first = proposals[0].config
    for each in proposals:
        tokens = each.config.max_iters * each.config.tokens_per_iter
        assert tokens == study.iters * study.tokens_per_iter
        assert (each.config.eval_windows, each.config.final_windows) == (first.eval_windows, first.final_windows)
        if each.params is not None:
            assert each.config == config_of(study, each.params, seed=each.seed, vocab_size=vocabulary)
            assert set(each.params) == set(distributions)
            for name, value in each.params.items():
                internal = distributions[name].to_internal_repr(value)
                assert distributions[name]._contains(internal), (name, value)
        if each.origin == "star":
            assert each.knob is not None
            changed = differing(each.config, first)
            assert each.knob in changed
            assert changed <= {each.knob, *FOLLOWERS.get(each.knob, ())}


@given(studies(), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_whatever_a_sampler_asks_is_a_trial(study: Study, number: int) -> None:
    asked = study.model_copy(update={"sampler": study.sampler.model_copy(update={"type": "random"})})
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = optuna.create_study(sampler=sampler.make_sampler(asked, trial_number=number))
    trial = search.ask(space.distributions(study))
    config = config_of(study, trial.params, seed=1, vocab_size=0)
    baseline = baseline_config(study, seed=1, vocab_size=0)
    followers = {name for names in FOLLOWERS.values() for name in names}
    assert differing(config, baseline) <= {*study.knobs, *followers}


# --- samplers and pruners -----------------------------------------------------------------------------------


def ask(study: Study, count: int, *, restart_at: int | None = None) -> list[dict[str, Any]]:
    """What a sampler proposes for `count` trials; a restart makes the Optuna study anew from its trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = optuna.create_study(study_name="s", storage=optuna.storages.InMemoryStorage())
    for number in range(count):
        if number == restart_at:
            search = optuna.load_study(study_name="s", storage=search._storage)
        search.sampler = sampler.make_sampler(study, trial_number=number)
        trial = search.ask(space.distributions(study))
        search.tell(trial, trial.params["dropout"] + trial.params["learning_rate"])
    return [trial.params for trial in search.trials]


SAMPLED = {
    "learning_rate": {"low": 1e-4, "high": 6e-3, "log": True},
    "dropout": {"low": 0.0, "high": 0.3},
    "n_embd": {"low": 192, "high": 768, "step": 64},
    "beta2": {"choices": [0.95, 0.99]},
}


@pytest.mark.parametrize("kind", ["tpe", "random", "qmc", "gp", "cmaes"])
def test_samplers_go_on_after_a_restart_and_warn_of_nothing(kind: str) -> None:
    study = story(knobs=SAMPLED, sampler={"type": kind})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked = ask(study, 12)
        assert asked == ask(study, 12, restart_at=11)
    assert asked[:2] != ask(story(knobs=SAMPLED, sampler={"type": kind}, seed=2), 2)
    for name in SAMPLED:
        assert len({params[name] for params in asked[1:]}) >= 2, name
    assert len({params["dropout"] for params in asked}) > 8


def test_qmc_fills_the_space_evenly() -> None:
    """Of 16 scrambled Sobol points each sixteenth of a range holds exactly one; random ones would miss several."""
    study = story(
        knobs={"dropout": SAMPLED["dropout"], "learning_rate": SAMPLED["learning_rate"]}, sampler={"type": "qmc"}
    )
    asked = ask(study, 17)[1:]  # the first is drawn at random
    assert len({int(params["dropout"] / 0.3 * 16) for params in asked}) == 16


def test_seeds_differ_between_trials_and_studies() -> None:
    seeds = {sampler.sampler_seed(story(seed=seed), trial_number=number) for seed in range(20) for number in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_median_pruner_waits_for_its_share_of_the_evaluations() -> None:
    """30 evaluations, a quarter of them is 8: the ninth, step 8, is the first that can be the last."""
    study = story(pruner={"type": "median", "startup_trials": 2, "warmup": 0.25})
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = optuna.create_study(pruner=sampler.make_pruner(study), sampler=sampler.make_sampler(study, trial_number=0))
    for _ in range(2):
        trial = search.ask()
        for step in range(31):
            trial.report(1.0, step)
        search.tell(trial, 1.0)
    trial = search.ask()
    stops = []
    for step in range(12):
        trial.report(2.0, step)
        stops.append(trial.should_prune())
    assert stops.index(True) == 8


@pytest.mark.parametrize(("factor", "brackets"), [(3, 3), (2, 4)])
def test_the_hyperband_pruner_knows_the_last_evaluation(factor: int, brackets: int) -> None:
    """31 evaluations with the first: floor(log(31 / 3, factor)) + 1 brackets (Li et al. 2018, algorithm 1)."""
    study = story(pruner={"type": "hyperband", "reduction_factor": factor})
    pruner = sampler.make_pruner(study)
    assert isinstance(pruner, optuna.pruners.HyperbandPruner)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = optuna.create_study(pruner=pruner)
    trial = search.ask()
    trial.report(1.0, 0)
    trial.should_prune()
    assert len(pruner._pruners) == brackets


def test_the_plateau_pruner_has_the_studys_settings() -> None:
    given = {"epsilon": 0.05, "margin": 0.1, "looks": (0.2, 0.6), "min_completed": 8, "sentinel": 0.25}
    made = sampler.make_pruner(story(pruner={"type": "plateau", **given}, trials=43))
    assert isinstance(made, PlateauPruner)
    # the search's trials and the baseline's
    assert {**dataclasses.asdict(made.rule), "sentinel": made.sentinel} == {**given, "trials": 44}


def test_no_pruner() -> None:
    assert isinstance(sampler.make_pruner(story(pruner={"type": "none"})), optuna.pruners.NopPruner)
