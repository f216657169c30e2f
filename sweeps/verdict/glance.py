"""The answer of a study, from its findings."""

from __future__ import annotations

from sweeps.analysis.findings import Findings
from sweeps.verdict.advice import advice_of
from sweeps.verdict.answer import Answer
from sweeps.verdict.rows import rows_of
from sweeps.verdict.scale import scale_of
from sweeps.verdict.sentence import sentence_of


def answer_of(findings: Findings) -> Answer:
    """Return the answer at a glance. Terminal, full text, report, export and `--json` take their words from it."""
    rows = rows_of(findings)
    return Answer(
        sentence=sentence_of(findings, rows),
        scale=scale_of(findings.study),
        rows=rows,
        advice=tuple(advice_of(findings, rows)),
    )
