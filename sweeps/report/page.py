"""Report of a study as one HTML page that needs nothing else: no network, no fonts, plotly.js embedded once.

It opens with the answer: a sentence, one picture, the changes with their intervals, and what to do next. Everything
else is folded. Folds open without scripts, and a figure in one is drawn when it opens. Every figure has its conclusion
in words, and every run is in a table. All text that comes from a study (names, labels, reasons) is escaped, and the
page's content security policy forbids loading anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from sweeps.analysis.findings import Findings
from sweeps.report.album import Album, Group
from sweeps.report.change_table import change_tables
from sweeps.report.figures.dark import DARK
from sweeps.report.figures.style import Picture
from sweeps.report.markup import command, escaped, fold, items, prose
from sweeps.report.runs import provenance, runs_table
from sweeps.report.settings import settings_section
from sweeps.store.records import Outcome, Results
from sweeps.text import count, duration
from sweeps.verdict.answer import Advice
from sweeps.verdict.glance import answer_of
from sweeps.verdict.verdict import Verdict, verdict

_TEMPLATES = Path(__file__).with_name("templates")
_KINDS = {"do": "Do", "dont": "Don’t", "unknown": "Unknown", "note": "Note"}
"""word in front of a piece of advice"""


def render(findings: Findings, album: Album) -> str:
    """Return the page's HTML; the same results give the same page."""
    answer = answer_of(findings)
    return Template(_template("report.html")).substitute(
        title=escaped(findings.study.name),
        facts=" · ".join(_facts(findings.results)),
        css=_template("report.css"),
        sentence=prose(answer.sentence),
        scale=f'<p class="scale">{prose(answer.scale)}</p>' if answer.scale else "",
        lead=_lead(album.lead),
        changes=change_tables(answer.rows),
        advice=_advice(answer.advice),
        folds="\n".join(_folds(findings, album)),
        palette=json.dumps(DARK),
        plotly=get_plotlyjs(),
        script=_template("report.js"),
    )


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _facts(results: Results) -> Iterator[str]:
    yield count(len(results.runs), "run")
    running = sum(run.outcome == Outcome.RUNNING for run in results.runs)
    if running:
        yield f"{running} of them not finished"
    yield f"{results.data.train_tokens:,} training tokens"
    yield f"{duration(results.seconds)} of sweeping"


def _advice(advice: Sequence[Advice]) -> str:
    listed = "\n".join(map(_piece, advice))
    return f'<ul class="advice">\n{listed}\n</ul>' if advice else '<p class="empty">Nothing yet.</p>'


def _piece(piece: Advice) -> str:
    copied = command(piece.command) if piece.command else ""
    return (
        f'<li class="is-{piece.kind}"><span class="kind">{_KINDS[piece.kind]}</span>'
        f'<div><span class="text">{prose(piece.text)}</span>{copied}</div></li>'
    )


def _folds(findings: Findings, album: Album) -> Iterator[str]:
    """Yield the folded parts: the verdict in full, figures, settings, runs, provenance."""
    words, best, results = verdict(findings), findings.to_train, findings.results
    yield fold("verdict", "The verdict in full", "every claim with its interval and its seeds", _verdict(words))
    for number, group in enumerate(album.groups):
        about = count(len(group.pictures), "figure")
        yield fold(f"figures-{number}", group.title, about, _group(group))
    if best is not None:
        yield fold("settings", "The best config, setting by setting", best.label, settings_section(findings, best))
    yield fold("trials", "Every run", count(len(results.runs), "run"), runs_table(results))
    yield fold("provenance", "How this was made", "data, seeds, machine, commands", provenance(findings))


def _verdict(words: Verdict) -> str:
    """Return all sentences below their headings."""
    groups = [f"<h4>{escaped(heading)}</h4>\n{items(sentences)}" for heading, sentences in words.groups.items()]
    return "\n".join([f"<p>{prose(words.headline)}</p>", *groups])


def _lead(picture: Picture) -> str:
    """Return the picture under the answer; how to read it is folded."""
    if not picture.figures:
        return f'<p class="empty">{escaped(picture.summary)}</p>'
    panels = "\n".join(_panel(picture, index, figure) for index, figure in enumerate(picture.figures))
    title = f"{escaped(picture.title)}: how to read it"
    words = f"<p>{prose(picture.summary)}</p>\n<p>{escaped(picture.reading)}</p>"
    return (
        f'<figure class="lead" id="{picture.key}">\n{panels}\n'
        f"<figcaption><details><summary>{title}</summary>\n{words}</details></figcaption>"
        "</figure>"
    )


def _group(group: Group) -> str:
    return '<noscript><p class="note">The figures need JavaScript; their words do not.</p></noscript>\n' + "\n".join(
        map(_picture, group.pictures)
    )


def _picture(picture: Picture) -> str:
    key, title = picture.key, escaped(picture.title)
    opening = f'<article class="picture" id="{key}" aria-labelledby="{key}-title">\n<h4 id="{key}-title">{title}</h4>'
    if not picture.figures:
        return f'{opening}\n<p class="empty">{escaped(picture.summary)}</p>\n</article>'
    panels = "\n".join(_panel(picture, index, figure) for index, figure in enumerate(picture.figures))
    layout = "panels many" if len(picture.figures) > 2 else "panels"
    return (
        f'{opening}\n<p class="summary">{prose(picture.summary)}</p>\n<div class="{layout}">\n{panels}\n</div>\n'
        f'<p class="reading">{escaped(picture.reading)}</p>\n</article>'
    )


def _panel(picture: Picture, index: int, figure: go.Figure) -> str:
    plot, panels = f"plot-{picture.key}-{index}", len(picture.figures)
    which = f" (panel {index + 1} of {panels})" if panels > 1 else ""
    label = f"{escaped(picture.title)}{which}: {escaped(picture.summary)}"
    return (
        f'<div class="plot" id="{plot}" role="img" aria-label="{label}" '
        f'style="height: {figure.layout.height}px"></div>\n'
        f'<script type="application/json" data-plot="{plot}">{_json(figure)}</script>'
    )


def _json(figure: go.Figure) -> str:
    """Return a figure as JSON, with numbers of seven digits; no text in it ends a script element."""
    short = json.loads(figure.to_json(), parse_float=lambda digits: float(f"{float(digits):.7g}"))
    return json.dumps(short, separators=(",", ":")).replace("<", "\\u003c")
