"""The answer at a glance: sentence, rows, advice, JSON and the full text never disagree, whatever a study shows."""

from __future__ import annotations

import dataclasses
import functools
import json
import re

import pytest

from sweeps.analysis.attribution import BestWord
from sweeps.analysis.findings import Findings
from sweeps.export.trial import export_run
from sweeps.text import named
from sweeps.verdict.answer import Answer, Row
from sweeps.verdict.as_json import summarize, verdict_of
from sweeps.verdict.glance import answer_of
from sweeps.verdict.screen import last_screen
from sweeps.verdict.verdict import verdict
from tests.helpers import attributions, branches, branching, random_studies, synthetic

STUDIES = {
    **{f"random {number}": functools.partial(random_studies.study, number) for number in range(random_studies.COUNT)},
    "random, few seeds": functools.partial(random_studies.study, 1, seeds=2, runs=14),
    "swept": attributions.swept,
    "screened": synthetic.full,
    "branches": branches.forked,
    "branches, not confirmed": functools.partial(branches.forked, seeds=0),
    "branches, no trials": functools.partial(branches.forked, searched=False),
    "nothing yet": functools.partial(synthetic.results, []),
    "nothing but races": lambda: branching.results(branching.study()),
}
INCLUDED = ("only together with ", "hurts alone, needs others", "best needs it", "yet included")
"""how a knob that hurts alone belongs to the best"""


@functools.cache
def found(study: str) -> Findings:
    return Findings(STUDIES[study]())


@functools.cache
def answered(study: str) -> Answer:
    return answer_of(found(study))


def knobs(answer: Answer) -> list[Row]:
    return [row for row in answer.rows if row.knob is not None and row.protocol != "race"]


def text_of(study: str) -> str:
    return "\n".join(verdict(found(study)).lines)


@pytest.mark.parametrize("study", STUDIES)
def test_a_knob_that_hurts_alone_and_belongs_to_the_config_to_train_says_so(study: str) -> None:
    attribution = found(study).attribution
    for row in knobs(answered(study)) if attribution is not None and attribution.broken else ():
        if row.shown and row.measured == "alone" and (row.effect or 0.0) < 0 and row.knob in attribution.change:
            assert row.does.startswith(INCLUDED) or row.does.endswith(INCLUDED), row
            assert not any(row.knob in advice.text for advice in answered(study).advice if advice.kind == "dont")


@pytest.mark.parametrize("study", STUDIES)
def test_the_sentence_credits_the_knob_that_gains_most_of_what_is_shown(study: str) -> None:
    answer, attribution = answered(study), found(study).attribution
    good = [row for row in knobs(answer) if row.shown and (row.effect or 0.0) > 0 and "together" not in row.does]
    if attribution is None or not good or "only together" in answer.sentence:
        return
    most = max(good, key=lambda row: row.effect or 0.0)
    assert answer.sentence.lower().startswith(named(most.knob or "").lower())
    assert knobs(answer)[0] == most


@pytest.mark.parametrize("study", STUDIES)
def test_where_fewer_changes_gain_more_than_the_best_they_are_the_advice(study: str) -> None:
    attribution = found(study).attribution
    if attribution is None or not attribution.broken or attribution.whole is None:
        return
    if not attribution.fewer:
        both = None if attribution.pair is None or len(attribution.knobs) == 2 else attribution.pair.both
        pair = [both.mean] if both is not None and both.n > 1 and both.p is not None and both.p <= 0.05 else []
        alone = [row.effect or 0.0 for row in knobs(answered(study)) if row.does.endswith("s it alone")]
        assert max((*alone, *pair), default=0.0) <= attribution.whole.mean + 1e-12
        return
    advised = next(advice for advice in answered(study).advice if advice.kind == "do")
    assert attribution.effect is not None
    assert attribution.effect.mean > attribution.whole.mean or attribution.whole_word is BestWord.NONE
    names = "alone" if len(attribution.change) == 1 else "all but| and "
    assert re.search(names, advised.text)
    changed = {name for name in attribution.change if findings_differ(found(study), name)}
    assert changed == set(attribution.change)


def findings_differ(findings: Findings, knob: str) -> bool:
    """Whether the config to train has another value of a knob than the baseline."""
    attribution = findings.attribution
    assert attribution is not None
    return bool(getattr(attribution.best.config, knob) != getattr(attribution.reference, knob))


@pytest.mark.parametrize("study", STUDIES)
def test_step_by_step_goes_all_the_way_or_is_not_shown(study: str) -> None:
    attribution = found(study).attribution
    steps = re.findall(r"step by step, in nats gained \(greedy; .*?\): (.*)\.", text_of(study))
    for path in steps:
        assert attribution is not None
        for knob in attribution.knobs:
            assert named(knob.knob) in path
        assert "not measured" not in path


@pytest.mark.parametrize("study", STUDIES)
def test_the_screening_says_nothing_of_a_change_that_is_judged(study: str) -> None:
    attribution = found(study).attribution
    if attribution is None:
        return
    for sentence in verdict(found(study)).screening:
        for row in knobs(answered(study)):
            assert f"{row.knob} {row.before} → {row.after} " not in sentence
        assert "hurt" not in sentence


@pytest.mark.parametrize("study", STUDIES)
def test_sentence_advice_and_json_are_those_of_the_answer(study: str) -> None:
    findings, answer, words = found(study), answered(study), verdict(found(study))
    assert words.headline == answer.sentence
    assert words.scale == ((answer.scale,) if answer.scale else ())
    for advice, line in zip(answer.advice, words.next, strict=True):
        assert advice.text in line
        assert advice.command in line
    paths = dict.fromkeys(("store", "report"), findings.study.name)
    summary = json.loads(json.dumps(summarize(findings, **{k: synthetic.PATH / v for k, v in paths.items()})))
    assert summary["answer"] == json.loads(json.dumps(dataclasses.asdict(answer)))
    judged = verdict_of(findings)
    if judged is not None:
        assert [row.knob for row in knobs(answer)] == [knob["name"] for knob in judged["knobs"]]
        for row, knob in zip(knobs(answer), judged["knobs"], strict=True):
            of = knob["reset"] if row.measured == "without it" else knob
            assert row.effect == of["effect"]
            assert row.shown == (knob["verdict"] not in ("no effect shown", "not enough evidence"))


@pytest.mark.parametrize("study", [study for study in STUDIES if study.startswith("random")])
def test_an_exported_config_has_the_sentence(study: str) -> None:
    findings = found(study)
    attribution = findings.attribution
    assert attribution is not None
    text = export_run(findings, attribution.best, date="2026-11-30").text
    assert f"verdict: {answered(study).sentence}".replace("→", "->").replace("−", "-") in re.sub(r"\n#\s+", " ", text)


@pytest.mark.parametrize("study", STUDIES)
def test_numbers_have_a_sign_in_words_and_no_more_digits_than_they_carry(study: str) -> None:
    everything = text_of(study)
    assert not re.search(r"(gain|lose|lower|behind|ahead)\w* (by )?[−+-]\d", everything)
    for line in last_screen(found(study), width=120, files={}, encoding="utf-8"):
        for number in re.findall(r"\d[\d,]*\.?\d*", line):
            assert len(number.replace(",", "").replace(".", "").strip("0")) <= 4, line


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("study", STUDIES)
def test_the_screen_has_25_lines_and_fits(study: str, width: int) -> None:
    lines = last_screen(found(study), width=width, files={"report": "r.html", "store": "s.db"}, encoding="utf-8")
    assert len(lines) <= 25
    assert all(len(line) <= width or "sweep " in line for line in lines)
    assert " ".join(lines).startswith(answered(study).sentence[:60])
    assert lines[-3:-1] == ["report   r.html", "store    s.db"]
    plain = last_screen(found(study), width=width, files={}, encoding="ascii")
    assert "\n".join(plain).isascii()


@pytest.mark.parametrize("study", STUDIES)
def test_words_are_few(study: str) -> None:
    for row in answered(study).rows:
        assert len(row.does.replace(named("min_lr"), "x").split()) <= 5
        assert row.low is None or row.effect is None or row.high is None or row.low <= row.effect <= row.high
        if row.shown and row.effect is not None and row.low is not None and row.protocol != "race":
            assert row.high is not None
            assert row.low > 0 or row.high < 0 or "together" in row.does or row.does.startswith("the best")
