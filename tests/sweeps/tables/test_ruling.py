"""The ruling on a table: textbook tests on the same numbers, devices, luck, and our own confirm phase as a table."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from sweeps.analysis.arms import BASELINE, Arm
from sweeps.analysis.attribution import CandidateWord, KnobWord
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.judge import judge
from sweeps.analysis.significance import P_MULTIPLIER
from sweeps.tables import words
from sweeps.tables.rows import Table
from sweeps.tables.ruling import Ruling, expected_maximum, rule
from sweeps.tables.runs import runs_of
from tests.helpers import confirming


def ruling(losses: dict[str, list[float]], *, min_effect: float = 0.0, **columns: dict[str, list[Any]]) -> Ruling:
    """Judge losses by arm, the seeds in order; `columns` are further ones, by arm."""
    rows = [
        {
            "arm": arm,
            "seed": seed,
            "loss": loss,
            **{name: by_arm[arm][seed] for name, by_arm in columns.items()},
        }
        for arm, values in losses.items()
        for seed, loss in enumerate(values)
    ]
    table = Table(path=Path("runs.csv"), columns=tuple(rows[0]), rows=tuple(rows))
    return rule(runs_of(table), min_effect=min_effect)


BASE = [3.50, 3.52, 3.47, 3.55, 3.51]
WARM = [3.46, 3.47, 3.44, 3.49, 3.45]


@pytest.mark.parametrize("min_effect", [0.0, 0.02])
def test_one_arm_is_scipys_paired_t_test(min_effect: float) -> None:
    (arm,) = ruling({"baseline": BASE, "warm": WARM}, min_effect=min_effect).arms
    differences = np.subtract(BASE, WARM)
    test = stats.ttest_1samp(differences, min_effect, alternative="greater")
    interval = stats.ttest_rel(BASE, WARM).confidence_interval(0.95)
    assert arm.effect is not None
    assert arm.effect.mean == pytest.approx(differences.mean())
    assert (arm.effect.low, arm.effect.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert arm.effect.p == pytest.approx(min(1, P_MULTIPLIER * test.pvalue))
    assert arm.word is CandidateWord.RIGHT


def test_without_seeds_it_is_welchs_test() -> None:
    rows = [{"arm": "baseline", "loss": loss} for loss in BASE] + [{"arm": "warm", "loss": loss} for loss in WARM[:4]]
    table = Table(path=Path("runs.csv"), columns=("arm", "loss"), rows=tuple(rows))
    (arm,) = rule(runs_of(table), min_effect=0.0).arms
    test = stats.ttest_ind(BASE, WARM[:4], equal_var=False, alternative="greater")
    interval = stats.ttest_ind(BASE, WARM[:4], equal_var=False).confidence_interval(0.95)
    assert arm.effect is not None
    assert arm.effect.method == "unpaired"
    assert (arm.effect.low, arm.effect.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert arm.effect.p == pytest.approx(min(1, P_MULTIPLIER * test.pvalue))


def test_p_values_are_corrected_as_by_statsmodels() -> None:
    """Arms of different shapes share no noise, so each p is Welch's own before the correction."""
    rng = np.random.default_rng(3)
    base = rng.normal(3.5, 0.01, 6).tolist()
    losses = {"baseline": base}
    gains = {f"arm{i}": 0.012 * i for i in range(5)}
    losses |= {arm: rng.normal(3.5 - gain, 0.01, 6).tolist() for arm, gain in gains.items()}
    widths = {arm: [64 * (i + 1)] * 6 for i, arm in enumerate(losses)}
    judged = {arm.arm: arm for arm in ruling(losses, n_embd=widths).arms}
    raw = [
        min(1, P_MULTIPLIER * float(stats.ttest_ind(base, losses[arm], equal_var=False, alternative="greater").pvalue))
        for arm in gains
    ]
    corrected = multipletests(raw, method="holm")[1]
    found = [judged[arm].effect for arm in gains]
    assert [effect.p for effect in found if effect is not None] == pytest.approx(corrected.tolist())
    assert len({round(float(p), 6) for p in corrected}) > 2


SAMPLES = st.lists(st.floats(-1, 1, width=32).map(lambda x: 3 + round(x, 4)), min_size=2, max_size=6)
"""losses on a grid, so that none differ by rounding alone"""


def differ(values: Sequence[float]) -> bool:
    return max(values) - min(values) > 1e-3


@settings(max_examples=80, deadline=None)
@given(pairs=st.data(), min_effect=st.sampled_from([0.0, 0.02, 0.5]))
def test_a_paired_arm_is_scipys_test_on_any_losses(pairs: st.DataObject, min_effect: float) -> None:
    base = pairs.draw(SAMPLES)
    arm = pairs.draw(st.lists(st.sampled_from([2.0, 2.5, 3.0, 3.0625, 3.1]), min_size=len(base), max_size=len(base)))
    differences = np.subtract(base, arm)
    assume(differ(differences.tolist()))
    effect = ruling({"baseline": base, "a": arm}, min_effect=min_effect).arms[0].effect
    assert effect is not None
    assume(not effect.bimodal)
    test = stats.ttest_1samp(differences, min_effect, alternative="greater")
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (effect.low, effect.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert effect.p == pytest.approx(min(1, P_MULTIPLIER * test.pvalue), rel=1e-6, abs=1e-12)


@settings(max_examples=15, deadline=None)  # statsmodels collects garbage at every call, for a quarter of a second
@given(losses=st.lists(SAMPLES.filter(differ), min_size=3, max_size=8))
def test_arms_without_seeds_are_welchs_tests_by_statsmodels_holm_on_any_losses(losses: list[list[float]]) -> None:
    arms = {("baseline" if index == 0 else f"arm{index}"): values for index, values in enumerate(losses)}
    rows = [{"arm": arm, "loss": loss} for arm, values in arms.items() for loss in values]
    table = Table(path=Path("runs.csv"), columns=("arm", "loss"), rows=tuple(rows))
    found = {arm.arm: arm.effect for arm in rule(runs_of(table), min_effect=0.0).arms}
    assume(not any(effect is None or effect.bimodal for effect in found.values()))
    tests = [stats.ttest_ind(losses[0], values, equal_var=False, alternative="greater").pvalue for values in losses[1:]]
    corrected = multipletests([min(1, P_MULTIPLIER * p) for p in tests], method="holm")[1]
    for index, (values, p) in enumerate(zip(losses[1:], corrected, strict=True), 1):
        effect = found[f"arm{index}"]
        assert effect is not None
        comparison = CompareMeans(DescrStatsW(losses[0]), DescrStatsW(values))
        low, high = comparison.tconfint_diff(usevar="unequal")
        assert (effect.low, effect.high) == (pytest.approx(low), pytest.approx(high))
        assert effect.p == pytest.approx(p, rel=1e-6, abs=1e-12)


def test_runs_of_a_seed_on_two_kinds_of_device_are_no_pair() -> None:
    same = ruling({"baseline": BASE, "warm": WARM}, device={"baseline": ["A"] * 5, "warm": ["A"] * 5})
    mixed = ruling({"baseline": BASE, "warm": WARM}, device={"baseline": ["A"] * 5, "warm": ["A"] * 4 + ["B"]})
    assert [arm.devices_differ for arm in (same.arms[0], mixed.arms[0])] == [False, True]
    methods = [arm.effect.method for arm in (same.arms[0], mixed.arms[0]) if arm.effect is not None]
    assert methods == ["paired", "unpaired"]
    assert any("kinds of device differ, so unpaired" in line for line in words.lines(mixed))


def test_one_seed_an_arm_is_no_verdict_and_no_ranking() -> None:
    judged = ruling({"baseline": [3.5], "a": [3.1], "b": [3.2]}, seconds={a: [60.0] for a in ("baseline", "a", "b")})
    assert not judged.decides
    assert {arm.word for arm in judged.arms} == {CandidateWord.ONE_RUN}
    assert judged.missing is not None
    assert (judged.missing.runs, judged.missing.seconds, judged.missing.detects) == (6, pytest.approx(360), None)
    assert words.answer(judged) == (
        "No verdict: no change has more than one run. 2 more seeds of every arm are 6 runs, about 6 min, and would "
        "measure the noise, without which no difference can be told from luck."
    )


def test_repeats_of_the_baseline_say_what_more_seeds_would_show() -> None:
    judged = ruling({"baseline": BASE, "a": [3.1]})
    assert judged.missing is not None
    assert judged.missing.runs == 2
    assert judged.missing.detects is not None
    assert 0.05 < judged.missing.detects < 0.3


def test_words_of_arms() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(3.5, 0.03, 8)
    gains = {"good": 0.1, "bad": -0.1, "same": 0.0}
    losses = {arm: (base - gain + rng.normal(0, 0.003, 8)).tolist() for arm, gain in gains.items()}
    judged = ruling({"baseline": base.tolist(), **losses, "nan": [float("nan")] * 8}, min_effect=0.02)
    assert {arm.arm: words.WORDS[arm.word] for arm in judged.arms} == {
        "good": "better",
        "bad": "worse",
        "same": "equal",
        "nan": "worse",
    }
    assert judged.arms[0].arm == "good"
    assert len(list(words.lines(judged))) <= 25


@pytest.mark.parametrize("n", [1, 2, 3, 10, 100])
def test_the_expected_maximum_of_normal_values(n: int) -> None:
    """1/sqrt(pi) of two values, 1.5/sqrt(pi) of three; the rest by drawing them."""
    exact = {1: 0.0, 2: np.pi**-0.5, 3: 1.5 * np.pi**-0.5}
    drawn = np.random.default_rng(n).normal(size=(20_000, n)).max(axis=1).mean()
    assert expected_maximum(n) == pytest.approx(exact.get(n, drawn), abs=1e-9 if n in exact else 0.03)


def test_the_best_single_run_is_lucky() -> None:
    judged = ruling({"baseline": BASE, "warm": WARM})
    assert judged.luck is not None
    assert (judged.luck.arm, judged.luck.seed, judged.luck.loss) == ("warm", 2, 3.44)
    assert judged.luck.others == pytest.approx(statistics.fmean([3.46, 3.47, 3.49, 3.45]))
    sd = np.sqrt((np.var(BASE, ddof=1) + np.var(WARM, ddof=1)) / 2)
    assert judged.luck.expected == pytest.approx(sd * 1.538753, rel=1e-5)  # ten runs; Tippett 1925


@settings(max_examples=30, deadline=None)
@given(shift=st.floats(-2, 2), order=st.permutations(range(3)))
def test_neither_the_level_nor_the_order_of_arms_matters(shift: float, order: list[int]) -> None:
    losses = {"baseline": BASE, "x": WARM, "y": [loss + 0.01 for loss in WARM], "z": BASE[::-1]}
    others = [list(losses)[1 + index] for index in order]
    moved = {arm: [loss + shift for loss in losses[arm]] for arm in ("baseline", *others)}
    before = {arm.arm: arm for arm in ruling(losses).arms}
    after = {arm.arm: arm for arm in ruling(moved).arms}
    for name in before:
        first, second = before[name].effect, after[name].effect
        assert first is not None
        assert second is not None
        assert first.p == pytest.approx(second.p, abs=1e-6)
        assert before[name].word is after[name].word


@pytest.mark.parametrize("surface", sorted(confirming.SURFACES))
def test_our_own_confirm_phase_as_a_table_gets_the_same_words(surface: str) -> None:
    """Every arm of it, with the settings that seeds depend on."""
    results = confirming.known(surface)
    evidence = Evidence(results)
    attribution = judge(evidence)
    assert attribution is not None
    knobs = {knob.knob: Arm(frozenset([knob.knob])) for knob in attribution.knobs}
    arms = {"baseline": BASELINE, "best": evidence.arms.winner, **knobs}
    arms |= {str(index): Arm(candidate=index) for index in range(len(results.study.candidates))}
    rows: list[dict[str, Any]] = []
    for name, arm in arms.items():
        config = evidence.arms.config(arm)
        assert config is not None
        shape = {"n_embd": config.n_embd, "max_iters": config.max_iters}
        rows += [{"arm": name, "seed": seed, "loss": loss, **shape} for seed, loss in evidence.losses(arm).items()]
    table = Table(path=Path("runs.csv"), columns=tuple(rows[0]), rows=tuple(rows))
    judged = {arm.arm: arm.word for arm in rule(runs_of(table), min_effect=results.study.min_effect).arms}
    assert {name: judged[name] for name in judged if name.isdigit()} == {
        str(candidate.candidate): candidate.word for candidate in attribution.candidates
    }
    better = {name for name in knobs if judged.get(name) is CandidateWord.RIGHT}
    assert better == {knob.knob for knob in attribution.knobs if knob.word in (KnobWord.ALONE, KnobWord.GAINS)}
    assert (judged.get("best") is CandidateWord.RIGHT) == attribution.broken


def test_false_claims_and_coverage_on_simulated_tables() -> None:
    """400 tables of a baseline and 3 arms on 5 seeds, of which one is worth 0.03: claims on the others, intervals."""
    rng = np.random.default_rng(11)
    false, covered, intervals, tables = 0, 0, 0, 400
    for _ in range(tables):
        luck = rng.normal(0, 0.03, 5)
        gains = {"baseline": 0.0, "null1": 0.0, "null2": 0.0, "real": 0.03}
        losses = {arm: (3.5 - gain + luck + rng.normal(0, 0.01, 5)).tolist() for arm, gain in gains.items()}
        judged = ruling(losses)
        for arm in judged.arms:
            assert arm.effect is not None
            assert arm.effect.low is not None
            assert arm.effect.high is not None
            covered += arm.effect.low <= gains[arm.arm] <= arm.effect.high
            intervals += 1
        false += any(arm.arm != "real" for arm in judged.shown)
    assert false / tables <= 0.05
    assert 0.92 < covered / intervals < 0.98


def test_the_rule_for_pairs() -> None:
    """Arms that share no seed are compared all the same, unpaired."""
    rows = [
        {"arm": arm, "seed": seed + 10 * (arm == "b"), "loss": 3.0 + seed / 100 - (arm == "b")}
        for arm, seed in itertools.product("ab", range(4))
    ]
    table = Table(path=Path("runs.csv"), columns=("arm", "seed", "loss"), rows=tuple(rows))
    (arm,) = rule(runs_of(table), min_effect=0.0).arms
    assert arm.effect is not None
    assert (arm.effect.method, arm.word) == ("unpaired", CandidateWord.RIGHT)


def test_the_p_of_a_gain_does_not_stand_beside_a_loss() -> None:
    """p 1.000 beside "worse" would read as its contrary."""
    judged = ruling({"baseline": BASE, "up": [x - 0.5 for x in WARM], "down": [x + 0.5 for x in WARM]})
    shown = {line.split()[0]: ", p " in line for line in words.lines(judged) if "paired seeds" in line}
    assert shown == {"up": True, "down": False}
