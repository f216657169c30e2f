"""The verdict as a whole: claims only where they are due, whole sentences, commands that `sweep` understands."""

from __future__ import annotations

import dataclasses
import re
import shlex

import pytest
import typer

from sweeps.analysis.attribution import Attribution, BestWord, KnobWord
from sweeps.analysis.findings import Findings
from sweeps.cli import app
from sweeps.verdict.verdict import Verdict, verdict
from tests.helpers import attributions, synthetic
from tests.helpers.attributions import CASES, findings_of

RESULTS = attributions.results()


def words(judged: Attribution) -> Verdict:
    return verdict(findings_of(judged))


@pytest.mark.parametrize("case", CASES)
def test_claims_are_made_where_they_are_due_and_nowhere_else(case: str) -> None:
    judged = CASES[case]()
    sentences = words(judged)
    text = "\n".join(sentences.lines)
    assert bool(re.search(r"\bbreaks? the plateau\b", text)) == (judged.word is BestWord.BREAKS)
    assert bool(re.search(r"\bimproves? on the baseline\b", text)) == (judged.word is BestWord.IMPROVES)
    assert bool(re.search(r"sweep export plateau (--all )?-o plateau-best\.py", text)) == judged.broken
    assert ("no config is shown to be better" in " ".join(sentences.next)) == (not judged.broken)
    assert ("keep the settings" in " ".join(sentences.next)) == (not judged.broken and judged.decided)
    assert any("on a plateau" in sentence for sentence in sentences.proof)
    for one, sentence in zip(judged.knobs, sentences.knobs, strict=False):
        assert sentence.startswith(f"{one.knob} ")
        assert (" alone, and is necessary;" in sentence) == (one.word is KnobWord.ALONE and one.necessary)
        assert (": gains " in sentence) == (one.word is KnobWord.GAINS)
        for word in (KnobWord.UNKNOWN, KnobWord.NO_EFFECT):
            assert (f": {word};" in sentence) == (one.word is word)
        assert (": hurts alone" in sentence) == (one.word is KnobWord.HURTS)


@pytest.mark.parametrize("case", CASES)
def test_sentences_are_whole(case: str) -> None:
    sentences = words(CASES[case]())
    fields = dataclasses.asdict(sentences)
    assert sorted(sentences.lines) == sorted(
        [fields.pop("headline"), *(line for group in fields.values() for line in group)]
    )
    assert sentences.lines == (sentences.headline, *(line for group in sentences.groups.values() for line in group))
    for line in sentences.lines:
        assert line.endswith(".")
        assert not re.search(r"None\b(?! of)|\bnan\b|\binf\b|Contrast|\s\s|\(\(|\)\)", line)
        assert not re.search(r"(?<![\w-])-\d", line)  # a true minus before every number
        assert line.count("(") == line.count(")")


@pytest.mark.parametrize("case", [*CASES, None])
def test_every_command_is_one_that_sweep_understands(case: str | None) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    sentences = verdict(findings_of(CASES[case]() if case else None))
    for line in sentences.lines:
        for command in re.findall(r"`([^`]+)`", line):
            program, name, *arguments = shlex.split(command)
            assert program == "sweep"
            commands[name].make_context(name, arguments)


def test_before_the_confirm_phase_the_screening_stands() -> None:
    sentences = verdict(Findings(synthetic.full()))
    assert sentences.headline.endswith("Screened, not yet proven.")
    assert sentences.proof == sentences.screening == ()
    assert sentences.next == (
        "Unknown: fresh seeds would prove or refute this; until then nothing is shown: `sweep confirm plateau`.",
    )
    assert verdict(Findings(dataclasses.replace(RESULTS, runs=RESULTS.runs[:7]))).proof == ()


def test_a_study_that_was_swept_and_confirmed_is_told_as_it_is() -> None:
    """By `synthetic.surface`, rate 3e-3 gains 0.085, width 768 gains 0.055, and dropout 0.05 costs 0.002 nats."""
    sentences = verdict(Findings(attributions.swept()))
    assert sentences.headline.startswith("Learning rate 0.001 → 0.003 breaks the plateau alone, by ")
    assert [sentence.partition(";")[0] for sentence in sentences.knobs[:3]] == [
        "learning_rate 0.001 → 0.003: breaks the plateau alone",
        "n_embd 384 → 768: breaks the plateau alone",
        "dropout 0 → 0.05: no effect shown",
    ]
    assert [sentence.partition(";")[0] for sentence in sentences.candidates[:2]] == [
        "Advice learning_rate 0.002: right",
        "Advice dropout 0.2, weight_decay 0.2: wrong",
    ]
    assert any("raises the loss" in sentence for sentence in sentences.screening)
