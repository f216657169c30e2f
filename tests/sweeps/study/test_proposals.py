"""Knobs to trials and back: numbers worked out by hand, and properties of every study."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from sweeps.study import space
from sweeps.study.knobs import ChoicesKnob, RangeKnob
from sweeps.study.proposals import DesignError, baseline_config, baseline_params, config_of, designed
from sweeps.study.study import Study
from tests.helpers.stories import FOLLOWERS, STORY, differing, story, studies


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


@pytest.mark.parametrize(("width", "rounded"), [(200, 192), (208, 192), (209, 224), (10, 32), (224, 224)])
def test_rounded_widths(width: int, rounded: int) -> None:
    study = story(knobs={"n_embd": {"low": 10, "high": 700, "log": True, "round": True}})
    config = config_of(study, {"n_embd": width}, seed=1, vocab_size=0)
    assert (config.n_embd, config.n_head) == (rounded, rounded // 32)


def test_a_fixed_number_of_heads() -> None:
    baseline = {**STORY, "n_head": 4}
    del baseline["head_size"]
    study = story(baseline=baseline)
    assert {trial.config.n_head for trial in designed(study, vocab_size=0).one_at_a_time} == {4}


def test_seeds_of_the_baseline() -> None:
    seeds = designed(story(baseline_seeds=3, seed=7), vocab_size=0).baseline
    first, *others = seeds
    assert [trial.key for trial in seeds] == ["baseline:0", "baseline:1", "baseline:2"]
    assert [trial.config.seed for trial in seeds] == [trial.seed for trial in seeds] == [7, 8, 9]
    assert first.label == "baseline, seed 7"
    assert all(differing(first.config, trial.config) == {"seed"} for trial in others)
    assert {trial.phase for trial in seeds} == {"baseline"}


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
    candidates = designed(study, vocab_size=0).candidates
    assert [trial.config for trial in candidates] == [baseline.replace(**changes) for changes in expected]
    assert candidates[0].label == "candidate: learning_rate 5e-4, min_lr 5e-5"
    assert candidates[3].params is not None
    assert candidates[3].params["min_lr_ratio"] == 0.2
    # 5e-5 is outside of the learning rate's range
    assert [trial.params is None for trial in candidates] == [False, False, False, False, True, False]


def test_a_candidate_on_the_edge_is_inside() -> None:
    """Optuna refuses a value that rounding has moved outside of its range."""
    study = story(
        candidates=[{"learning_rate": 1e-3 * (1 + 1e-12), "min_lr": 3e-4 * (1 + 1e-12), "dropout": 0.1 + 0.2}]
    )
    (candidate,) = designed(study, vocab_size=0).candidates
    assert candidate.params is not None
    assert (candidate.params["dropout"], candidate.params["min_lr_ratio"]) == (0.3, 0.3)
    assert candidate.config.dropout == 0.3


@pytest.mark.parametrize(
    "changes",
    [
        {"n_layer": 6},  # not a knob
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
def test_candidates_that_the_space_cannot_express(changes: dict[str, Any]) -> None:
    study = story(candidates=[changes])
    (candidate,) = designed(study, vocab_size=0).candidates
    assert candidate.params is None
    assert candidate.config != baseline_config(study, seed=1337, vocab_size=0)


def test_a_candidate_with_another_batch_sees_equal_tokens() -> None:
    (candidate,) = designed(story(candidates=[{"gradient_accumulation_steps": 16}]), vocab_size=0).candidates
    config = candidate.config
    assert (config.max_iters, config.eval_interval, config.lr_decay_iters) == (300, 10, 300)


def test_one_at_a_time_trials() -> None:
    study = story()
    baseline = baseline_config(study, seed=1337, vocab_size=0)
    expected: dict[str, dict[str, Any]] = {
        "one-at-a-time:learning_rate:low": {"learning_rate": 1e-4, "min_lr": 1e-5},
        "one-at-a-time:learning_rate:high": {"learning_rate": 6e-3, "min_lr": 6e-4},
        "one-at-a-time:min_lr:low": {"min_lr": 0.0},
        "one-at-a-time:min_lr:high": {"min_lr": 3e-4},
        "one-at-a-time:warmup_iters:low": {"warmup_iters": 6},
        "one-at-a-time:warmup_iters:high": {"warmup_iters": 120},
        "one-at-a-time:dropout:low": {"dropout": 0.0},
        "one-at-a-time:dropout:high": {"dropout": 0.3},
        "one-at-a-time:weight_decay:low": {"weight_decay": 1e-3},
        "one-at-a-time:weight_decay:high": {"weight_decay": 0.5},
        "one-at-a-time:n_embd:low": {"n_embd": 192, "n_head": 6},
        "one-at-a-time:n_embd:high": {"n_embd": 768, "n_head": 24},
    }
    trials = designed(study, vocab_size=0).one_at_a_time
    assert {trial.key: trial.config for trial in trials} == {
        key: baseline.replace(**changes) for key, changes in expected.items()
    }
    assert {(trial.phase, trial.origin) for trial in trials} == {("search", "one-at-a-time")}
    labels = {trial.key: trial.label for trial in trials}
    assert labels["one-at-a-time:dropout:high"] == "dropout at its high, 0.3"
    assert labels["one-at-a-time:min_lr:high"] == "min_lr at its high, 0.3 of learning_rate"


def test_one_at_a_time_trials_leave_out_the_baseline_itself() -> None:
    study = story(knobs={"dropout": {"low": 0.1, "high": 0.3}, "batch_size": {"choices": [4, 8, 16]}})
    keys = [trial.key for trial in designed(study, vocab_size=0).one_at_a_time]
    assert keys == ["one-at-a-time:dropout:high", "one-at-a-time:batch_size:4", "one-at-a-time:batch_size:16"]


def test_the_amount_of_data_is_tried_on_every_seed_of_the_baseline() -> None:
    knobs = {"dropout": {"low": 0.1, "high": 0.3}, "data_fraction": {"choices": [0.25, 0.5, 1]}}
    study = story(knobs=knobs, baseline_seeds=2)
    _, *on_parts = designed(study, vocab_size=0).one_at_a_time
    baseline = baseline_config(study, seed=1337, vocab_size=0)
    assert {trial.key: trial.config for trial in on_parts} == {
        f"one-at-a-time:data_fraction:{part}:{seed}": baseline.replace(data_fraction=part, seed=seed)
        for part in (0.25, 0.5)
        for seed in (1337, 1338)
    }
    assert {trial.params for trial in on_parts} == {None}  # the sampler does not see them
    assert on_parts[1].label == "data_fraction 0.25, seed 1338"
    assert list(space.distributions(study)) == ["dropout"]


def test_a_baseline_on_part_of_the_data_may_be_tried_on_more() -> None:
    knobs = {"dropout": {"low": 0.1, "high": 0.3}, "data_fraction": {"choices": [0.5, 1.0]}}
    study = story(knobs=knobs, baseline={**STORY, "data_fraction": 0.5}, baseline_seeds=1)
    assert baseline_config(study, seed=1337, vocab_size=0).data_fraction == 0.5
    trials = designed(study, vocab_size=0).one_at_a_time
    assert [(trial.key, trial.config.data_fraction) for trial in trials] == [
        ("one-at-a-time:dropout:high", 0.5),
        ("one-at-a-time:data_fraction:1:1337", 1.0),
    ]


def test_a_candidate_on_part_of_the_data_is_outside_the_space() -> None:
    knobs = {"dropout": {"low": 0.1, "high": 0.3}, "data_fraction": {"choices": [0.5, 1.0]}}
    (candidate,) = designed(story(knobs=knobs, candidates=[{"data_fraction": 0.5}]), vocab_size=0).candidates
    assert (candidate.params, candidate.config.data_fraction) == (None, 0.5)


def test_without_a_knob_min_lr_stays_unless_the_rate_falls_below() -> None:
    study = story(knobs={"learning_rate": {"low": 5e-5, "high": 6e-3, "log": True}})
    low, high = designed(study, vocab_size=0).one_at_a_time
    assert (low.config.learning_rate, low.config.min_lr) == (5e-5, 5e-6)
    assert (high.config.learning_rate, high.config.min_lr) == (6e-3, 1e-4)


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

    known = designed(study, vocab_size=vocabulary)
    trials = [*known.baseline, *known.candidates, *known.one_at_a_time]
    assert len({trial.key for trial in trials}) == len(trials)
    first = trials[0].config
    for trial in trials:
        tokens = trial.config.max_iters * trial.config.tokens_per_iter
        assert tokens == study.iters * study.tokens_per_iter
        assert (trial.config.eval_windows, trial.config.final_windows) == (first.eval_windows, first.final_windows)
        if trial.params is not None:
            assert trial.config == config_of(study, trial.params, seed=trial.seed, vocab_size=vocabulary)
            assert set(trial.params) == set(distributions)
            for name, value in trial.params.items():
                internal = distributions[name].to_internal_repr(value)
                assert distributions[name]._contains(internal), (name, value)
        if trial.origin == "one-at-a-time":
            assert trial.knob is not None
            changed = differing(trial.config, first)
            assert trial.knob in changed
            assert changed <= {trial.knob, *FOLLOWERS.get(trial.knob, ())}


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"baseline": {**story().baseline, "n_embd": 400}}, ("baseline",), "n_embd=400"),
        ({"candidates": ({"beta2": 0.95}, {"warmup_iters": 20000})}, ("candidates", 1), "warmup_iters=20000"),
        ({"knobs": {"dropout": RangeKnob(low=0.0, high=1.5)}}, ("knobs", "dropout", "high"), "dropout=1.5"),
        ({"knobs": {"beta2": ChoicesKnob(choices=(0.99, 1.5))}}, ("knobs", "beta2", "choices"), "beta2=1.5"),
    ],
)
def test_a_known_trial_that_cannot_be_run_is_named_by_its_path(
    changes: dict[str, Any], path: tuple[str | int, ...], message: str
) -> None:
    study = story().model_copy(update=changes)  # not checked, unlike a study that is loaded
    with pytest.raises(DesignError, match=message) as error:
        designed(study, vocab_size=0)
    assert error.value.path == path
