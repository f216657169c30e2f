"""JSON of the verdict: its keys, its numbers, its words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweeps.analysis.attribution import Attribution, CandidateWord, KnobWord
from sweeps.analysis.findings import Findings
from sweeps.verdict.as_json import summarize, verdict_of
from tests.helpers import attributions, synthetic
from tests.helpers.attributions import CASES, attribution, findings_of, gain, knob

HALF = 2.776445 * 0.01
"""half the interval of a mean of 5 with a standard error of 0.01: Student's t with 4 degrees of freedom"""


def json_of(judged: Attribution) -> dict[str, Any]:
    result = verdict_of(findings_of(judged))
    assert result is not None
    return result


def of_case(case: str) -> dict[str, Any]:
    """Return the case's verdict after a round trip through JSON."""
    return json.loads(json.dumps(json_of(CASES[case]()), allow_nan=False))  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_the_same_keys(case: str) -> None:
    result = of_case(case)
    assert set(result) == {
        *("broken", "word", "decided", "why", "headline", "change", "delta", "ci", "seeds", "min_effect"),
        *("knobs", "joint", "candidates"),
    }
    for each in result["knobs"]:
        assert set(each) == {
            *("name", "verdict", "effect", "ci", "p", "n", "from", "to"),
            *("necessary", "reset", "partner", "diverged", "more_seeds"),
            *("protocol", "trend", "times_as_fast", "at_equal_time"),
        }
        assert each["verdict"] in KNOB_WORDS
    for each in result["candidates"]:
        assert set(each) == {"config", "verdict", "effect", "ci", "p", "n", "diverged", "more_seeds"}
        assert each["verdict"] in {"right", "wrong", "no effect shown", "one run", "not enough evidence"}
    assert result["broken"] == (result["word"] in ("breaks", "improves"))
    assert result["min_effect"] == 0.02


def test_the_whole() -> None:
    result = of_case("broken")
    assert result["word"] == "breaks"
    assert result["decided"] is True
    assert result["delta"] == pytest.approx(0.51)
    assert result["ci"] == pytest.approx([0.51 - HALF, 0.51 + HALF], abs=1e-6)
    assert result["seeds"] == [1338, 1339, 1340, 1341, 1342]
    assert of_case("unchanged") | {"why": ""} == {
        "broken": False,
        "word": "none",
        "decided": True,
        "why": "",
        "headline": [],
        "change": [],
        "delta": None,
        "ci": None,
        "seeds": [],
        "min_effect": 0.02,
        "knobs": [],
        "joint": None,
        "candidates": [],
    }


def test_of_one_knob_the_numbers_are_its_own() -> None:
    result = of_case("one alone")
    assert (result["broken"], result["change"], result["delta"]) == (True, ["learning_rate"], pytest.approx(0.4))
    assert [each["name"] for each in result["knobs"]] == ["learning_rate", "n_embd"]


def test_a_knob() -> None:
    rate, width, dropout = of_case("broken")["knobs"]
    assert rate == {
        "name": "learning_rate",
        "verdict": "alone",
        "effect": pytest.approx(0.4),
        "ci": pytest.approx([0.4 - HALF, 0.4 + HALF], abs=1e-6),
        "p": pytest.approx(1.43e-6, rel=0.01),
        "n": 5,
        "from": 1e-3,
        "to": 3e-3,
        "necessary": True,
        "reset": {"effect": pytest.approx(0.31), "ci": pytest.approx([0.31 - HALF, 0.31 + HALF], abs=1e-6)},
        "partner": None,
        "diverged": 0,
        "more_seeds": None,
        "protocol": "squeezed",
        "trend": None,
        "times_as_fast": None,
        "at_equal_time": None,
    }
    assert (width["from"], width["to"], width["necessary"]) == (384, 768, False)
    assert dropout["verdict"] == "no effect shown"


KNOB_WORDS = {"alone", "gains", "necessary", "joint", "hurts", "no effect shown", "not enough evidence"}


@pytest.mark.parametrize(
    ("word", "name"),
    [
        (KnobWord.ALONE, "alone"),
        (KnobWord.GAINS, "gains"),
        (KnobWord.NECESSARY, "necessary"),
        (KnobWord.JOINT, "joint"),
        (KnobWord.HURTS, "hurts"),
        (KnobWord.NO_EFFECT, "no effect shown"),
        (KnobWord.UNKNOWN, "not enough evidence"),
    ],
)
def test_words_of_knobs(word: KnobWord, name: str) -> None:
    result = json_of(attribution(knobs=(knob("dropout", word, None),)))
    assert result["knobs"][0]["verdict"] == name
    assert result["knobs"][0]["effect"] is result["knobs"][0]["ci"] is result["knobs"][0]["reset"] is None
    assert result["knobs"][0]["n"] == 0


def test_every_word_of_a_knob_has_a_name() -> None:
    names = {json_of(attribution(knobs=(knob("dropout", word, None),)))["knobs"][0]["verdict"] for word in KnobWord}
    assert names == KNOB_WORDS


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("broken", ["learning_rate", "n_embd"]),
        ("gaining", ["learning_rate", "n_embd"]),
        ("perhaps lasting", ["dropout"]),
        ("nothing", []),
    ],
)
def test_the_headline_names_the_knobs_that_are_credited(case: str, names: list[str]) -> None:
    result = of_case(case)
    assert result["headline"] == names
    assert [each["name"] for each in result["knobs"]][: len(names)] == names


def test_advice_on_one_pair_is_one_run() -> None:
    (advice,) = json_of(attribution(candidates=(attributions.ONE_RUN,)))["candidates"]
    assert (advice["verdict"], advice["n"], advice["more_seeds"]) == ("one run", 1, None)


def test_a_pair_is_there_where_it_does_what_no_knob_does_alone() -> None:
    assert of_case("broken")["joint"] is None
    joint = of_case("jointly")["joint"]
    assert joint["knobs"] == ["learning_rate", "n_embd"]
    assert joint["effect"] == pytest.approx(0.48)
    assert joint["interaction"]["effect"] == pytest.approx(0.46)
    assert [each["partner"] for each in of_case("jointly")["knobs"]] == ["n_embd", "learning_rate", None]


def test_a_single_seed_has_no_interval() -> None:
    result = json_of(attribution(effect=gain(0.3, n=1)))
    assert (result["delta"], result["ci"]) == (0.3, None)


def test_candidates_have_the_absolute_values_that_they_change_and_the_telling_ones_come_first() -> None:
    result = of_case("broken")["candidates"]
    assert [(each["verdict"], each["config"]) for each in result] == [
        ("right", {"learning_rate": 0.002}),
        ("wrong", {"dropout": 0.2, "weight_decay": 0.2}),
        ("no effect shown", {"warmup_iters": 60}),
        ("not enough evidence", {"beta2": 0.99}),
    ]
    assert result[3]["more_seeds"] == 4
    sizes = [attributions.candidate(index, CandidateWord.WRONG, gain(-0.1 * (index + 1))) for index in range(3)]
    ordered = json_of(attribution(candidates=tuple(sizes)))["candidates"]
    assert [each["effect"] for each in ordered] == pytest.approx([-0.3, -0.2, -0.1])


def test_nothing_is_said_before_anything_is_confirmed() -> None:
    assert verdict_of(Findings(synthetic.results([]))) is None
    assert verdict_of(Findings(synthetic.full())) is None


def test_a_whole_study() -> None:
    results = attributions.swept()
    summary = summarize(Findings(results), store=Path("study.db"), report=Path("report.html"))
    result = summary["verdict"]
    assert result == verdict_of(Findings(results))
    assert [(each["name"], each["verdict"]) for each in result["knobs"]] == [
        ("learning_rate", "alone"),
        ("n_embd", "alone"),
        ("dropout", "no effect shown"),
    ]
    # by the surface: 0.07 * ln(1/3)**2 + 0.08 * ln 2 - 0.9 * 0.05**2
    assert result["delta"] == pytest.approx(0.07 * 1.0986**2 + 0.08 * 0.6931 - 0.9 * 0.0025, abs=0.02)
    low, high = result["ci"]
    assert low < result["delta"] < high
    json.dumps(summary, allow_nan=False)
