"""The verdict in plain sentences, for the terminal and the top of the report.

Once runs on fresh seeds have confirmed something, the verdict is made of the sentences in `confirmed`. Before that, it
is made of those in `screened`, which prove nothing.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from sweeps.analysis.branches import Branches
from sweeps.analysis.findings import Findings
from sweeps.verdict import confirmed, from_plateau, more_data, pilot, recommendation, screened
from sweeps.verdict.answer import Advice
from sweeps.verdict.cautions import boundary_sentences, run_sentences
from sweeps.verdict.glance import answer_of


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Sentences about a study, the most important first."""

    headline: str
    """the answer's sentence"""
    scale: tuple[str, ...] = ()
    """that the trials are a miniature of the run that they are to speak for, where they are"""
    start: tuple[str, ...] = ()
    """studies of branches, as are the next three: where the branches start, and what going on brings"""
    branches: tuple[str, ...] = ()
    """each knob from the checkpoint"""
    races: tuple[str, ...] = ()
    """each change from scratch"""
    nothing: tuple[str, ...] = ()
    """what is not shown to do anything, either way"""
    proof: tuple[str, ...] = ()
    """what the headline rests on: the plateau, the gain, no head start"""
    knobs: tuple[str, ...]
    """each knob that the best config changes, the pair, the ablation path; before a confirm phase the single-knob
    runs"""
    candidates: tuple[str, ...]
    """each candidate"""
    best: tuple[str, ...]
    """what the best config ends with"""
    next: tuple[str, ...]
    """the answer's advice: what to do next, what not to do, what is unknown"""
    screening: tuple[str, ...] = ()
    """the single-knob runs, beside what is confirmed"""
    data: tuple[str, ...] = ()
    """what the baseline loses on part of its data"""
    cautions: tuple[str, ...]
    """how far to trust it: tests, seeds, runs without a result, repeated data"""

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """The sentences below the headline by their heading, without empty groups."""
        groups = {
            "How large": self.scale,
            "Where it starts": self.start,
            "From your checkpoint": self.branches,
            "If you retrain": self.races,
            "Nothing shown": self.nothing,
            "What it rests on": self.proof,
            "Which knob": self.knobs,
            "The advice": self.candidates,
            "The best config": self.best,
            "What to train next": self.next,
            "Each knob alone at the ends of its range, one run each": self.screening,
            "Would more data help?": self.data,
            "How far to trust it": self.cautions,
        }
        return {heading: sentences for heading, sentences in groups.items() if sentences}

    @property
    def lines(self) -> tuple[str, ...]:
        """All sentences in order."""
        return (self.headline, *(sentence for sentences in self.groups.values() for sentence in sentences))

    def text(self, *, width: int) -> str:
        """Return the text for a terminal of `width` columns: the headline, then each group under its heading."""

        def wrapped(sentence: str, mark: str) -> str:
            wrapper = textwrap.TextWrapper(width, initial_indent=mark, subsequent_indent=" " * len(mark))
            wrapper.break_long_words = wrapper.break_on_hyphens = False
            return wrapper.fill(sentence)

        parts = [wrapped(self.headline, "")]
        for heading, sentences in self.groups.items():
            parts.append("\n".join(["", heading, *(wrapped(sentence, "- ") for sentence in sentences)]))
        return "\n".join(parts)


def verdict(findings: Findings) -> Verdict:
    """Put the findings of a study into words: the confirmed verdict, or before it the screening."""
    words, answer = _words(findings), answer_of(findings)
    if findings.branches is not None:
        words = _of_branches(words, findings, findings.branches)
    return dataclasses.replace(
        words,
        headline=answer.sentence,
        scale=(answer.scale,) if answer.scale else (),
        next=tuple(map(_advised, answer.advice)),
    )


def _advised(advice: Advice) -> str:
    """Return an advice as a sentence."""
    mark = {"do": "Do", "dont": "Don't", "unknown": "Unknown", "note": "Note"}[advice.kind]
    return f"{mark}: {advice.text}{f': `{advice.command}`' if advice.command else ''}."


def _of_branches(words: Verdict, findings: Findings, branches: Branches) -> Verdict:
    """Return the verdict on branches and races: three lists, and the control in place of the baseline."""
    attribution, of_control = findings.attribution, from_plateau.of_control
    together: tuple[str, ...] = ()
    if attribution is None:
        listed, proof = of_control(words.knobs), words.proof
    else:
        listed = tuple(from_plateau.from_checkpoint(attribution, branches))
        proof = tuple(from_plateau.proof(attribution, branches))
        together = of_control(confirmed.together(attribution))
    return dataclasses.replace(
        words,
        start=tuple(from_plateau.start(findings, branches)),
        branches=listed,
        races=tuple(from_plateau.if_you_retrain(findings.races)),
        nothing=tuple(from_plateau.nothing_shown(findings, branches)),
        proof=proof,
        knobs=together,
        candidates=of_control(words.candidates),
        best=of_control(words.best),
        screening=of_control(words.screening),
        data=of_control(words.data),
        cautions=(*from_plateau.reading(findings), *of_control(words.cautions)),
    )


def _words(findings: Findings) -> Verdict:
    """Put the findings of a study from scratch into words."""
    attribution, screening = findings.attribution, findings.screening
    if attribution is None:
        return Verdict(
            headline="",
            knobs=tuple(screened.alone(screening)),
            candidates=tuple(screened.candidates(screening)),
            best=tuple(screened.search_winner(findings)),
            next=(),
            data=tuple(more_data.sentences(findings)),
            cautions=(
                *screened.reading(findings),
                *pilot.sentences(findings),
                *boundary_sentences(findings),
                *run_sentences(findings),
            ),
        )
    return Verdict(
        headline="",
        proof=tuple(confirmed.proof(attribution)),
        knobs=tuple(confirmed.knobs(attribution)),
        candidates=tuple(confirmed.candidates(attribution)),
        best=tuple(recommendation.best_config(findings, attribution)),
        next=(),
        screening=tuple(screened.beside(screening, attribution)),
        data=tuple(more_data.sentences(findings)),
        cautions=(
            *confirmed.reading(attribution),
            *screened.reading(findings),
            *pilot.sentences(findings),
            *boundary_sentences(findings),
            *run_sentences(findings),
        ),
    )
