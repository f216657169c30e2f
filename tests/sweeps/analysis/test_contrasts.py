"""Contrasts of arms: textbook tests where they apply, exchanges that must not matter, and coverage by simulation."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sweeps.analysis.contrasts import Contrast, Sample, contrast, two_modes
from sweeps.analysis.residuals import residual
from sweeps.analysis.significance import harmful, harmful_among, holm, negligible, p_of_harm, seeds_to_decide, shown

GAIN = {"baseline": 1.0, "best": -1.0}
BASELINE, BEST = [4.11, 4.02, 4.2, 4.06, 4.13], [4.05, 3.99, 4.1, 4.045, 4.01]


def arm(losses: Sequence[float | None], *, shape: str = "a") -> Sample:
    """One loss a seed, from seed 0 on; None: no run."""
    return Sample(losses={seed: loss for seed, loss in enumerate(losses) if loss is not None}, shape=shape)


def made(weights: dict[str, float], samples: dict[str, Sample], *, threshold: float = 0.0) -> Contrast:
    found = contrast(weights, samples, threshold=threshold)
    assert found is not None
    return found


def by_hand(**changes: Any) -> Contrast:
    given: dict[str, Any] = {
        "differences": {0: 0.1, 1: 0.1},
        "mean": 0.1,
        "se": 0.02,
        "degrees": 4.0,
        "low": 0.04,
        "high": 0.16,
        "lower": 0.06,
        "upper": 0.14,
        "threshold": 0.02,
        "p": 0.01,
        "method": "layout",
    }
    return Contrast(**{**given, **changes})


def test_two_arms_alone_are_a_paired_t_test() -> None:
    found = made(GAIN, {"baseline": arm(BASELINE), "best": arm(BEST)}, threshold=0.02)
    differences = np.array(BASELINE) - BEST
    test = stats.ttest_1samp(differences, 0.02, alternative="greater")
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert found.method == "paired"
    assert list(found.differences.values()) == pytest.approx(differences)
    assert (found.p, found.degrees) == (pytest.approx(test.pvalue), 4)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.lower == pytest.approx(
        stats.ttest_1samp(differences, 0, alternative="greater").confidence_interval().low
    )
    assert found.upper == pytest.approx(
        stats.ttest_1samp(differences, 0, alternative="less").confidence_interval().high
    )
    assert (found.n, found.share) == (5, 0.8)


def test_arms_that_start_from_other_weights_are_welchs_test_on_all_seeds() -> None:
    found = made(GAIN, {"baseline": arm([*BASELINE, 4.3, 4.17]), "best": arm([None, *BEST], shape="b")}, threshold=0.02)
    welch = stats.ttest_ind(np.array([*BASELINE, 4.3, 4.17]) - 0.02, BEST, equal_var=False, alternative="greater")
    interval = stats.ttest_ind([*BASELINE, 4.3, 4.17], BEST, equal_var=False).confidence_interval(0.95)
    assert found.method == "unpaired"
    assert list(found.differences) == [1, 2, 3, 4, 5]
    assert found.mean == pytest.approx(np.mean([*BASELINE, 4.3, 4.17]) - np.mean(BEST))
    assert (found.p, found.degrees) == (pytest.approx(welch.pvalue), pytest.approx(welch.df))
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


LUCK = np.array([0.1, -0.05, 0.02])
EQUAL = {
    # residuals about arm + seed effects whose three pairs of arms differ by the same variance
    name: arm((4 + i + LUCK + 0.01 * np.roll([1, 0, -1], i)).tolist())
    for i, name in enumerate("xyz")
}


def residual_variance(table: np.ndarray) -> float:
    """Of a complete two-way layout."""
    left = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    return float((left**2).sum() / (len(table) - 1) / (table.shape[1] - 1))


@pytest.mark.parametrize("shape", ["a", "b"])
def test_of_a_contrast_that_is_not_to_be_pooled_other_arms_tell_nothing(shape: str) -> None:
    gaps = np.array([0.05, 0.06, 0.046])
    pair = {"baseline": arm((5 + LUCK).tolist()), "best": arm((5 + LUCK - gaps).tolist(), shape=shape)}
    assert contrast(GAIN, {**pair, **EQUAL}, pooled=False) == contrast(GAIN, pair)
    assert made(GAIN, {**pair, **EQUAL}).method == ("layout" if shape == "a" else "unpaired")


def test_other_arms_that_agree_share_their_variance() -> None:
    """With a table of all arms' losses of equally noisy arms, the variance is that of the two-way layout."""
    gaps = np.array([0.05, 0.06, 0.046])
    pair = {"baseline": arm((5 + LUCK).tolist()), "best": arm((5 + LUCK - gaps).tolist())}
    found = made(GAIN, {**pair, **EQUAL}, threshold=0.02)
    others = residual_variance(np.array([list(sample.losses.values()) for sample in EQUAL.values()]))
    variance = (2 * gaps.var(ddof=1) + 4 * 2 * others) / 6
    test = stats.t(6, loc=gaps.mean(), scale=math.sqrt(variance / 3))
    assert (found.method, found.degrees) == ("layout", pytest.approx(6))
    assert (found.low, found.high) == (pytest.approx(test.ppf(0.025)), pytest.approx(test.ppf(0.975)))
    assert found.p == pytest.approx(stats.t.sf((gaps.mean() - 0.02) / math.sqrt(variance / 3), 6))
    single = {name: dataclasses.replace(each, losses={1: each.losses[1]}) for name, each in pair.items()}
    alone = made(GAIN, {**single, **EQUAL})
    assert (alone.n, alone.degrees, alone.se) == (1, pytest.approx(4), pytest.approx(math.sqrt(2 * others)))


def test_other_arms_count_less_the_more_they_differ_and_nothing_where_the_contrast_is_louder() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.02, (8, 4))
    pair = {"baseline": arm([4.0, 4.1, 4.05, 4.2]), "best": arm([3.93, 4.0, 3.94, 4.1])}
    alike = {str(i): arm(row.tolist()) for i, row in enumerate(noise)}
    apart = {str(i): arm(row.tolist()) for i, row in enumerate(noise * np.logspace(-1, 0.5, 8)[:, None])}
    much, little = made(GAIN, pair | alike), made(GAIN, pair | apart)
    assert much.method == little.method == "layout"
    assert much.degrees is not None
    assert little.degrees is not None
    assert 3 < little.degrees < 8 < 10 < much.degrees <= 3 + 21
    loud = {**pair, "best": arm([3.5, 4.0, 3.9, 4.1])}
    assert made(GAIN, loud | alike) == made(GAIN, loud)
    assert made(GAIN, loud).method == "paired"


CALM = [0.05, 0.0503, 0.0498, 0.0501, 0.0496]


@pytest.mark.parametrize(
    ("gaps", "weights", "pooled"),
    [
        ([0.05, 0.07, 0.02, 0.06], GAIN, True),
        (CALM, GAIN, False),
        (CALM[:4], GAIN, True),  # four seeds may agree by chance
        # sums of noise 1.37 times the others' in variance, and 12 degrees: too noisy only if the weights are forgotten
        ([0.0, 0.082, 0.05, 0.02, 0.04], {"baseline": 10.0, "best": -10.0}, True),
    ],
)
def test_other_arms_do_not_speak_of_a_contrast_that_is_calmer(
    gaps: list[float], weights: dict[str, float], pooled: bool
) -> None:
    noise = np.random.default_rng(5).normal(0, 0.02, (7, len(gaps)))
    others = {str(i): arm(row.tolist()) for i, row in enumerate(noise)}
    found = made(weights, {"baseline": arm([4 + gap for gap in gaps]), "best": arm([4.0] * len(gaps)), **others})
    assert found.method == ("layout" if pooled else "paired")


def test_other_arms_of_another_start_say_nothing() -> None:
    elsewhere = {name: dataclasses.replace(each, shape="b") for name, each in EQUAL.items()}
    pair = {"baseline": arm(BASELINE[:3]), "best": arm(BEST[:3])}
    assert made(GAIN, pair | elsewhere) == made(GAIN, pair)


def test_arms_that_never_share_two_seeds_say_nothing_of_each_other() -> None:
    """A ring: three runs on three seeds, each seed twice, leave a degree of freedom but no difference twice."""
    ring = {"x": arm([4.0, 4.1, None]), "y": arm([None, 4.3, 4.2]), "z": arm([4.05, None, 4.0])}
    pair = {"baseline": arm(BASELINE[:3]), "best": arm(BEST[:3])}
    assert made(GAIN, pair | ring) == made(GAIN, pair)


def test_a_table_with_holes_is_least_squares() -> None:
    """Against the design matrix of arms and seeds, at a single seed where the variance is the others' alone."""
    table = [[4.0, 4.1, None, 4.3], [3.9, None, 4.15, 4.18], [None, 4.03, 4.1, 4.22]]
    rows = [(i, j, y) for i, row in enumerate(table) for j, y in enumerate(row) if y is not None]
    design = np.zeros((len(rows), 7))
    for row, (i, j, _) in zip(design, rows, strict=True):
        row[i] = row[3 + j] = 1
    values = np.array([y for *_, y in rows])
    left = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    degrees = len(rows) - np.linalg.matrix_rank(design)
    samples = {str(i): arm(row) for i, row in enumerate(table)} | {"baseline": arm([4.0]), "best": arm([3.9])}
    found = made(GAIN, samples)
    assert found.se == pytest.approx(math.sqrt(2 * left @ left / degrees))
    assert found.degrees is not None
    assert 0 < found.degrees <= degrees


def test_agreement_is_that_of_all_pairs() -> None:
    """Each pair's variance by itself, weighed by its degrees, against what equal noise would give."""
    rng = np.random.default_rng(8)
    table = [{seed: 4 + rng.normal(0, 0.03) for seed in range(6) if rng.random() < 0.8} for _ in range(7)]
    found = residual(table)
    assert found is not None
    fourth = expected = 0.0
    for one, other in itertools.combinations(table, 2):
        gaps = [one[seed] - other[seed] for seed in one.keys() & other.keys()]
        if len(gaps) > 1:
            degrees = len(gaps) - 1
            fourth += degrees * (np.var(gaps, ddof=1) / 2) ** 2
            expected += degrees * (1 + 2 / degrees)
    assert found.spread == pytest.approx(fourth / expected / (found.variance**2 / (1 + 2 / found.degrees)) - 1)


def test_luck_that_does_not_cancel_is_the_arms_own() -> None:
    """Two of the three arms start from the same weights, but their weights don't sum to 0."""
    samples = {
        "reset": arm([4.0, 4.05, 4.02]),
        "baseline": arm([4.5, 4.52, 4.55]),
        "best": arm([3.8, 3.65, 3.95], shape="wide"),
        **{str(i): arm(row.tolist()) for i, row in enumerate(np.random.default_rng(0).normal(4, 0.03, (9, 3)))},
    }
    found = made({"reset": 1, "baseline": -0.5, "best": -0.5}, samples)
    assert made({"reset": 1, "baseline": -0.5}, samples).method == "paired"
    one = np.array([4.0, 4.05, 4.02]) - np.array([4.5, 4.52, 4.55]) / 2
    welch = stats.ttest_ind(one, np.array([3.8, 3.65, 3.95]) / 2, equal_var=False).confidence_interval()
    assert found.method == "unpaired"
    assert (found.low, found.high) == (pytest.approx(welch.low), pytest.approx(welch.high))


def test_one_sample_less_a_share_of_another() -> None:
    found = arm([4.0, 4.1, None, 4.3]).less(0.5, arm([3.0, None, 3.0, 3.2], shape="b"))
    assert (dict(found.losses), found.shape) == ({0: 2.5, 3: pytest.approx(2.7)}, "a")


def test_what_cannot_be_known() -> None:
    assert contrast(GAIN, {"baseline": arm([4.0]), "best": arm([None, 3.9])}) is None
    single = made(GAIN, {"baseline": arm([4.0]), "best": arm([3.9])})
    assert (single.n, single.mean) == (1, pytest.approx(0.1))
    assert {single.se, single.degrees, single.low, single.high, single.lower, single.upper, single.p} == {None}
    wide = made(GAIN, {"baseline": arm([4.0, 4.1]), "best": arm([3.9], shape="b")})
    assert wide.se is None
    assert not shown(single)
    assert not harmful(single, 0.02)
    assert not negligible(single, 0.02)
    assert seeds_to_decide(single, min_effect=0.02) is None


def test_runs_that_agree_to_the_last_digit() -> None:
    same = made(GAIN, {"baseline": arm([4.0, 4.1]), "best": arm([4.0, 4.1])}, threshold=0.02)
    assert (same.low, same.high, same.p) == (0, 0, 1)
    assert negligible(same, 0.02)
    noisy = {str(i): arm(row.tolist()) for i, row in enumerate(np.random.default_rng(0).normal(4, 0.03, (9, 2)))}
    assert made(GAIN, {"baseline": arm([4.0, 4.1]), "best": arm([4.0, 4.1]), **noisy}, threshold=0.02) == same
    assert made(GAIN, {"baseline": arm([4.0]), "best": arm([4.0])}).p is None
    better = made(GAIN, {"baseline": arm([4.0, 4.1]), "best": arm([3.5, 3.6])}, threshold=0.02)
    assert (better.se, better.p, better.lower) == (0, 0, pytest.approx(0.5))
    assert (p_of_harm(better, 0.02), p_of_harm(same, 0.02)) == (1, 1)
    assert (
        p_of_harm(made({"baseline": -1, "best": 1}, {"baseline": arm([4.0, 4.1]), "best": arm([3.5, 3.6])}), 0.02) == 0
    )
    flat = {str(i): arm([4.0, 4.0, 4.0]) for i in range(4)}
    assert made(GAIN, {**flat, "baseline": arm([4.0, 4.1]), "best": arm([3.9, 3.95])}).method == "paired"


BIMODAL = [0.41, 0.4, 0.02, 0.43, 0.01, 0.39, 0.42]


def by_sign(gains: Sequence[float], threshold: float) -> Contrast:
    return made(
        GAIN, {"baseline": arm([4 + each for each in gains]), "best": arm([4.0] * len(gains))}, threshold=threshold
    )


@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.2, 0.5])
def test_two_modes_are_tested_by_flipping_signs(threshold: float) -> None:
    found = by_sign(BIMODAL, threshold)
    test = stats.permutation_test(
        (np.array(BIMODAL) - threshold,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert (found.method, found.p) == ("permutation", pytest.approx(test.pvalue))


def test_two_modes_of_one_arm_do_not_hide_in_the_others_luck() -> None:
    luck = [4.1, 4.3, 4.0, 4.22, 4.17, 4.05, 4.35]
    samples = {"baseline": arm(luck), "best": arm([3.5 + each for each in BIMODAL], shape="b")}
    found = made(GAIN, samples)
    assert not two_modes(list(found.differences.values()))
    assert found.method == "permutation"


@pytest.mark.parametrize(("bound", "tail"), [("lower", 0.05), ("low", 0.025)])
def test_bounds_of_two_modes_are_where_the_test_turns(bound: str, tail: float) -> None:
    edge = getattr(by_sign(BIMODAL, 0.0), bound)
    below, above = by_sign(BIMODAL, edge - 1e-6).p, by_sign(BIMODAL, edge + 1e-6).p
    assert below is not None
    assert above is not None
    assert below <= tail < above
    mirrored = by_sign([-each for each in BIMODAL], 0.0)
    assert {"lower": mirrored.upper, "low": mirrored.high}[bound] == pytest.approx(-edge)


@pytest.mark.parametrize(("n", "sided"), [(3, 0), (4, 0), (5, 1), (6, 2), (7, 2)])
def test_few_seeds_of_two_modes_bound_nothing(n: int, sided: int) -> None:
    found = by_sign([0.4 + 0.0001 * i for i in range(n - 1)] + [0.9], 0.0)
    assert found.method == "permutation"
    assert found.p == 2**-n
    assert (found.lower is not None, found.low is not None) == (sided > 0, sided > 1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], False),
        ([1.0], False),
        ([0.0, 1.0], False),
        ([0.0, 0.01, 1.0], True),
        ([0.0, 0.1, 1.0], False),
        ([0.0, 0.02, 0.98, 1.0], True),
        ([0.0, 0.3, 0.7, 1.0], False),
        ([0.0, 0.05, 0.1, 0.9, 1.0], True),
        ([0.0, 0.2, 0.5, 0.8, 1.0], False),
        ([2.0, 2.0, 2.0, 2.0], False),
        ([0.0] * 10 + [1.0] * 10, False),  # that many have a mean that is normal enough
    ],
)
def test_two_modes(values: list[float], said: bool) -> None:
    assert two_modes(values) is said
    assert two_modes([7 - 3 * each for each in reversed(values)]) is said


@pytest.mark.parametrize("n", range(3, 15))
def test_one_in_twenty_normal_samples_seems_to_have_two_modes(n: int) -> None:
    draws = np.random.default_rng(n).normal(size=(4000, n)).tolist()
    assert sum(map(two_modes, draws)) / 4000 == pytest.approx(0.05, abs=0.0125)


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
        name: Sample(losses={seed: loss + shift + luck[seed] for seed, loss in each.losses.items()}, shape="a")
        for name, each in samples.items()
    }
    items = list(moved.items())
    random.shuffle(items)
    one, other = contrast(GAIN, samples, threshold=0.02), contrast(GAIN, dict(items), threshold=0.02)
    assert (one is None) == (other is None)
    if one is None or other is None:
        return
    assert one.method == other.method
    for field in ("mean", "se", "degrees", "low", "high", "lower", "upper", "p"):
        mine, yours = getattr(one, field), getattr(other, field)
        assert (mine is None) == (yours is None), field
        assert mine is None or mine == pytest.approx(yours, rel=1e-4, abs=1e-7), field


@settings(max_examples=60, deadline=None)
@given(TABLE, st.floats(-0.1, 0.1))
def test_the_other_way_round_is_the_mirror_image(table: Any, threshold: float) -> None:
    names = ["baseline", "best", *map(str, range(len(table) - 2))]
    samples = {name: arm(row, shape="ab"[i % 2]) for i, (name, row) in enumerate(zip(names, table, strict=True))}
    one, other = contrast(GAIN, samples), contrast({"baseline": -1, "best": 1}, samples)
    if one is None or other is None:
        assert one is other is None
        return
    assert one.mean == -other.mean
    assert (one.low, one.lower) == tuple(
        None if each is None else pytest.approx(-each) for each in (other.high, other.upper)
    )
    if one.low is not None and one.high is not None and one.lower is not None and one.upper is not None:
        assert one.low <= one.lower <= one.mean + 1e-12 <= one.upper + 2e-12 <= one.high + 3e-12
    if one.p is not None and other.p is not None and one.method != "permutation" and one.se:
        assert one.p + other.p == pytest.approx(1)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("even", [True, False])
def test_intervals_hold_the_truth(n: int, even: bool) -> None:
    """95 % of those of 500 studies with 12 arms, of one noise or each of its own."""
    rng = np.random.default_rng([n, even])
    held = []
    for _ in range(500):
        sd = np.full((12, 1), 0.03) if even else np.exp(rng.uniform(math.log(0.004), math.log(0.05), (12, 1)))
        losses = rng.normal(0, 0.06, n) + rng.normal(size=(12, n)) * sd
        samples = {str(i): arm(row.tolist()) for i, row in enumerate(losses)}
        found = made({"0": 1, "1": -1}, samples)
        if found.low is not None and found.high is not None:
            held.append(found.low <= 0 <= found.high)
    assert 0.925 < np.mean(held) < 0.98


def closed_testing(p: Sequence[float | None]) -> list[float | None]:
    """Holm by its definition: a hypothesis is rejected if Bonferroni rejects all intersections that it is part of."""
    known = [1.0 if each is None else each for each in p]
    found: list[float | None] = []
    for i, each in enumerate(p):
        sets = (s for size in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), size) if i in s)
        found.append(None if each is None else max(min(1, len(s) * min(known[j] for j in s)) for s in sets))
    return found


@given(st.lists(st.none() | st.floats(0, 1), max_size=6))
def test_holm_is_closed_testing_and_what_is_missing_is_of_the_family(p: list[float | None]) -> None:
    found = holm(p)
    assert [each is None for each in found] == [each is None for each in p]
    assert [each for each in found if each is not None] == pytest.approx(
        [each for each in closed_testing(p) if each is not None]
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
    each = by_hand(**changes)
    said = {"shown": shown(each), "negligible": negligible(each, 0.02), "harmful": harmful(each, 0.02)}
    assert {word for word, holds in said.items() if holds} == words


@pytest.mark.parametrize("min_effect", [0.0, 0.02, 0.5])
def test_p_of_harm_is_that_of_a_mean_above(min_effect: float) -> None:
    gains = -np.array([0.41, 0.2, 0.02, 0.33, 0.11])
    one = by_sign(gains.tolist(), 0.02)
    assert p_of_harm(one, min_effect) == pytest.approx(stats.ttest_1samp(gains, -min_effect, alternative="less").pvalue)
    modes = by_sign([-each for each in BIMODAL], 0.02)
    assert modes.method == "permutation"
    assert p_of_harm(modes, min_effect) == by_sign(BIMODAL, min_effect).p
    for each in (one, modes):
        p = p_of_harm(each, min_effect)
        assert p is not None
        assert harmful(each, min_effect) == (p <= 0.05)
    assert p_of_harm(made(GAIN, {"baseline": arm([4.0]), "best": arm([3.9])}), min_effect) is None
    assert p_of_harm(made(GAIN, {"baseline": arm([4.0, 4.1]), "best": arm([4.0, 4.1])}), min_effect) == 1


def test_harm_among_several_is_holms() -> None:
    calm, worse = ([-0.05, -0.03, -0.06, -0.049], [-0.3, -0.31, -0.29, -0.33])
    each: list[Contrast | None] = [by_sign(gains, 0.02) for gains in (calm, worse)]
    assert harmful_among(each, 0.02) == [True, True]
    assert harmful_among([*each, None], 0.02) == [True, True, False]
    assert harmful_among([*each, *[None] * 19], 0.02) == [False, True, *[False] * 19]
    assert harmful_among([None], 0.02) == [False]


def decided(mean: float, se: float, degrees: float) -> bool:
    t = stats.t(degrees, loc=mean, scale=se)
    return t.ppf(0.05) >= 0.02 or (t.ppf(0.025) > -0.02 and t.ppf(0.975) < 0.02) or t.ppf(0.95) < -0.02


@pytest.mark.parametrize("mean", [0.05, 0.021, 0.0, -0.01, -0.05, -0.3])
@pytest.mark.parametrize("degrees", [2.0, 14.0])
def test_seeds_to_decide_is_the_first_number_that_would(mean: float, degrees: float) -> None:
    p = float(stats.t.sf((mean - 0.02) / 0.04, degrees))
    each = by_hand(mean=mean, se=0.04, degrees=degrees, p=p, differences={0: mean, 1: mean, 2: mean})
    found = seeds_to_decide(each, min_effect=0.02)
    first = (n - 3 for n in range(4, 68) if decided(mean, 0.04 * math.sqrt(3 / n), degrees * (n - 1) / 2))
    assert found == next(first, None)
    assert (found is None) == (mean in (0.021, -0.01))
    family = seeds_to_decide(dataclasses.replace(each, p=min(1.0, 6 * p)), min_effect=0.02)
    assert (family or 65) >= (found or 65)
    if mean == 0.05:
        assert (family or 65) > (found or 65)


def test_two_modes_need_seeds_enough_for_the_test() -> None:
    found = by_sign([0.4, 0.4001, 0.9], 0.02)
    assert seeds_to_decide(found, min_effect=0.02) == 3


@pytest.mark.parametrize("gains", [[0.41, 0.2, 0.02, 0.33, 0.11], [0.5, 0.49, 0.51, 0.5, 0.01, 0.02, 0.0]])
def test_several_looks_multiply_p_and_widen_the_bounds_but_not_the_interval(gains: list[float]) -> None:
    samples = {"baseline": arm([4.0] * len(gains)), "best": arm([4 - each for each in gains])}
    one, more = made(GAIN, samples), contrast(GAIN, samples, looks=2.5)
    assert more is not None
    assert (more.mean, more.low, more.high, more.method) == (one.mean, one.low, one.high, one.method)
    assert one.p is not None
    assert more.p == pytest.approx(2.5 * one.p)
    harm, harm_of_more = p_of_harm(one, 1.0), p_of_harm(more, 1.0)
    assert harm is not None
    assert harm_of_more == pytest.approx(min(1.0, 2.5 * harm))
    for threshold in np.linspace(-0.2, 0.6, 41):  # the bound is where the test turns
        tested = contrast(GAIN, samples, threshold=threshold, looks=2.5)
        assert tested is not None
        assert more.lower is not None
        if abs(threshold - more.lower) > 1e-3:
            assert shown(tested) == (threshold < more.lower)
