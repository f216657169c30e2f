"""Sentences of the confirmed verdict: each word where it is due, with its size, interval and seeds."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.analysis.attribution import Attribution, BestWord, CandidateWord, KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.verdict.verdict import Verdict, verdict
from tests.helpers import attributions
from tests.helpers.attributions import CASES, KNOBS, attribution, bimodal, contrast, findings_of, gain, knob


def words(judged: Attribution) -> Verdict:
    return verdict(findings_of(judged))


WHOLE = "by 0.510 nats (95 % interval 0.482 to 0.538, 5 paired seeds)"
"""gain() of 0.51 ± 2.7764 (Student's t, 4 degrees of freedom) * 0.01"""


RATE = "by 0.400 nats (95 % interval 0.372 to 0.428, 5 paired seeds)"
HEADLINES = {
    "broken": f"Learning rate and width each break the plateau alone, learning rate {RATE}. The best config, which "
    f"also changes dropout, lowers the loss {WHOLE}.",
    "jointly": "Learning rate and width break the plateau only jointly: together they lower the loss by 0.480 nats "
    "(95 % interval 0.452 to 0.508, 5 paired seeds).",
    "necessary": "Learning rate is necessary: without it the best config loses 0.400 nats (95 % interval 0.372 to "
    f"0.428, 5 paired seeds). The best config breaks the plateau: it lowers the loss {WHOLE}; no knob is shown to do "
    "it alone.",
    "nobody": f"The best config breaks the plateau: it lowers the loss {WHOLE}; no single knob is shown to do it "
    "alone.",
    "improved": f"Learning rate and width each improve on the baseline alone, learning rate {RATE}. The best config, "
    f"which also changes dropout, lowers the loss {WHOLE}.",
    "one alone": f"Learning rate breaks the plateau alone, {RATE}. The search's best config, which also changes width, "
    "is not shown to be better.",
    # 1.18 ± 4.3027 * 0.03, 0.14 ± 2.7764 * 0.01, 1.31 ± 4.3027 * 0.03
    "gaining": "Learning rate gains 1.180 nats (95 % interval 1.051 to 1.309, 3 paired seeds); whether it lasts isn't "
    "shown yet; without it the best config loses 1.200 nats. Width breaks the plateau alone, by 0.140 nats (95 % "
    "interval 0.112 to 0.168, 5 paired seeds). The best config, which also changes dropout, lowers the loss by 1.310 "
    "nats (95 % interval 1.181 to 1.439, 3 paired seeds).",
    "gaining alone": "Learning rate gains 0.400 nats (95 % interval 0.372 to 0.428, 5 paired seeds); whether it lasts "
    "isn't shown yet. The best config gains +0.002 nats (95 % interval −0.006 to +0.010, 5 paired seeds) on fresh "
    "seeds, which is not shown to exceed 0.02 nats.",
    # 0.46 ± 12.706 * 0.001, 0.68 ± 4.3027 * 0.01
    "perhaps lasting": "Dropout gains 0.460 nats (95 % interval 0.447 to 0.473, 2 paired seeds); whether it lasts "
    "isn't shown yet. The best config gains +0.680 nats (95 % interval +0.637 to +0.723, 3 paired seeds) on fresh "
    "seeds; whether it lasts in longer runs isn't shown yet.",
    "head start": "The best config has only a head start: it gains +0.510 nats (95 % interval +0.482 to +0.538, 5 "
    "paired seeds) on fresh seeds, but this shrinks by half or more in longer runs.",
    "head start?": "The best config gains +0.510 nats (95 % interval +0.482 to +0.538, 5 paired seeds) on fresh seeds; "
    "whether it lasts in longer runs isn't shown yet.",
    "diverged": "No config is shown to be better: 2 runs of the best config on fresh seeds diverged.",
    # 0.002 ± 2.7764 * 0.003
    "nothing": "Nothing in this space is shown to beat the baseline by 0.02 nats: the best config gains +0.002 nats "
    "(95 % interval −0.006 to +0.010, 5 paired seeds) on fresh seeds.",
    # 0.05 ± 4.3027 * 0.02
    "undecided": "Not enough evidence: the best config gains +0.050 nats (95 % interval −0.036 to +0.136, 3 paired "
    "seeds) on fresh seeds, which is not shown to exceed 0.02 nats.",
    "unchanged": "No config is shown to be better: the best of the search is the baseline itself.",
}


GAINS = knob("learning_rate", KnobWord.GAINS, gain(0.4))
GAINING = f"Learning rate gains {RATE[3:]}; whether it lasts isn't shown yet."


@pytest.mark.parametrize("case", CASES)
def test_headline(case: str) -> None:
    assert words(CASES[case]()).headline == HEADLINES[case]


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        (
            {"knobs": KNOBS[:2], "pair": None},
            f"Learning rate and width each break the plateau alone, learning rate {RATE}. The best config, which "
            f"changes nothing else, lowers the loss {WHOLE}.",
        ),
        ({"knobs": KNOBS[:1]}, f"Learning rate breaks the plateau alone: it lowers the loss {WHOLE}."),
        (
            {"knobs": (KNOBS[0], KNOBS[2])},
            f"Learning rate breaks the plateau alone, {RATE}. The best config, which also changes dropout, lowers the "
            f"loss {WHOLE}.",
        ),
        (
            {"word": BestWord.NONE, "decided": False, "effect": gain(0.3, n=1), "candidates": (), "headline": ()},
            "Not enough evidence: the best config has too few runs on fresh seeds.",
        ),
        (
            {"word": BestWord.NONE, "decided": False, "effect": None, "candidates": (), "headline": ()},
            "Not enough evidence: the best config has too few runs on fresh seeds.",
        ),
        (
            {"word": BestWord.NONE, "diverged": 1, "candidates": (), "headline": ()},
            "No config is shown to be better: 1 run of the best config on fresh seeds diverged.",
        ),
        (
            {"word": BestWord.NONE, "diverged": 1, "candidates": (), "knobs": (GAINS,)},
            f"{GAINING} The best config is not shown to be better: 1 run of it on fresh seeds diverged.",
        ),
        (
            {"word": BestWord.NONE, "decided": False, "effect": None, "candidates": (), "knobs": (GAINS,)},
            f"{GAINING} The best config has too few runs on fresh seeds.",
        ),
        (
            {"knobs": (GAINS, KNOBS[2])},
            f"{GAINING} The best config breaks the plateau: it lowers the loss {WHOLE}; no knob is shown to do it "
            "alone.",
        ),
        (
            {"knobs": (GAINS, dataclasses.replace(GAINS, knob="n_embd"), KNOBS[2])},
            f"Learning rate gains {RATE[3:]} and width gains {RATE[3:]}; whether these gains last isn't shown yet. The "
            f"best config breaks the plateau: it lowers the loss {WHOLE}; no knob is shown to do it alone.",
        ),
    ],
)
def test_headline_of_variants(changes: dict[str, object], headline: str) -> None:
    assert words(attribution(**changes)).headline == headline


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
        "learning_rate 0.001 → 0.003: breaks the plateau alone, and is necessary; alone it gains +0.400 nats (95 % "
        "interval +0.372 to +0.428, 5 paired seeds, p < 0.001); without it the best config loses +0.310 nats (95 % "
        "interval +0.282 to +0.338, 5 paired seeds), more than half of the whole gain."
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
        ({"alone": gain(0.1, n=1)}, "alone it gains +0.100 nats (1 paired seed, noise unknown)."),
        (
            {"alone": gain(0.1, n=1, low=0.06, high=0.14)},
            "(95 % interval +0.060 to +0.140, 1 paired seed, noise estimated from the other runs).",
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
            "whether it lasts isn't shown yet; it is necessary; without it the best config loses +0.500 nats (95 % "
            "interval +0.472 to +0.528, 5 paired seeds), more than half of the whole gain.",
        ),
    ],
)
def test_a_knob_that_gains_is_never_without_enough_evidence(changes: dict[str, object], expected: str) -> None:
    one = dataclasses.replace(GAINS, **changes)  # type: ignore[arg-type]  # fields by name
    assert words(attribution(knobs=(one, KNOBS[1]), pair=None)).knobs[0] == (
        "learning_rate 0.001 → 0.003: gains +0.400 nats (95 % interval +0.372 to +0.428, 5 paired seeds, p < 0.001); "
        f"{expected}"
    )


def test_advice_on_one_pair_is_one_run_whatever_its_interval() -> None:
    assert words(attribution(candidates=(attributions.ONE_RUN,))).candidates == (
        "Advice dropout 0.2, weight_decay 0.2: one run; it gains +0.838 nats (95 % interval +0.778 to +0.899, 1 paired "
        "seed, noise estimated from the other runs); a second run would say more.",
    )


@pytest.mark.parametrize(("case", "open_"), [("undecided", True), ("nothing", False), ("diverged", False)])
def test_a_knob_of_a_config_that_is_not_better_is_left_at_that(case: str, open_: bool) -> None:
    assert all(("would decide" in sentence) == open_ for sentence in words(CASES[case]()).knobs)


def test_pair_and_path() -> None:
    *_, pair, path = words(attribution()).knobs
    assert pair == (
        "Learning rate and width together gain +0.500 nats (95 % interval +0.472 to +0.528, 5 paired seeds), less than "
        "the sum of their gains alone: interaction −0.050 nats (95 % interval −0.078 to −0.022, 5 paired seeds)."
    )
    assert path.endswith("(greedy; 2 seeds): learning rate +0.400, then width +0.100, then dropout +0.005.")
    assert ", more than the sum of their gains alone: interaction +0.460" in words(CASES["jointly"]()).knobs[-2]
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
        "Advice dropout 0.2, weight_decay 0.2: wrong; it loses 0.080 nats (95 % interval 0.052 to 0.108, 5 paired "
        "seeds)."
    )
    assert sentences[3].endswith("; about 4 more seeds would decide it.")
    lost = attributions.candidate(0, CandidateWord.WRONG, None, diverged=2)
    assert words(attribution(candidates=(lost,))).candidates == (
        "Advice dropout 0.2, weight_decay 0.2: wrong; it diverged or did not fit in memory with 2 seeds.",
    )
    gains = attributions.candidate(0, CandidateWord.WRONG, gain(0.1), diverged=1)
    assert (
        "; it diverged or did not fit in memory with 1 seed; it gains +0.100 nats"
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
            ": of no use alone; 2 runs with it alone diverged or did not fit in memory; no run with it alone has a "
            "final loss."
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
    (sentence, *_) = words(judged).knobs
    assert ("short trials favour small batches" in sentence) is cautioned


def test_two_knobs_alone_without_the_best() -> None:
    judged = dataclasses.replace(CASES["one alone"](), knobs=KNOBS, headline=("learning_rate", "n_embd"))
    assert words(judged).headline == (
        f"Learning rate and width each break the plateau alone, learning rate {RATE}. The search's best config, which "
        "also changes width and dropout, is not shown to be better."
    )


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
        r"gains ([+-][\d.]+) nats \((?:95 % interval ([+-][\d.]+) to ([+-][\d.]+), )?(\d) paired", sentence
    )
    assert shown is not None
    assert float(shown[1]) == pytest.approx(mean, abs=6e-4)
    assert int(shown[4]) == n
    ends_ = [None if each is None else float(each) for each in shown.groups()[1:3]]
    assert ends_ == [pytest.approx(each, abs=6e-4) if each is not None else None for each in (effect.low, effect.high)]
