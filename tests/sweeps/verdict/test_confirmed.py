"""Sentences of the confirmed verdict: each word where it is due, with its size, interval and seeds."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.analysis.attribution import Attribution, BestWord, CandidateWord, KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.verdict import confirmed
from sweeps.verdict.verdict import Verdict, verdict
from tests.helpers import attributions
from tests.helpers.attributions import CASES, KNOBS, attribution, bimodal, contrast, findings_of, gain, knob


def words(judged: Attribution) -> Verdict:
    return verdict(findings_of(judged))


GAINS = knob("learning_rate", KnobWord.GAINS, gain(0.4))


@pytest.mark.parametrize(
    ("plateaued", "expected"),
    [
        ((0, 4), "The short baseline runs were not on a plateau (0 of 4 ended on one)"),
        ((1, 5), "Most of the short baseline runs were not on a plateau (1 of 5 ended on one)"),
        ((2, 4), "Half of the short baseline runs were not on a plateau (2 of 4 ended on one)"),
    ],
)
def test_an_improvement_says_that_the_baseline_was_on_no_plateau(plateaued: tuple[int, int], expected: str) -> None:
    proof = words(attribution(word=BestWord.IMPROVES, plateaued=plateaued)).proof
    assert proof[0].startswith(f"{expected}, so the word is “improves”")
    assert words(attribution()).proof[0] == "4 of 5 baseline runs ended on a plateau, judged by their own curves."


def test_the_proof_has_one_sided_bounds() -> None:
    # t(0.95, 4) = 2.1318: 0.51 - 0.0213, 0.25 - 0.0213
    _, effect, lasting = words(attribution()).proof
    assert effect.endswith("the one-sided 95 % lower bound is +0.489, above the 0.02 nats set beforehand.")
    assert lasting.startswith("More than a head start: ")
    assert lasting.endswith("; the one-sided 95 % lower bound is +0.229.")
    _, effect, lasting = words(CASES["head start?"]()).proof
    assert lasting.startswith("A head start is not ruled out: ")
    assert words(CASES["head start"]()).proof[2].startswith("A head start: ")
    # 0.05 - t(0.95, 2) * 0.02 = 0.05 - 0.058
    assert "lower bound is −0.008, not above the 0.02 nats set beforehand" in words(CASES["undecided"]()).proof[1]
    missing = words(attribution(word=BestWord.NONE, decided=False, lasting=None)).proof[-1]
    assert missing == "Runs of half the length are missing, so a head start is not ruled out."


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        # scipy.stats.binomtest(3, 5).proportion_ci(0.95, "exact"): 0.147 to 0.947
        (
            bimodal(2, 3),
            "; 3 of 5 seeds broke through (gained more than 0.02 nats; 95 % interval of that share 15 to 95 %)",
        ),
        (
            bimodal(0, 5),
            "; 5 of 5 seeds broke through (gained more than 0.02 nats; 95 % interval of that share 48 to 100 %)",
        ),
        (
            bimodal(4, 1, size=0.09),
            "; 1 of 5 seeds gained more than 0.02 nats (95 % interval of that share 1 to 72 %)",
        ),
        (gain(0.03, se=0.02), "; 3 of 5 seeds broke through (gained more than 0.02 nats)"),
        (gain(0.01, se=0.02), "; 2 of 5 seeds gained more than 0.02 nats"),  # 0.01 + 0.0447 * (0.63, 1.26)
        (gain(0.5, se=0.01), ""),
        (gain(-0.5, se=0.01), ""),
    ],
)
def test_outcomes_that_differ_in_kind_are_counted(effect: Contrast, expected: str) -> None:
    one = knob("learning_rate", KnobWord.UNKNOWN, effect, more_seeds=3)
    sentence = words(attribution(knobs=(one,), pair=None)).knobs[0]
    assert (expected in sentence) if expected else ("seeds broke" not in sentence and "seeds gained" not in sentence)
    told = any("only these seeds tell of their noise" in line for line in words(attribution(effect=effect)).cautions)
    assert told == effect.bimodal
    proof = words(attribution(effect=effect)).proof[1]
    assert proof.endswith(f"{expected}.") if expected else not proof.endswith(").")


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ({"paired"}, ["paired by seed"]),
        ({"layout"}, ["paired by seed", "to estimate their noise"]),
        ({"unpaired"}, ["are unpaired"]),
        ({"paired", "unpaired"}, ["paired by seed", "are unpaired"]),
    ],
)
def test_how_intervals_were_made_is_said_of_those_there_are(methods: set[str], expected: list[str]) -> None:
    made = [gain(0.3, method=method) for method in sorted(methods)]
    knobs = tuple(knob("dropout", KnobWord.ALONE, effect) for effect in made[1:])
    cautions = words(attribution(effect=made[0], lasting=None, candidates=(), knobs=knobs)).cautions
    every = ["paired by seed", "to estimate their noise", "are unpaired"]
    assert [each for each in every if any(each in caution for caution in cautions)] == expected


def test_a_knobs_sentence() -> None:
    first, second, third = words(attribution()).knobs[:3]
    assert first == (
        "learning_rate 0.001 → 0.003: breaks the plateau alone, and is necessary; alone it gains 0.40 nats (95 % "
        "interval 0.37 to 0.43, 5 paired seeds, p < 0.001); without it the best config loses 0.31 nats (95 % "
        "interval 0.28 to 0.34, 5 paired seeds), more than half of the whole gain."
    )
    assert second.startswith("n_embd 384 → 768: breaks the plateau alone; ")
    assert "half of the whole gain" not in second
    assert third.startswith("dropout 0 → 0.05: no effect shown; ")
    assert "p =" not in third
    assert "only jointly with n_embd" in words(CASES["jointly"]()).knobs[0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"alone": None}, "not enough evidence; it was not run alone on a fresh seed."),
        ({"alone": gain(0.1, n=1)}, "alone it gains 0.100 nats (1 paired seed, noise unknown)."),
        (
            {"alone": gain(0.1, n=1, low=0.06, high=0.14)},
            "(95 % interval 0.06 to 0.14, 1 paired seed, noise estimated from the other runs).",
        ),
        ({"alone": gain(0.1, se=0.06, n=3), "more_seeds": 1}, "; about 1 more seed would decide it."),
        (
            {"alone": gain(0.03, se=0.02, n=3), "more_seeds": None},
            "; more than 64 further seeds would be needed to decide it.",
        ),
        (
            {"alone": gain(0.4), "lasting": contrast(-0.05), "more_seeds": 1},
            "; it is a head start: the gain shrinks by half or more in longer runs.",
        ),
        (
            {"alone": gain(0.1, se=0.06, n=3, method="unpaired"), "more_seeds": 4},
            "3 seeds, unpaired, p = 0.157); 2 of 3 seeds broke through (gained more than 0.02 nats); about 4 more "
            "seeds would decide it.",
        ),
    ],
)
def test_what_would_decide_a_knob(changes: dict[str, object], expected: str) -> None:
    one = dataclasses.replace(knob("n_embd", KnobWord.UNKNOWN, None), **changes)
    assert words(attribution(knobs=(KNOBS[0], one), pair=None)).knobs[1].endswith(expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lasting": None}, "whether it lasts isn't shown yet."),
        ({"lasting": contrast(0.1, n=1)}, "whether it lasts isn't shown yet."),
        (
            {"lasting": contrast(0.01), "more_seeds": 4},
            "whether it lasts isn't shown yet; about 4 more seeds would decide it.",
        ),
        (
            {"reset": contrast(0.5), "necessary": True},
            "whether it lasts isn't shown yet; it is necessary; without it the best config loses 0.50 nats (95 % "
            "interval 0.47 to 0.53, 5 paired seeds), more than half of the whole gain.",
        ),
    ],
)
def test_a_knob_that_gains_is_never_without_enough_evidence(changes: dict[str, object], expected: str) -> None:
    one = dataclasses.replace(GAINS, **changes)  # type: ignore[arg-type]  # fields by name
    assert words(attribution(knobs=(one, KNOBS[1]), pair=None)).knobs[0] == (
        "learning_rate 0.001 → 0.003: gains 0.40 nats (95 % interval 0.37 to 0.43, 5 paired seeds, p < 0.001); "
        f"{expected}"
    )


def test_advice_on_one_pair_is_one_run_whatever_its_interval() -> None:
    assert words(attribution(candidates=(attributions.ONE_RUN,))).candidates == (
        "Advice dropout 0.2, weight_decay 0.2: one run; it gains 0.84 nats (95 % interval 0.78 to 0.90, 1 paired "
        "seed, noise estimated from the other runs); a second run would say more.",
    )


@pytest.mark.parametrize(("case", "open_"), [("undecided", True), ("nothing", False), ("diverged", False)])
def test_a_knob_of_a_config_that_is_not_better_is_left_at_that(case: str, open_: bool) -> None:
    assert all(("would decide" in sentence) == open_ for sentence in words(CASES[case]()).knobs)


def test_pair_and_path() -> None:
    *_, pair, path = words(attribution()).knobs
    assert pair == (
        "Learning rate and width together gain 0.50 nats (95 % interval 0.47 to 0.53, 5 paired seeds), less than "
        "the sum of their gains alone: interaction −0.05 nats (95 % interval −0.08 to −0.02, 5 paired seeds)."
    )
    assert path.endswith("(greedy; 2 seeds): learning rate +0.400, then width +0.100, then dropout +0.005.")
    assert ", more than the sum of their gains alone: interaction +0.46" in words(CASES["jointly"]()).knobs[-2]
    none = dataclasses.replace(attributions.PAIR, interaction=contrast(0.01))
    assert "; not shown to be more or less than" in words(attribution(pair=none)).knobs[-2]
    rest = (*attributions.PATH[:2], dataclasses.replace(attributions.PATH[3], knob=None, rest=("n_embd", "dropout")))
    assert words(attribution(path=rest)).knobs[-1].endswith("then width and dropout together +0.005.")


def test_advice() -> None:
    sentences = words(attribution()).candidates
    labels = ["learning_rate 0.002: right;", "dropout 0.2, weight_decay 0.2: wrong;"]
    labels += ["warmup_iters 60: no effect shown;", "beta2 0.99: not enough evidence;"]
    for sentence, label, moved in zip(sentences, labels, ("gains", "loses", "gains", "gains"), strict=True):
        assert sentence.startswith(f"Advice {label} it {moved} ")
    assert sentences[1] == (
        "Advice dropout 0.2, weight_decay 0.2: wrong; it loses 0.08 nats (95 % interval 0.05 to 0.11, 5 paired seeds)."
    )
    assert sentences[3].endswith("; about 4 more seeds would decide it.")
    lost = attributions.candidate(0, CandidateWord.WRONG, None, diverged=2)
    assert words(attribution(candidates=(lost,))).candidates == (
        "Advice dropout 0.2, weight_decay 0.2: wrong; it diverged or did not fit in memory with 2 seeds.",
    )
    gains = attributions.candidate(0, CandidateWord.WRONG, gain(0.1), diverged=1)
    assert (
        "; it diverged or did not fit in memory with 1 seed; it gains 0.10 nats"
        in words(attribution(candidates=(gains,))).candidates[0]
    )
    split = attributions.candidate(
        0, CandidateWord.WRONG, gain(-0.4, differences=dict(enumerate([0.1, 0.1, -0.7, -0.7, -0.8])))
    )
    assert words(attribution(candidates=(split,))).candidates[0].endswith("; 2 of 5 seeds gained more than 0.02 nats.")
    lost_knob = attributions.knob("dropout", KnobWord.HURTS, None, diverged=2)
    assert (
        words(attribution(knobs=(lost_knob,)))
        .knobs[0]
        .endswith(
            ": diverges alone, yet included; 2 runs with it alone diverged or did not fit in memory; no run with "
            "it alone has a final loss."
        )
    )
    bare = attributions.candidate(1, CandidateWord.UNKNOWN, None)
    assert (
        words(attribution(candidates=(bare,)))
        .candidates[0]
        .endswith("not enough evidence; it was not run on a fresh seed.")
    )


@pytest.mark.parametrize(("was", "new", "cautioned"), [(8, 4, True), (8, 16, False)])
def test_a_smaller_batch_comes_with_a_caution(was: int, new: int, cautioned: bool) -> None:
    judged = attribution(knobs=(knob("batch_size", KnobWord.ALONE, gain(0.1), was=was, new=new),))
    sentence = " ".join(confirmed.knobs(judged))
    assert ("short trials favour small batches" in sentence) is cautioned


@settings(max_examples=60, deadline=None)
@given(
    mean=st.floats(-2, 2),
    se=st.floats(1e-3, 1),
    n=st.integers(1, 9),
    word=st.sampled_from(list(KnobWord)),
    more=st.none() | st.integers(1, 64),
)
def test_the_numbers_of_a_knob_are_in_its_sentence(
    mean: float, se: float, n: int, word: KnobWord, more: int | None
) -> None:
    effect = gain(mean, se=se, n=n)
    one = knob("learning_rate", word, effect, partner="n_embd", more_seeds=more)
    sentence = words(attribution(knobs=(one, KNOBS[1]), pair=None)).knobs[0].replace("−", "-")
    shown = re.search(
        r"(gains|loses) ([\d.]+) nats \((?:95 % interval (-?[\d.]+) to (-?[\d.]+), )?(\d) paired", sentence
    )
    assert shown is not None
    sign, digits = (1 if shown[1] == "gains" else -1), len(shown[2].partition(".")[2])
    near = 0.501 * 10**-digits
    assert sign * float(shown[2]) == pytest.approx(mean, abs=near)
    assert int(shown[5]) == n
    ends_ = [None if each is None else sign * float(each) for each in shown.groups()[2:4]]
    wanted = [effect.low, effect.high][::sign]
    assert ends_ == [None if each is None else pytest.approx(each, abs=near) for each in wanted]
