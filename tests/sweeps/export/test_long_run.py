"""Remarks on a long run: what is carried over, by closed forms, and the commands that they name."""

from __future__ import annotations

import re

import pytest

from tests.helpers.exports import as_config, comments, config, data, nanogpt_configurator


def test_a_longer_run_keeps_the_shape_of_its_schedule():
    exported = as_config(config(warmup_iters=15, lr_decay_iters=540), data=data(), iters=20_000)
    wanted = {"max_iters": 20_000, "warmup_iters": 500, "lr_decay_iters": 18_000}
    assert {key: exported.settings[key] for key in wanted} == wanted
    assert (exported.settings["learning_rate"], exported.settings["min_lr"]) == (1e-3, 1e-4)
    assert "From 600 iterations to 20000" in exported.text


def test_the_runs_own_length_needs_no_advice():
    exported = as_config(config(sampling="nanogpt"), data=data(), iters=600)
    assert exported.notes == ()


@pytest.mark.parametrize(
    ("iters", "warned"), [(300, False), (1200, False), (2400, False), (2401, True), (60_000, True)]
)
def test_a_rate_found_on_a_quarter_of_the_run_or_less_is_called_a_guess(iters, warned):
    notes = as_config(config(), data=data(), iters=iters).notes
    assert any(note.startswith("WARNING") and "Run a ladder" in note for note in notes) is warned
    assert any("disputed" in note for note in notes)


def test_both_answers_on_the_learning_rate_are_given_as_commands():
    exported = as_config(config(), data=data(), iters=6000)
    (tries,) = (note for note in exported.notes if note.startswith("Rates to try"))
    # 10 times the tokens: 1e-3 * 10^-0.32 and 1e-3 * 10^0.307, min_lr a tenth of each
    assert re.findall(r"--\S+", tries.partition(": ")[2]) == [
        "--learning_rate=0.00048",
        "--min_lr=4.8e-05",
        "--learning_rate=0.002",
        "--min_lr=0.0002",
    ]
    for argument in re.findall(r"--[a-z_]+=\S+", " ".join(exported.notes)):
        nanogpt_configurator(exported.text, argument)
    commented = comments(exported.text)
    assert "--learning_rate=0.00048 --min_lr=4.8e-05" in commented


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (10**9, "was chosen without repeated data, and the run repeats none either"),
        (100_000, "the trial made 0.384 epochs of its data, this run makes 3.84"),
        (10_000, "the trial made 3.84 epochs of its data, this run makes 38.4"),
    ],
)
def test_dropout_belongs_to_a_number_of_epochs(tokens, expected):
    exported = as_config(config(dropout=0.1), data=data(train_tokens=tokens), iters=6000)
    assert sum(expected in note and "dropout=0.1" in note for note in exported.notes) == 1


def test_a_trial_on_part_of_the_data_made_more_epochs_than_the_run_will():
    exported = as_config(config(dropout=0.1, data_fraction=0.5), data=data(train_tokens=10_000), iters=600)
    assert sum("of its data, this run makes" in note for note in exported.notes) == 0  # the run's own length
    exported = as_config(config(dropout=0.1, data_fraction=0.5), data=data(train_tokens=10_000), iters=1200)
    assert sum("the trial made 7.68 epochs of its data, this run makes 7.68" in note for note in exported.notes) == 1
    assert "data_fraction" not in exported.settings


def test_weight_decay_has_two_candidates():
    exported = as_config(config(weight_decay=0.1), data=data(), iters=6000)
    (note,) = (note for note in exported.notes if note.startswith("weight_decay"))
    assert "= 1e+04 iterations" in note
    assert "weight_decay stays 0.1" in note
    assert "--weight_decay=0.01" in note
    assert not any(
        "weight_decay" in note for note in as_config(config(weight_decay=0.0), data=data(), iters=6000).notes
    )


def test_a_weight_decay_too_small_to_act_has_no_candidates():
    exported = as_config(config(weight_decay=5e-324, learning_rate=0.5), data=data(), iters=6000)
    assert not [note for note in exported.notes if note.startswith("weight_decay")]
