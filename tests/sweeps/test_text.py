"""The reason of a pruned run in words, the format of percentages, and a trial's title."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.store.records import Pruning
from sweeps.text import percent, trial_title

PREDICTED = Pruning(
    rule="plateau",
    reason="dominated",
    evaluation=8,
    step=160,
    val_loss=4.25,
    sentinel=False,
    completed=7,
    best=3.5204,
    predicted=3.7116,
    scale=0.02,
    degrees=11.0,
    low=3.6604,
    high=3.8,
    chance=0.0042,
    epsilon=0.02,
)
COMPARED = Pruning(
    rule="median",
    reason="median",
    evaluation=5,
    step=75,
    val_loss=5.4,
    sentinel=False,
    completed=19,
    best=4.9,
    best_so_far=5.3821,
    peers_median=5.35216,
    peers_best=5.2593,
)
NUMBERS = "would end at 3.712 (3.660 to 3.800), chance 0.4 % of the best tenth; best 3.520"


@pytest.mark.parametrize(
    ("pruning", "words"),
    [
        (PREDICTED, f"dominated: {NUMBERS}"),
        (dataclasses.replace(PREDICTED, sentinel=True), f"dominated: {NUMBERS}"),
        (dataclasses.replace(PREDICTED, reason="plateau-and-dominated"), f"plateau and dominated: {NUMBERS}"),
        (
            dataclasses.replace(PREDICTED, chance=0.0004),
            "dominated: would end at 3.712 (3.660 to 3.800), chance below 0.1 % of the best tenth; best 3.520",
        ),
        (
            Pruning(
                rule="plateau",
                reason="diverged",
                evaluation=8,
                step=160,
                val_loss=12.34567,
                sentinel=False,
                completed=0,
                best=None,
            ),
            "diverged: loss 12.3457 at step 160",
        ),
        (
            COMPARED,
            "median: loss 5.4000 at step 75, best so far 5.3821; 19 trials had a median of 5.3522 there, "
            "the best 5.2593",
        ),
        (
            dataclasses.replace(COMPARED, completed=1),
            "median: loss 5.4000 at step 75, best so far 5.3821; 1 trial had a median of 5.3522 there, the best 5.2593",
        ),
        (
            dataclasses.replace(COMPARED, rule="hyperband", reason="hyperband", peers_median=None, peers_best=None),
            "hyperband: loss 5.4000 at step 75",
        ),
    ],
)
def test_why_pruned(pruning: Pruning, words: str) -> None:
    assert pruning.why == words


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "below 0.1 %"),
        (0.0004, "below 0.1 %"),
        (0.0005, "0.1 %"),
        (0.004, "0.4 %"),
        (0.37, "37.0 %"),
        (1, "100.0 %"),
    ],
)
def test_percent(share: float, words: str) -> None:
    assert percent(share) == words


@given(st.floats(0, 1))
def test_no_chance_is_called_none(share: float) -> None:
    assert not percent(share).startswith("0.0 ")


@pytest.mark.parametrize(
    ("number", "label", "title"),
    [(7, "dropout 0", "trial 7 (dropout 0)"), (19, "trial 19", "trial 19"), (1, "trial 19", "trial 1 (trial 19)")],
)
def test_a_trials_title(number: int, label: str, title: str) -> None:
    assert trial_title(number, label) == title
