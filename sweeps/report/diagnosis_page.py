"""A diagnosis as one HTML page that needs nothing else: no network, no scripts, no fonts."""

from __future__ import annotations

from pathlib import Path
from string import Template

from sweeps.diagnose.diagnosis import Diagnosis
from sweeps.diagnose.findings.finding import Finding
from sweeps.diagnose.page import headline, outlook_words, run_words, slope_words
from sweeps.errors import SpecError
from sweeps.report.diagnosis_curve import curve_svg
from sweeps.report.markup import escaped, items, prose
from trainer.atomic import write_text

_TEMPLATE = Path(__file__).with_name("templates") / "diagnosis.html"
_READING = (
    "Dots are losses: dark of the validation text, light of the training text. The line is the law fitted to the "
    "losses under the run's own schedule, dashed where it is a forecast; the band holds 90 % of evaluations. "
    "Losses of the steep beginning lie above the figure's edge."
)


def diagnosis_page(diagnosis: Diagnosis) -> str:
    """Return the page's HTML; the same diagnosis gives the same page."""
    figure = curve_svg(diagnosis)
    slope = slope_words(diagnosis)
    facts = [*run_words(diagnosis), *([slope] if slope else [])]
    findings = "\n".join(map(_finding, diagnosis.findings))
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escaped(diagnosis.measured.run.name),
        headline=escaped(headline(diagnosis)),
        reason=prose(diagnosis.judgement.reason),
        facts=escaped(" · ".join(facts)),
        figure=f"<figure>{figure}<figcaption>{escaped(_READING)}</figcaption></figure>" if figure else "",
        outlook=items(outlook_words(diagnosis)),
        findings=f"<ol>\n{findings}\n</ol>" if findings else "<p>Nothing in it points at a fault or a knob.</p>",
        contradicted=_section("What the log contradicts", [f"{c.evidence}." for c in diagnosis.contradicted]),
        undecided=_section("What one log can't tell", diagnosis.undecided),
        notes=_section("Notes", diagnosis.notes),
    )


def write_diagnosis(diagnosis: Diagnosis, path: Path) -> None:
    """Write the page. Raises SpecError for a path that can't be written."""
    try:
        write_text(path.absolute(), diagnosis_page(diagnosis))
    except OSError as error:
        raise SpecError(f"--html {path}: cannot be written: {error.strerror or error}") from error


def _finding(finding: Finding) -> str:
    towards = finding.direction if finding.knob is None else f"{finding.knob} {finding.direction}"
    fault = " <em>A fault that no sweep mends.</em>" if finding.fault else ""
    return (
        f"<li><strong>{escaped(finding.code)}</strong>: {prose(finding.evidence)}{fault}"
        f"<br>Towards: {prose(towards)}.<br>Check: {prose(finding.check)}.</li>"
    )


def _section(title: str, sentences: tuple[str, ...] | list[str]) -> str:
    return f"<h2>{escaped(title)}</h2>\n{items(sentences)}" if sentences else ""
