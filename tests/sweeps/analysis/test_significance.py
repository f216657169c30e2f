"""Significance of contrasts: Holm's method by its definition, the words by table, and the seeds that would decide."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.significance import harmful, harmful_among, holm, negligible, p_of_harm, seeds_to_decide, shown
from tests.helpers.contrasts import BIMODAL, GAIN, arm, by_hand, contrast_of, of_gains


def closed_testing(p: Sequence[float | None]) -> list[float | None]:
    """Holm by its definition: a hypothesis is rejected if Bonferroni rejects every intersection that it belongs to."""
    known = [1.0 if value is None else value for value in p]
    adjusted: list[float | None] = []
    for index, value in enumerate(p):
        sets = (
            hypotheses
            for size in range(1, len(p) + 1)
            for hypotheses in itertools.combinations(range(len(p)), size)
            if index in hypotheses
        )
        bonferroni = (min(1, len(hypotheses) * min(known[i] for i in hypotheses)) for hypotheses in sets)
        adjusted.append(None if value is None else max(bonferroni))
    return adjusted


@given(st.lists(st.none() | st.floats(0, 1), max_size=6))
def test_holm_is_closed_testing_and_a_missing_p_counts_in_the_family(p: list[float | None]) -> None:
    adjusted = holm(p)
    assert [value is None for value in adjusted] == [value is None for value in p]
    assert [value for value in adjusted if value is not None] == pytest.approx(
        [value for value in closed_testing(p) if value is not None]
    )


def test_holm_of_a_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None]) == [0.02, None]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"p": 0.05}, {"shown"}),
        ({"p": 0.051}, set()),
        ({"p": None, "low": -0.019, "high": 0.019}, {"negligible"}),
        ({"p": 0.4, "low": -0.02, "high": 0.019}, set()),
        ({"p": 0.4, "low": -0.019, "high": 0.02}, set()),
        ({"p": 0.999, "upper": -0.021}, {"harmful"}),
        ({"p": 0.999, "upper": -0.02}, set()),
        ({"p": None, "low": None, "high": None, "upper": None}, set()),
    ],
)
def test_words(changes: dict[str, Any], words: set[str]) -> None:
    effect = by_hand(**changes)
    holds = {"shown": shown(effect), "negligible": negligible(effect, 0.02), "harmful": harmful(effect, 0.02)}
    assert {word for word in holds if holds[word]} == words


def test_without_runs_or_noise_nothing_is_significant() -> None:
    assert not shown(None)
    assert not negligible(None, 0.02)
    single = contrast_of(GAIN, {"baseline": arm([4.0]), "best": arm([3.9])})
    assert not shown(single)
    assert not harmful(single, 0.02)
    assert not negligible(single, 0.02)
    assert seeds_to_decide(single, min_effect=0.02) is None


def test_runs_that_agree_to_the_last_digit_are_certain() -> None:
    same = contrast_of(GAIN, {"baseline": arm([4.0, 4.1]), "best": arm([4.0, 4.1])}, threshold=0.02)
    assert negligible(same, 0.02)
    better = contrast_of(GAIN, {"baseline": arm([4.0, 4.1]), "best": arm([3.5, 3.6])}, threshold=0.02)
    assert (p_of_harm(better, 0.02), p_of_harm(same, 0.02)) == (1, 1)
    worse = contrast_of({"baseline": -1, "best": 1}, {"baseline": arm([4.0, 4.1]), "best": arm([3.5, 3.6])})
    assert p_of_harm(worse, 0.02) == 0


@pytest.mark.parametrize("min_effect", [0.0, 0.02, 0.5])
def test_p_of_harm_is_that_of_a_mean_above(min_effect: float) -> None:
    gains = -np.array([0.41, 0.2, 0.02, 0.33, 0.11])
    by_t = of_gains(gains.tolist(), 0.02)
    expected = stats.ttest_1samp(gains, -min_effect, alternative="less").pvalue
    assert p_of_harm(by_t, min_effect) == pytest.approx(expected)
    two_modes = of_gains([-gain for gain in BIMODAL], 0.02)
    assert two_modes.bimodal
    assert p_of_harm(two_modes, min_effect) == pytest.approx(of_gains(BIMODAL, min_effect).p)
    for effect in (by_t, two_modes):
        p = p_of_harm(effect, min_effect)
        assert p is not None
        assert harmful(effect, min_effect) == (p <= 0.05)
    single = contrast_of(GAIN, {"baseline": arm([4.0]), "best": arm([3.9])})
    assert p_of_harm(single, min_effect) is None
    same = contrast_of(GAIN, {"baseline": arm([4.0, 4.1]), "best": arm([4.0, 4.1])})
    assert p_of_harm(same, min_effect) == 1


def test_harm_among_several_is_holms() -> None:
    bad, worse = ([-0.05, -0.03, -0.06, -0.049], [-0.3, -0.31, -0.29, -0.33])
    effects: list[Contrast | None] = [of_gains(gains, 0.02) for gains in (bad, worse)]
    assert harmful_among(effects, 0.02) == [True, True]
    assert harmful_among([*effects, None], 0.02) == [True, True, False]
    assert harmful_among([*effects, *[None] * 19], 0.02) == [False, True, *[False] * 19]
    assert harmful_among([None], 0.02) == [False]


def decided(mean: float, se: float, degrees: float) -> bool:
    """Whether a mean is shown to exceed 0.02 nats, to lie within ±0.02, or to be below -0.02."""
    t = stats.t(degrees, loc=mean, scale=se)
    return t.ppf(0.05) >= 0.02 or (t.ppf(0.025) > -0.02 and t.ppf(0.975) < 0.02) or t.ppf(0.95) < -0.02


@pytest.mark.parametrize("mean", [0.05, 0.021, 0.0, -0.01, -0.05, -0.3])
@pytest.mark.parametrize("degrees", [2.0, 14.0])
def test_seeds_to_decide_is_the_first_number_that_would(mean: float, degrees: float) -> None:
    p = float(stats.t.sf((mean - 0.02) / 0.04, degrees))
    effect = by_hand(mean=mean, se=0.04, degrees=degrees, p=p, differences={0: mean, 1: mean, 2: mean})
    more = seeds_to_decide(effect, min_effect=0.02)
    enough = (n - 3 for n in range(4, 68) if decided(mean, 0.04 * math.sqrt(3 / n), degrees * (n - 1) / 2))
    assert more == next(enough, None)
    assert (more is None) == (mean in (0.021, -0.01))
    in_family = seeds_to_decide(dataclasses.replace(effect, p=min(1.0, 6 * p)), min_effect=0.02)
    assert (in_family or 65) >= (more or 65)
    if mean == 0.05:
        assert (in_family or 65) > (more or 65)


def test_two_modes_are_decided_by_further_seeds_like_them() -> None:
    effect = of_gains([0.1, 0.1001, 0.9], 0.02)  # t = 1.30 on 2 degrees; the noise falls with the root of the seeds
    enough = (n - 3 for n in range(4, 68) if decided(effect.mean, (effect.se or 0) * math.sqrt(3 / n), n - 1))
    assert seeds_to_decide(effect, min_effect=0.02) == next(enough)
