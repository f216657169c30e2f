"""Where trials start: the control, branches as trials, growth, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import SpecError
from sweeps.study import origin_runs
from sweeps.study.proposals import (
    baseline_config,
    baseline_params,
    candidate_proposal,
    config_of,
    designed,
)
from sweeps.study.start import LEAST_EFFECT, Origin, control_of, min_effect_of
from sweeps.study.study import Study
from sweeps.study.widening import containing_the_control
from tests.helpers.study_files import TEXT, small
from trainer.config import TrainConfig

START = "start={train: {max_iters: 2000}}"
NO_WIDTH = "knobs.n_embd=null"
SHA = "a" * 64


def branch_study(folder: Path, *sets: str, rate: float = 5e-4, step: int = 1000) -> Study:
    """Return the small study from an origin at `step` whose rate is `rate`."""
    study = small(folder, START, NO_WIDTH, *sets)
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 64, "block_size": 32, "vocab_size": 257}
    own = TrainConfig.from_mapping({**shape, "max_iters": 2000, "lr_decay_iters": 2000, "warmup_iters": 50})
    origin = Origin(checkpoint="/x", sha256=SHA, step=step, learning_rate=rate, settings=own.as_dict())
    return containing_the_control(study.model_copy(update={"origin": origin}))


@pytest.mark.parametrize(
    ("changes", "rate", "expected"),
    [
        ({}, 5e-4, {"learning_rate": 5e-4, "min_lr": 1e-4}),
        ({}, 1e-4, {"learning_rate": 1e-4, "min_lr": 1e-4}),  # beyond the decay: pinned at min_lr
        ({}, 5e-5, {"learning_rate": 5e-5, "min_lr": 5e-5}),  # in the warm-up, below min_lr
        ({"decay_lr": False}, 1e-3, {"learning_rate": 1e-3, "min_lr": 1e-3}),  # a constant rate stays constant
    ],
)
def test_the_control_keeps_the_rate_and_decays_to_the_baselines_min_lr(
    changes: dict[str, Any], rate: float, expected: dict[str, float]
) -> None:
    baseline = {"learning_rate": 1e-3, "min_lr": 1e-4, "decay_lr": True, "warmup_iters": 50, "dropout": 0.1, **changes}
    control = control_of(baseline, rate=rate, iters=400)
    schedule = {"decay_lr": True, "warmup_iters": 0, "lr_decay_iters": 400, "max_iters": 400}
    assert control == {"dropout": 0.1, **expected, **schedule}


@pytest.mark.parametrize(
    ("going_on", "expected"), [(0.1, 0.01), (0.01234, LEAST_EFFECT), (0.0456, 0.0046), (-1.0, 0.002)]
)
def test_a_tenth_of_what_going_on_brings_counts(going_on: float, expected: float) -> None:
    assert min_effect_of(going_on) == pytest.approx(expected)


def test_a_trial_is_a_branch(tmp_path: Path) -> None:
    study = branch_study(tmp_path)
    config = baseline_config(study, seed=7, vocab_size=257)
    assert (config.init_from, config.origin, config.seed) == ("branch", SHA, 7)
    assert (config.learning_rate, config.min_lr, config.warmup_iters) == (5e-4, 1e-4, 0)
    assert (config.max_iters, config.lr_decay_iters) == (600, 600)


def test_another_rate_decays_to_the_controls_min_lr(tmp_path: Path) -> None:
    study = branch_study(tmp_path)
    params = {**baseline_params(study), "learning_rate": 2e-3}
    config = config_of(study, params, seed=1, vocab_size=257)
    assert (config.learning_rate, config.min_lr) == (2e-3, 1e-4)
    lower = config_of(study, {**params, "learning_rate": 1e-4, "min_lr_ratio": 1.0}, seed=1, vocab_size=257)
    assert (lower.learning_rate, lower.min_lr) == (1e-4, 1e-4)  # never above the rate itself


def test_knobs_are_widened_to_the_control(tmp_path: Path) -> None:
    study = branch_study(tmp_path, rate=1e-4)
    assert study.knobs["min_lr"].contains(1.0)
    assert study.knobs["warmup_iters"].contains(0.0)
    assert sum("to reach beyond the control's" in note for note in study.notes) == 3


def test_advice_is_scaled_to_the_branch(tmp_path: Path) -> None:
    """A warm-up of 200 in 2000 iterations is 60 in 600."""
    proposal = candidate_proposal(branch_study(tmp_path), 1, vocab_size=257)
    assert proposal.config.warmup_iters == 60
    assert proposal.params is not None
    assert proposal.params["warmup_fraction"] == pytest.approx(0.1)


def test_grown_shapes_are_tried_alone_without_dropout_beside_such_a_control(tmp_path: Path) -> None:
    sets = ("knobs.n_embd={choices: [64, 128]}", "knobs.n_layer={choices: [2, 3]}", "baseline_seeds=2")
    study = branch_study(tmp_path, *sets)
    assert {"n_embd", "n_layer"}.isdisjoint(study.sampled)
    grown = [trial for trial in designed(study, vocab_size=257).one_at_a_time if trial.config.dropout == 0.0]
    grown = [trial for trial in grown if trial.params is None]
    shapes = [
        (trial.seed, trial.knob, trial.config.n_embd, trial.config.n_head, trial.config.n_layer) for trial in grown
    ]
    assert shapes == [
        (seed, *arm)
        for seed in (1337, 1338)
        for arm in ((None, 64, 4, 2), ("n_embd", 128, 8, 2), ("n_layer", 64, 4, 3))
    ]


def test_a_race_of_the_baselines_own_value_is_left_out(tmp_path: Path) -> None:
    study = small(tmp_path, START, NO_WIDTH, "race={iters: 100, seeds: 1, n_embd: [64, 128]}")
    assert [run.key for run in origin_runs.races(study, vocab_size=257)] == ["race:n_embd=128:1337"]


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (("start=warm", NO_WIDTH), r"start is scratch, \{checkpoint: out/ckpt\.pt\} or \{train: \{max_iters: 3000\}\}"),
        (("start={train: {max_iters: 5}}", NO_WIDTH), r"start\.train\.max_iters: 5 must be at least 100"),
        (
            ("start={train: {iters: 500}}", NO_WIDTH),
            r"start\.train\.iters: unknown key 'iters'; did you mean max_iters\?",
        ),
        ((START,), r"knobs\.n_embd: a checkpoint can't shrink from 64 to 32; race it from scratch instead"),
        (
            (START, "knobs.n_embd={choices: [64, 96]}"),
            r"grows in width by whole factors only, and 96 is no multiple of 64; race it",
        ),
        (("race={iters: 100, n_embd: [128]}",), "a race runs against the curve of an origin: add start:"),
        (
            (START, NO_WIDTH, "race={iters: 5000, n_embd: [128]}"),
            r"race\.iters: 5000 iterations are more than the 2000 of the origin, .*; use at most 2000",
        ),
        (
            (START, NO_WIDTH, "race={iters: 100, n_embd: [100]}"),
            r"race\.n_embd: n_embd=100 is not divisible by head_size=16; nearest widths: 96 and 112",
        ),
        ((START, NO_WIDTH, "race={iters: 100}"), "race: there is nothing to race; add widths or depths"),
        (
            (START, NO_WIDTH, "race={iters: 100, learning_rate: [1e-3]}"),
            r"race\.learning_rate: a schedule is not raced: .* as knobs\.learning_rate",
        ),
        (
            (START, NO_WIDTH, "race={iters: 100, block_size: [64]}"),
            r"race\.block_size: losses at different context lengths can't be compared",
        ),
        (
            (START, NO_WIDTH, "candidates=[{n_embd: 128}]"),
            r"candidates\.0\.n_embd: a checkpoint keeps its shape; race it from scratch instead",
        ),
        (("origin={step: 3}",), "origin: unknown key 'origin'; the checkpoint is named by start"),
    ],
)
def test_what_cant_be_is_refused_with_a_remedy(tmp_path: Path, sets: tuple[str, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        small(tmp_path, *sets, text=TEXT)
