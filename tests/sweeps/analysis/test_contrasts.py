"""Contrasts of arms: textbook tests where they apply, exchanges that must not matter, and coverage by simulation."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sweeps.analysis.contrasts import Sample, contrast
from sweeps.analysis.modes import two_modes
from sweeps.analysis.significance import p_of_harm, shown
from tests.helpers.contrasts import BASELINE, BEST, BIMODAL, GAIN, arm, contrast_of, of_gains


def test_two_arms_alone_are_a_paired_t_test() -> None:
    effect = contrast_of(GAIN, {"baseline": arm(BASELINE), "best": arm(BEST)}, threshold=0.02)
    differences = np.array(BASELINE) - BEST
    test = stats.ttest_1samp(differences, 0.02, alternative="greater")
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert effect.method == "paired"
    assert list(effect.differences.values()) == pytest.approx(differences)
    assert (effect.p, effect.degrees) == (pytest.approx(test.pvalue), 4)
    assert (effect.low, effect.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert effect.lower == pytest.approx(
        stats.ttest_1samp(differences, 0, alternative="greater").confidence_interval().low
    )
    assert effect.upper == pytest.approx(
        stats.ttest_1samp(differences, 0, alternative="less").confidence_interval().high
    )
    assert (effect.n, effect.share) == (5, 0.8)


def test_arms_that_start_from_other_weights_are_welchs_test_on_all_seeds() -> None:
    baseline = [*BASELINE, 4.3, 4.17]
    samples = {"baseline": arm(baseline), "best": arm([None, *BEST], shape="b")}
    effect = contrast_of(GAIN, samples, threshold=0.02)
    welch = stats.ttest_ind(np.array(baseline) - 0.02, BEST, equal_var=False, alternative="greater")
    interval = stats.ttest_ind(baseline, BEST, equal_var=False).confidence_interval(0.95)
    assert effect.method == "unpaired"
    assert list(effect.differences) == [1, 2, 3, 4, 5]
    assert effect.mean == pytest.approx(np.mean(baseline) - np.mean(BEST))
    assert (effect.p, effect.degrees) == (pytest.approx(welch.pvalue), pytest.approx(welch.df))
    assert (effect.low, effect.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


@pytest.mark.parametrize("elsewhere", [[4], [0, 1, 2, 3, 4]])
def test_a_seed_on_two_kinds_of_device_makes_it_welchs_test(elsewhere: list[int]) -> None:
    kinds = {seed: "B" if seed in elsewhere else "A" for seed in range(5)}
    samples = {
        "baseline": dataclasses.replace(arm(BASELINE), kinds=dict.fromkeys(kinds, "A")),
        "best": dataclasses.replace(arm(BEST), kinds=kinds),
    }
    effect = contrast_of(GAIN, samples, threshold=0.02)
    welch = stats.ttest_ind(np.array(BASELINE) - 0.02, BEST, equal_var=False, alternative="greater")
    assert (effect.method, effect.kinds_differ, effect.n) == ("unpaired", True, 5)
    assert (effect.p, effect.degrees) == (pytest.approx(welch.pvalue), pytest.approx(welch.df))


def test_seeds_may_be_on_different_kinds_of_device_if_their_arms_are_together() -> None:
    kinds = {0: "A", 1: "B", 2: "A", 3: "C", 4: "B"}
    plain = {"baseline": arm(BASELINE), "best": arm(BEST)}
    spread = {name: dataclasses.replace(sample, kinds=kinds) for name, sample in plain.items()}
    assert contrast_of(GAIN, spread) == contrast_of(GAIN, plain)


def test_other_arms_on_another_kind_of_device_tell_nothing_of_the_noise() -> None:
    """Their seeds have another luck there. Beside each other they still do."""
    gaps = np.array([0.05, 0.06, 0.046])
    pair = {"baseline": arm((5 + LUCK).tolist()), "best": arm((5 + LUCK - gaps).tolist())}
    moved = {name: dataclasses.replace(sample, kinds=dict.fromkeys(range(3), "B")) for name, sample in EQUAL.items()}
    assert contrast_of(GAIN, {**pair, **EQUAL}) == contrast_of(GAIN, {**pair, **moved})
    apart = {name: dataclasses.replace(sample, kinds=dict.fromkeys(range(3), name)) for name, sample in EQUAL.items()}
    assert contrast_of(GAIN, {**pair, **apart}) == contrast_of(GAIN, pair)


def test_a_difference_from_half_the_length_is_paired_where_each_length_stayed_on_one_kind() -> None:
    whole, half = (dataclasses.replace(arm(BASELINE), kinds=dict.fromkeys(range(5), kind)) for kind in "AB")
    late = whole.less(0.5, half)
    best = dataclasses.replace(whole, losses=dict(enumerate(BEST))).less(0.5, half)
    assert contrast_of(GAIN, {"baseline": late, "best": best}).method == "paired"
    assert contrast_of(GAIN, {"baseline": late, "best": whole}).kinds_differ


LUCK = np.array([0.1, -0.05, 0.02])
EQUAL = {name: arm((4 + i + LUCK + 0.01 * np.roll([1, 0, -1], i)).tolist()) for i, name in enumerate("xyz")}
"""three equally noisy arms: the differences of all pairs have the same variance"""


def residual_variance(table: np.ndarray) -> float:
    """Return the residual variance of a complete two-way layout."""
    residuals = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    return float((residuals**2).sum() / (len(table) - 1) / (table.shape[1] - 1))


@pytest.mark.parametrize("shape", ["a", "b"])
def test_without_pooling_other_arms_do_not_count(shape: str) -> None:
    gaps = np.array([0.05, 0.06, 0.046])
    pair = {"baseline": arm((5 + LUCK).tolist()), "best": arm((5 + LUCK - gaps).tolist(), shape=shape)}
    assert contrast(GAIN, {**pair, **EQUAL}, pooled=False) == contrast(GAIN, pair)
    assert contrast_of(GAIN, {**pair, **EQUAL}).method == ("layout" if shape == "a" else "unpaired")


def test_other_arms_that_agree_share_their_variance() -> None:
    """If all arms are equally noisy, the variance is that of the two-way layout."""
    gaps = np.array([0.05, 0.06, 0.046])
    pair = {"baseline": arm((5 + LUCK).tolist()), "best": arm((5 + LUCK - gaps).tolist())}
    effect = contrast_of(GAIN, {**pair, **EQUAL}, threshold=0.02)
    others = residual_variance(np.array([list(sample.losses.values()) for sample in EQUAL.values()]))
    variance = (2 * gaps.var(ddof=1) + 4 * 2 * others) / 6
    test = stats.t(6, loc=gaps.mean(), scale=math.sqrt(variance / 3))
    assert (effect.method, effect.degrees) == ("layout", pytest.approx(6))
    assert (effect.low, effect.high) == (pytest.approx(test.ppf(0.025)), pytest.approx(test.ppf(0.975)))
    assert effect.p == pytest.approx(stats.t.sf((gaps.mean() - 0.02) / math.sqrt(variance / 3), 6))
    single = {name: dataclasses.replace(sample, losses={1: sample.losses[1]}) for name, sample in pair.items()}
    alone = contrast_of(GAIN, {**single, **EQUAL})
    assert (alone.n, alone.degrees, alone.se) == (1, pytest.approx(4), pytest.approx(math.sqrt(2 * others)))


def test_other_arms_count_less_if_they_differ_and_not_at_all_if_the_contrast_is_louder() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.02, (8, 4))
    pair = {"baseline": arm([4.0, 4.1, 4.05, 4.2]), "best": arm([3.93, 4.0, 3.94, 4.1])}
    alike = {str(i): arm(row.tolist()) for i, row in enumerate(noise)}
    apart = {str(i): arm(row.tolist()) for i, row in enumerate(noise * np.logspace(-1, 0.5, 8)[:, None])}
    much, little = contrast_of(GAIN, pair | alike), contrast_of(GAIN, pair | apart)
    assert much.method == little.method == "layout"
    assert much.degrees is not None
    assert little.degrees is not None
    assert 3 < little.degrees < 8 < 10 < much.degrees <= 3 + 21
    loud = {**pair, "best": arm([3.5, 4.0, 3.9, 4.1])}
    assert contrast_of(GAIN, loud | alike) == contrast_of(GAIN, loud)
    assert contrast_of(GAIN, loud).method == "paired"


CALM = [0.05, 0.0503, 0.0498, 0.0501, 0.0496]


@pytest.mark.parametrize(
    ("gaps", "weights", "pooled"),
    [
        ([0.05, 0.07, 0.02, 0.06], GAIN, True),
        (CALM, GAIN, False),
        (CALM[:4], GAIN, True),  # four seeds may agree by chance
        # noise of 1.37 times the others' variance at 12 degrees: too loud only if the weights are forgotten
        ([0.0, 0.082, 0.05, 0.02, 0.04], {"baseline": 10.0, "best": -10.0}, True),
    ],
)
def test_other_arms_do_not_count_if_the_contrast_is_clearly_quieter(
    gaps: list[float], weights: dict[str, float], pooled: bool
) -> None:
    noise = np.random.default_rng(5).normal(0, 0.02, (7, len(gaps)))
    others = {str(i): arm(row.tolist()) for i, row in enumerate(noise)}
    pair = {"baseline": arm([4 + gap for gap in gaps]), "best": arm([4.0] * len(gaps))}
    effect = contrast_of(weights, {**pair, **others})
    assert effect.method == ("layout" if pooled else "paired")


def test_other_arms_of_another_start_say_nothing() -> None:
    elsewhere = {name: dataclasses.replace(sample, shape="b") for name, sample in EQUAL.items()}
    pair = {"baseline": arm(BASELINE[:3]), "best": arm(BEST[:3])}
    assert contrast_of(GAIN, pair | elsewhere) == contrast_of(GAIN, pair)


def test_luck_that_does_not_cancel_is_the_arms_own() -> None:
    """Two of the three arms start from the same weights, but their weights don't sum to 0."""
    samples = {
        "reset": arm([4.0, 4.05, 4.02]),
        "baseline": arm([4.5, 4.52, 4.55]),
        "best": arm([3.8, 3.65, 3.95], shape="wide"),
        **{str(i): arm(row.tolist()) for i, row in enumerate(np.random.default_rng(0).normal(4, 0.03, (9, 3)))},
    }
    effect = contrast_of({"reset": 1, "baseline": -0.5, "best": -0.5}, samples)
    assert contrast_of({"reset": 1, "baseline": -0.5}, samples).method == "paired"
    of_shape_a = np.array([4.0, 4.05, 4.02]) - np.array([4.5, 4.52, 4.55]) / 2
    welch = stats.ttest_ind(of_shape_a, np.array([3.8, 3.65, 3.95]) / 2, equal_var=False).confidence_interval()
    assert effect.method == "unpaired"
    assert (effect.low, effect.high) == (pytest.approx(welch.low), pytest.approx(welch.high))


def test_one_sample_less_a_share_of_another() -> None:
    sample = arm([4.0, 4.1, None, 4.3]).less(0.5, arm([3.0, None, 3.0, 3.2], shape="b"))
    assert (dict(sample.losses), sample.shape) == ({0: 2.5, 3: pytest.approx(2.7)}, "a")


def test_the_noise_of_single_runs_is_unknown() -> None:
    assert contrast(GAIN, {"baseline": arm([4.0]), "best": arm([None, 3.9])}) is None
    single = contrast_of(GAIN, {"baseline": arm([4.0]), "best": arm([3.9])})
    assert (single.n, single.mean) == (1, pytest.approx(0.1))
    assert {single.se, single.degrees, single.low, single.high, single.lower, single.upper, single.p} == {None}
    wide = contrast_of(GAIN, {"baseline": arm([4.0, 4.1]), "best": arm([3.9], shape="b")})
    assert wide.se is None


def test_runs_that_agree_to_the_last_digit() -> None:
    same = contrast_of(GAIN, {"baseline": arm([4.0, 4.1]), "best": arm([4.0, 4.1])}, threshold=0.02)
    assert (same.low, same.high, same.p) == (0, 0, 1)
    noisy = {str(i): arm(row.tolist()) for i, row in enumerate(np.random.default_rng(0).normal(4, 0.03, (9, 2)))}
    assert contrast_of(GAIN, {"baseline": arm([4.0, 4.1]), "best": arm([4.0, 4.1]), **noisy}, threshold=0.02) == same
    assert contrast_of(GAIN, {"baseline": arm([4.0]), "best": arm([4.0])}).p is None
    better = contrast_of(GAIN, {"baseline": arm([4.0, 4.1]), "best": arm([3.5, 3.6])}, threshold=0.02)
    assert (better.se, better.p, better.lower) == (0, 0, pytest.approx(0.5))
    flat = {str(i): arm([4.0, 4.0, 4.0]) for i in range(4)}
    assert contrast_of(GAIN, {**flat, "baseline": arm([4.0, 4.1]), "best": arm([3.9, 3.95])}).method == "paired"


@pytest.mark.parametrize(
    ("gains", "bimodal"),
    [
        ((1.1, 1.101, 1.3), True),
        ((1.1, 1.299, 1.3), True),
        ((1.12, 1.13, 1.29, 1.3), True),
        ((1.1, 1.2, 1.3), False),
        ((1.1, 1.15, 1.2, 1.3), False),
    ],
)
def test_seeds_that_all_gain_much_have_an_interval_and_can_be_shown(gains: tuple[float, ...], bimodal: bool) -> None:
    """Two modes or not, the interval and p are Student's on the seeds."""
    effect = contrast_of(GAIN, {"baseline": arm([4 + g for g in gains]), "best": arm([4.0] * len(gains))}, looks=2.5)
    test = stats.ttest_1samp(gains, 0.0).confidence_interval(0.95)
    assert effect.bimodal is bimodal
    assert (effect.low, effect.high) == (pytest.approx(test.low), pytest.approx(test.high))
    assert effect.lower is not None
    assert effect.lower > 0.5
    assert effect.p == pytest.approx(2.5 * stats.ttest_1samp(gains, 0.0, alternative="greater").pvalue)
    assert shown(dataclasses.replace(effect, p=6 * (effect.p or 0)))  # by Holm over six knobs
    assert (effect.through, effect.share) == (len(gains), 1.0)
    low, high = effect.share_interval
    assert (low, high) == (pytest.approx(0.025 ** (1 / len(gains))), 1.0)  # so many successes are that unlikely below


def test_noise_of_other_arms_does_not_count_beside_two_modes() -> None:
    others = {str(i): arm(row.tolist()) for i, row in enumerate(np.random.default_rng(0).normal(4, 0.08, (9, 3)))}
    near = {"baseline": arm([5.1, 5.15, 5.3]), "best": arm([4.0, 4.0, 4.0])}
    assert contrast_of(GAIN, {**near, **others}).method == "layout"
    pair = {"baseline": arm([5.1, 5.101, 5.3]), "best": arm([4.0, 4.0, 4.0])}
    assert contrast_of(GAIN, {**pair, **others}) == contrast_of(GAIN, pair)
    assert contrast_of(GAIN, pair).method == "paired"


def test_the_interval_of_two_modes_holds_students_and_the_typical_values() -> None:
    """By the means of all subsets of the seeds (7: 128 pieces, of which 3 lie beyond either bound)."""
    effect = of_gains(BIMODAL, 0.0)
    means = sorted(float(np.mean(s)) for r in range(1, 8) for s in itertools.combinations(BIMODAL, r))
    test = stats.ttest_1samp(BIMODAL, 0.0).confidence_interval(0.95)
    assert effect.low == pytest.approx(min(means[2], test.low))
    assert effect.high == pytest.approx(max(means[-3], test.high))
    few = of_gains([0.4, 0.41, 0.4, 0.39, 0.01], 0.0)  # 5 seeds: Student's ends above the least of them
    assert few.bimodal
    assert few.low == pytest.approx(0.01)


@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.2, 0.5])
def test_p_of_two_modes_is_the_larger_of_students_and_sign_flips(threshold: float) -> None:
    gains = np.array(BIMODAL) - threshold
    flips = stats.permutation_test(
        (gains,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    ).pvalue
    students = stats.ttest_1samp(gains, 0.0, alternative="greater").pvalue
    expected = students if threshold < min(BIMODAL) else max(students, flips)
    assert of_gains(BIMODAL, threshold).p == pytest.approx(expected)


def test_six_of_eight_seeds_beside_two_that_gain_nothing_are_not_shown_over_six_knobs() -> None:
    """Student's p is 0.002, of sign flips 4 of 256."""
    effect = of_gains([0.3, 0.31, 0.3, 0.29, 0.3, 0.3, 0.01, 0.0], 0.02)
    assert effect.bimodal
    assert effect.p == pytest.approx(4 / 256)


def test_two_modes_of_one_arm_do_not_hide_in_the_others_luck() -> None:
    luck = [4.1, 4.3, 4.0, 4.22, 4.17, 4.05, 4.35]
    samples = {"baseline": arm(luck), "best": arm([3.5 + gain for gain in BIMODAL], shape="b")}
    effect = contrast_of(GAIN, samples)
    assert not two_modes(list(effect.differences.values()))
    assert effect.bimodal
    assert effect.method == "unpaired"


@pytest.mark.parametrize("bound", ["lower", "low"])
def test_bounds_of_two_modes_are_where_the_test_turns(bound: str) -> None:
    tail = {"lower": 0.05, "low": 0.025}[bound]
    edge = getattr(of_gains(BIMODAL, 0.0), bound)
    below, above = of_gains(BIMODAL, edge - 1e-6).p, of_gains(BIMODAL, edge + 1e-6).p
    assert below is not None
    assert above is not None
    assert below <= tail < above
    mirrored = of_gains([-gain for gain in BIMODAL], 0.0)
    assert {"lower": mirrored.upper, "low": mirrored.high}[bound] == pytest.approx(-edge)


ADVICE = {"baseline": 1.0, "advice": -1.0}
EVEN = np.random.default_rng(11).normal(0, 0.01, (6, 6))
"""noise of six arms on six seeds, of one kind"""


@pytest.mark.parametrize(
    ("noise", "known"),
    [
        ({}, True),
        ({"baseline": [0.3, 0.0, 0.301, 0.002, 0.3, 0.299]}, False),  # two modes
        ({"other": [0.3, 0.0, 0.301, 0.002, 0.3, 0.299]}, False),
        ({"baseline": [0.1, -0.08, 0.03, -0.12, 0.06, 0.0]}, False),  # louder than the others
        ({"other": [0.1, -0.08, 0.03, -0.12, 0.06, 0.0]}, False),
        ({"elsewhere": [0.3, 0.0, 0.301, 0.002, 0.3, 0.299]}, True),  # of another shape
    ],
)
def test_one_pair_has_an_interval_only_where_all_arms_are_of_one_kind(
    noise: dict[str, list[float]], known: bool
) -> None:
    luck = np.array([0.1, -0.05, 0.02, 0.07, -0.1, 0.0])
    names = ["baseline", "other", "a", "b", "c", "d"]
    samples = {name: arm((4 + luck + row).tolist()) for name, row in zip(names, EVEN, strict=True)}
    for name, own in noise.items():
        samples[name] = arm((4 + luck + np.array(own)).tolist(), shape="b" if name == "elsewhere" else "a")
    samples["advice"] = arm([None, 3.2])
    single = contrast_of(ADVICE, samples)
    assert single.n == 1
    assert (single.low is not None, single.p is not None) == (known, known)
    samples["advice"] = arm([None, 3.2, 3.25])
    assert contrast_of(ADVICE, samples).low is not None


TABLE = st.lists(
    st.lists(st.none() | st.floats(3, 5).map(lambda loss: round(loss, 3)), min_size=4, max_size=4),
    min_size=3,
    max_size=7,
)


@settings(max_examples=60, deadline=None)
@given(TABLE, st.floats(-1, 1), st.lists(st.floats(-1, 1), min_size=4, max_size=4), st.randoms())
def test_luck_that_all_arms_share_changes_nothing(table: Any, shift: float, luck: list[float], random: Any) -> None:
    names = ["baseline", "best", *map(str, range(len(table) - 2))]
    samples = {name: arm(row) for name, row in zip(names, table, strict=True)}
    moved = {
        name: Sample(losses={seed: loss + shift + luck[seed] for seed, loss in sample.losses.items()}, shape="a")
        for name, sample in samples.items()
    }
    items = list(moved.items())
    random.shuffle(items)
    before, after = contrast(GAIN, samples, threshold=0.02), contrast(GAIN, dict(items), threshold=0.02)
    assert (before is None) == (after is None)
    if before is None or after is None:
        return
    assert before.method == after.method
    for field in ("mean", "se", "degrees", "low", "high", "lower", "upper", "p"):
        was, now = getattr(before, field), getattr(after, field)
        assert (was is None) == (now is None), field
        assert was is None or was == pytest.approx(now, rel=1e-4, abs=1e-7), field


@settings(max_examples=60, deadline=None)
@given(TABLE, st.floats(-0.1, 0.1))
def test_the_other_way_round_is_the_mirror_image(table: Any, threshold: float) -> None:
    names = ["baseline", "best", *map(str, range(len(table) - 2))]
    samples = {name: arm(row, shape="ab"[i % 2]) for i, (name, row) in enumerate(zip(names, table, strict=True))}
    gain = contrast(GAIN, samples, threshold=threshold)
    loss = contrast({"baseline": -1, "best": 1}, samples, threshold=-threshold)
    if gain is None or loss is None:
        assert gain is loss is None
        return
    assert gain.mean == -loss.mean
    assert (gain.low, gain.lower) == tuple(
        None if end is None else pytest.approx(-end) for end in (loss.high, loss.upper)
    )
    if gain.low is not None and gain.high is not None and gain.lower is not None and gain.upper is not None:
        assert gain.low <= gain.lower <= gain.mean + 1e-12 <= gain.upper + 2e-12 <= gain.high + 3e-12
    if gain.p is not None and loss.p is not None and not gain.bimodal and gain.se:
        assert gain.p + loss.p == pytest.approx(1)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("even", [True, False])
def test_intervals_hold_the_truth(n: int, even: bool) -> None:
    """About 95 % of 500 studies with 12 arms, whose noise is equal (`even`) or not."""
    rng = np.random.default_rng([n, even])
    held = []
    for _ in range(500):
        sd = np.full((12, 1), 0.03) if even else np.exp(rng.uniform(math.log(0.004), math.log(0.05), (12, 1)))
        losses = rng.normal(0, 0.06, n) + rng.normal(size=(12, n)) * sd
        samples = {str(i): arm(row.tolist()) for i, row in enumerate(losses)}
        effect = contrast_of({"0": 1, "1": -1}, samples)
        if effect.low is not None and effect.high is not None:
            held.append(effect.low <= 0 <= effect.high)
    assert 0.925 < np.mean(held) < 0.98


@pytest.mark.parametrize("gains", [[0.41, 0.2, 0.02, 0.33, 0.11], [0.5, 0.49, 0.51, 0.5, 0.01, 0.02, 0.0]])
def test_several_looks_multiply_p_and_widen_the_bounds_but_not_the_interval(gains: list[float]) -> None:
    samples = {"baseline": arm([4.0] * len(gains)), "best": arm([4 - gain for gain in gains])}
    once, often = contrast_of(GAIN, samples), contrast(GAIN, samples, looks=2.5)
    assert often is not None
    assert (often.mean, often.low, often.high, often.method) == (once.mean, once.low, once.high, once.method)
    assert once.p is not None
    assert often.p == pytest.approx(2.5 * once.p)
    harm_once, harm_often = p_of_harm(once, 1.0), p_of_harm(often, 1.0)
    assert harm_once is not None
    assert harm_often == pytest.approx(min(1.0, 2.5 * harm_once))
    for threshold in np.linspace(-0.2, 0.6, 41):  # the bound is where the test turns
        tested = contrast(GAIN, samples, threshold=threshold, looks=2.5)
        assert tested is not None
        assert often.lower is not None
        if abs(threshold - often.lower) > 1e-3:
            assert shown(tested) == (threshold < often.lower)
