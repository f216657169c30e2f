"""The verdict in plain sentences, for the terminal and the top of the report.

Where runs on fresh seeds have confirmed something, their words stand (`confirmed`); before that those of the screening
(`screened`), which proves nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from sweeps.analysis.findings import Findings
from sweeps.verdict import confirmed, more_data, recommendation, screened
from sweeps.verdict.cautions import _fates, boundary_sentences


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the study found, most important first."""

    headline: str
    proof: tuple[str, ...] = ()
    """what the headline rests on: plateau, gain, no head start"""
    knobs: tuple[str, ...]
    """each knob that the best config changes, the pair, the ablation path; before that each knob in single runs"""
    advice: tuple[str, ...]
    """each candidate"""
    best: tuple[str, ...]
    """what the best config ends with"""
    next: tuple[str, ...]
    """what to train next, or to run first"""
    screening: tuple[str, ...] = ()
    """beside what is confirmed: each knob alone at the ends of its range, one run each"""
    data: tuple[str, ...] = ()
    """what the baseline loses on part of its data"""
    cautions: tuple[str, ...]
    """how far to trust it: tests, seeds, runs without a result, repeated data"""

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """The sentences below the headline, by their heading; none is empty."""
        found = {
            "What it rests on": self.proof,
            "Which knob": self.knobs,
            "The advice": self.advice,
            "The best config": self.best,
            "What to train next": self.next,
            "Each knob alone at the ends of its range, one run each": self.screening,
            "Would more data help?": self.data,
            "How far to trust it": self.cautions,
        }
        return {heading: sentences for heading, sentences in found.items() if sentences}

    @property
    def lines(self) -> tuple[str, ...]:
        """All sentences in order."""
        return (self.headline, *(sentence for sentences in self.groups.values() for sentence in sentences))

    def text(self, *, width: int) -> str:
        """For a terminal of `width` columns: the headline, then each group under its heading."""

        def wrapped(sentence: str, mark: str) -> str:
            wrapper = textwrap.TextWrapper(width, initial_indent=mark, subsequent_indent=" " * len(mark))
            wrapper.break_long_words = wrapper.break_on_hyphens = False
            return wrapper.fill(sentence)

        parts = [wrapped(self.headline, "")]
        for heading, sentences in self.groups.items():
            parts.append("\n".join(["", heading, *(wrapped(sentence, "- ") for sentence in sentences)]))
        return "\n".join(parts)


def verdict(findings: Findings) -> Verdict:
    """Put what a study has found into words: those of the confirmed verdict, or before it those of the screening."""
    attribution, single = findings.attribution, findings.screening
    if attribution is None:
        return Verdict(
            headline=screened.headline(single),
            knobs=tuple(screened.alone(single)),
            advice=tuple(screened.advice(single)),
            best=tuple(screened.best(findings)),
            next=tuple(screened.steps(findings)),
            data=tuple(more_data.sentences(findings)),
            cautions=(*screened.reading(findings), *boundary_sentences(findings), *_fates(findings)),
        )
    return Verdict(
        headline=confirmed.headline(attribution),
        proof=tuple(confirmed.proof(attribution)),
        knobs=tuple(confirmed.knobs(attribution)),
        advice=tuple(confirmed.advice(attribution)),
        best=tuple(recommendation.best(findings, attribution)),
        next=tuple(recommendation.steps(findings, attribution)),
        screening=tuple(screened.alone(single)),
        data=tuple(more_data.sentences(findings)),
        cautions=(
            *confirmed.reading(attribution),
            *screened.reading(findings),
            *boundary_sentences(findings),
            *_fates(findings),
        ),
    )
