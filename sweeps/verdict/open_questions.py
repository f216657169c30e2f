"""Open questions of a confirmed verdict, and the seeds that would decide them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sweeps.analysis.attribution import Attribution, CandidateWord, KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.significance import seeds_to_decide, shown
from sweeps.analysis.words import is_decided


@dataclass(frozen=True, kw_only=True)
class OpenQuestion:
    """A question that the runs have not decided."""

    name: str
    seeds: int | None
    """seeds of its comparison that would decide it if mean and noise stay as they are; None: over 64"""
    measured: bool
    """False: the runs that would measure the noise are missing"""
    advice: bool = False
    """whether it is about a candidate"""


def open_questions(attribution: Attribution) -> tuple[OpenQuestion, ...]:
    """Return what is undecided: the best config, then its knobs (unless it is shown not to be better), then advice."""
    questions: list[OpenQuestion | None] = []
    if not is_decided(attribution.why):
        effect = attribution.effect
        more = None if effect is None else seeds_to_decide(effect, min_effect=attribution.min_effect)
        questions.append(_question("the best config", effect, attribution.lasting, more))
    for knob in attribution.knobs if attribution.broken or not attribution.decided else ():
        if knob.word in (KnobWord.UNKNOWN, KnobWord.GAINS):
            questions.append(_question(knob.knob, knob.alone, knob.lasting, knob.more_seeds))
    for candidate in attribution.candidates:
        name = f"the advice “{candidate.label}”"
        question: OpenQuestion | None = OpenQuestion(name=name, seeds=None, measured=False)
        if candidate.word is CandidateWord.UNKNOWN:
            question = _question(name, candidate.effect, None, candidate.more_seeds)
        if question is not None and candidate.word in (CandidateWord.UNKNOWN, CandidateWord.ONE_RUN):
            questions.append(dataclasses.replace(question, advice=True))
    return tuple(question for question in questions if question is not None)


def _question(name: str, effect: Contrast | None, lasting: Contrast | None, more: int | None) -> OpenQuestion | None:
    """Return the question that a comparison leaves open. None: it leaves none.

    Of a gain that is shown, the open question is whether it is a head start.
    """
    if effect is not None and shown(effect):
        if lasting is not None and shown(lasting):
            return None
        effect, more = lasting, None if lasting is None else seeds_to_decide(lasting, min_effect=0.0)
    if effect is None or effect.se is None:
        return OpenQuestion(name=name, seeds=None, measured=False)
    return OpenQuestion(name=name, seeds=None if more is None else effect.n + more, measured=True)
