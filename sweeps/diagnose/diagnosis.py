"""The diagnosis of one run: the judgement, the outlook, the findings, and what the log contradicts or leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sweeps.diagnose.facts import Facts, facts_of
from sweeps.diagnose.findings.finding import Contradiction, Finding
from sweeps.diagnose.findings.ranked import contradicted, ranked, undecided
from sweeps.diagnose.judgement import Judgement, judge
from sweeps.diagnose.measured import Given, Measured, measure
from sweeps.diagnose.outlook import Outlook, outlook_of
from sweeps.diagnose.run import LoggedRun


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagnosis:
    """What a log says about a run. The page, the JSON and the HTML render it."""

    measured: Measured
    judgement: Judgement
    outlook: Outlook
    facts: Facts
    findings: tuple[Finding, ...]
    """what the log supports, faults first, then by strength"""
    contradicted: tuple[Contradiction, ...]
    undecided: tuple[str, ...]
    """what one log can't tell apart, in sentences"""
    notes: tuple[str, ...]
    """what was ignored, left out or assumed, in sentences"""


def _assumed(m: Measured) -> Iterator[str]:
    """Say what follows from the first loss alone."""
    by_loss = m.vocabulary_by_loss
    if by_loss is not None and by_loss == m.vocab_size and m.config is not None and not m.run.vocab_size:
        yield f"The vocabulary is estimated from the loss at step 0: about {by_loss:,}."


def diagnosis_of(run: LoggedRun, given: Given | None = None) -> Diagnosis:
    """Diagnose a run. Raises ConfigError for a card that isn't known."""
    measured = measure(run, given or Given())
    judgement = judge(measured)
    findings = ranked(measured, judgement)
    return Diagnosis(
        measured=measured,
        judgement=judgement,
        outlook=outlook_of(measured, judgement),
        facts=facts_of(measured),
        findings=findings,
        contradicted=contradicted(measured, judgement),
        undecided=undecided(measured, judgement, findings),
        notes=(*run.notes, *measured.notes, *_assumed(measured)),
    )
