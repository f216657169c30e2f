"""Formats of numbers, settings and lists, the reason of a pruned run in words, and a trial's title."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.store.records import Pruning
from sweeps.text import all_of, decimals, encodable, from_to, nats, percent, rounded, short, trial_title

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


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.003021, "0.003"),
        (0.002009, "0.002"),
        (0.00125, "0.00125"),  # as a person wrote it
        (6.0274e-4, "6e-4"),
        (1e-4, "1e-4"),
        (5e-05, "5e-5"),
        (0.999, "0.999"),
        (0.99613, "0.9961"),
        (0.95, "0.95"),
        (0.0, "0"),
        (1.0, "1"),
        (384, "384"),
        (20_000, "20000"),
        (True, "True"),
        (None, "–"),
    ],
)
def test_rounded(value: float | bool | None, words: str) -> None:
    assert rounded(value) == words


def test_two_settings_that_differ_look_different() -> None:
    assert from_to(0.003021, 0.01) == ("0.003", "0.01")
    assert from_to(0.0030214, 0.0030312) == ("0.003021", "0.003031")
    assert from_to(64, 112) == ("64", "112")


@pytest.mark.parametrize(
    ("half", "digits"),
    [(None, 2), (1.6, 2), (0.12, 2), (0.19, 2), (0.038, 2), (0.02, 2), (0.0199, 2), (0.019, 3), (0.012, 3),
     (0.0023, 3), (3e-4, 4),
     (1e-6, 4), (0.0, 4)],
)  # fmt: skip
def test_decimals(half: float | None, digits: int) -> None:
    assert decimals(half) == digits


@given(st.floats(1e-4, 10))
def test_an_interval_keeps_at_least_one_digit(half: float) -> None:
    digits = decimals(half)
    assert 2 <= digits <= 4
    assert round(half, digits) > 0
    assert digits == 4 or half * 10**digits >= 0.99 or digits == 2


def test_nats() -> None:
    assert [nats(-0.001, 2), nats(0.108, 2), nats(-0.225, 3, sign=True), nats(0.108, 2, sign=True)] == [
        "0.00",
        "0.11",
        "−0.225",
        "+0.11",
    ]


def test_encodable() -> None:
    text = "dropout 0.4 → 0 “x”: −0.1 ± 0.2, × 4"
    assert encodable(text, "utf-8") == text
    assert encodable(text, "ascii") == 'dropout 0.4 -> 0 "x": -0.1 +/- 0.2, x 4'
    assert encodable("Zürich → 1", "ascii") == "Z?rich -> 1"


def test_all_of() -> None:
    assert [all_of(2, "change"), all_of(5, "change")] == ["both changes", "all 5 changes"]


@pytest.mark.parametrize(("value", "words"), [(float("inf"), "inf"), (-float("inf"), "-inf"), (float("nan"), "nan")])
def test_a_value_without_bounds_is_named(value: float, words: str) -> None:
    assert short(value) == words


@given(st.floats(-1e300, 1e300))
def test_a_short_value_is_the_value_to_four_digits(value: float) -> None:
    assert float(short(value)) == pytest.approx(value, rel=5.1e-4)
