"""Report of a study as one HTML page that needs nothing else: no network, no fonts, plotly.js embedded once.

The verdict in words comes first, then what to train next. Every figure has its conclusion in words, and every run is in
a table. All text that comes from a study (names, labels, reasons) is escaped, and the page's content security policy
forbids loading anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from sweeps.analysis.findings import Findings
from sweeps.report.figures.style import Picture
from sweeps.report.markup import breakable, cell, escaped, head, items, number, prose, row, row_head, table
from sweeps.report.runs import provenance, runs_table
from sweeps.store.records import Run
from sweeps.text import NOT_TRAINED, changes, count, duration, perplexity, short
from sweeps.verdict.confirmed import knob_words
from sweeps.verdict.recommendation import confirmed_losses
from sweeps.verdict.verdict import Verdict, verdict
from trainer.config import EXPORTABLE, TrainConfig

_TEMPLATES = Path(__file__).with_name("templates")
_HIDDEN = NOT_TRAINED | {"sampling", "vocab_size"}
_DOCS = {spec.name: spec.metadata["doc"] for spec in dataclasses.fields(TrainConfig)}


def render(findings: Findings, pictures: Sequence[Picture]) -> str:
    """Return the page's HTML; the same results give the same page."""
    results = findings.results
    facts = [
        count(len(results.runs), "run"),
        f"{results.data.train_tokens:,} training tokens",
        f"{duration(results.seconds)} of sweeping",
    ]
    words = verdict(findings)
    return Template(_template("report.html")).substitute(
        title=escaped(results.study.name),
        facts=" · ".join(facts),
        css=_template("report.css"),
        verdict=_verdict(words, [picture for picture in pictures if picture.lead]),
        next=_next(words, findings),
        figures="\n".join(_picture(picture) for picture in pictures if not picture.lead),
        trials=runs_table(results),
        provenance=provenance(results),
        plotly=get_plotlyjs(),
        script=_template("report.js"),
    )


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _verdict(words: Verdict, lead: Sequence[Picture]) -> str:
    """Return the headline, the pictures right under it and the sentences; what to train next is a separate section."""
    groups = [
        f"<h3>{escaped(heading)}</h3>\n{items(sentences)}"
        for heading, sentences in words.groups.items()
        if sentences is not words.next
    ]
    return "\n".join([f'<p class="headline">{prose(words.headline)}</p>', *map(_picture, lead), *groups])


def _next(words: Verdict, findings: Findings) -> str:
    """Return what to train next, with the settings and losses of the baseline and the best."""
    sentences = items(words.next) if words.next else ""
    attribution, best = findings.attribution, findings.to_train
    if best is None:
        return f'{sentences}\n<p class="empty">No trial of the search is complete yet.</p>'
    verdicts = knob_words(attribution) if attribution is not None else {}
    columns = [("Setting", ""), ("Baseline", "number"), ("Best", "number"), ("Meaning", "aside")]
    if verdicts:
        columns.insert(3, ("Verdict", "words aside"))
    rows = [
        *_loss_rows(findings, best, judged=bool(verdicts)),
        *_setting_rows(best.config, findings.results.reference, verdicts),
    ]
    broken = attribution is not None and attribution.broken
    caveat = "" if broken else ", not shown to be better than the baseline"
    caption = f"{best.label}{caveat}; changes from the baseline are marked"
    return f"{sentences}\n{table(caption, head(columns), rows)}\n{_nanogpt_settings(best.config)}"


def _loss_rows(findings: Findings, best: Run, *, judged: bool) -> Iterator[str]:
    """Yield the final losses: on fresh seeds if they are confirmed, else those of the search.

    `judged`: the table has a column of verdicts.
    """
    losses: Sequence[float | None]
    confirmed, data = confirmed_losses(findings), findings.results.data
    if confirmed is not None:
        losses, seeds = confirmed.means, confirmed.seeds
    else:
        baseline = findings.screening.baseline
        losses = (None if baseline is None else baseline.mean, best.val_loss)
        seeds = "mean over the baseline's seeds, and one run of the best"

    def bits_per_byte(loss: float) -> str:
        bits = data.bits_per_byte(loss)
        return "–" if bits is None else f"{bits:.4f}"

    measures: Sequence[tuple[str, str, Callable[[float], str]]] = (
        ("final loss", f"validation, nats per token; {seeds}", lambda loss: f"{loss:.4f}"),
        ("perplexity", "exp of the loss", lambda loss: f"{perplexity(loss):.4g}"),
        ("bits per byte", "of validation text", bits_per_byte),
    )
    for name, meaning, in_unit in measures:
        values = [number("–" if loss is None else in_unit(loss)) for loss in losses]
        no_verdict = [cell("", "aside")] if judged else []
        yield row([row_head(f"<strong>{name}</strong>"), *values, *no_verdict, cell(meaning, "aside")])


def _setting_rows(best: TrainConfig, reference: TrainConfig | None, verdicts: Mapping[str, str]) -> Iterator[str]:
    """Yield a row per setting with the baseline's and the best's value; `verdicts`: words by knob."""
    baseline = {} if reference is None else reference.as_dict()
    changed = {} if reference is None else changes(best, reference)
    for name, value in best.as_dict().items():
        if name in _HIDDEN and name not in changed:
            continue
        cells = [
            row_head(f"<code>{breakable(name)}</code>"),
            number(short(baseline.get(name))),
            number(short(value), "new"),
        ]
        if verdicts:
            cells.append(cell(verdicts.get(name, "follows from the knobs" if name in changed else ""), "words aside"))
        yield row([*cells, cell(_DOCS[name], "aside")], changed=name in changed)


def _nanogpt_settings(config: TrainConfig) -> str:
    settings = config.as_dict()
    lines = "\n".join(f"{name} = {settings[name]!r}" for name in EXPORTABLE)
    note = "the best trial's settings at the sweep's horizon; sweep export adapts them to a longer run"
    return f"<details><summary>As nanoGPT settings</summary>\n<pre># {note}\n{escaped(lines)}</pre></details>"


def _picture(picture: Picture) -> str:
    key, title = picture.key, escaped(picture.title)
    opening = f'<article class="picture" id="{key}" aria-labelledby="{key}-title">\n<h3 id="{key}-title">{title}</h3>'
    if not picture.figures:
        return f'{opening}\n<p class="empty">{escaped(picture.summary)}</p>\n</article>'
    panels = "\n".join(_panel(picture, index, figure) for index, figure in enumerate(picture.figures))
    many, beside = len(picture.figures) > 2, picture.beside and len(picture.figures) == 2
    layout = "panels many" if many else "panels beside" if beside else "panels"
    return (
        f'{opening}\n<p class="summary">{prose(picture.summary)}</p>\n<div class="{layout}">\n{panels}\n</div>\n'
        f'<p class="reading">{escaped(picture.reading)}</p>\n</article>'
    )


def _panel(picture: Picture, index: int, figure: go.Figure) -> str:
    plot, panels = f"plot-{picture.key}-{index}", len(picture.figures)
    which = f" (panel {index + 1} of {panels})" if panels > 1 else ""
    label = f"{escaped(picture.title)}{which}: {escaped(picture.summary)}"
    # plotly writes <, > and / in its JSON as \u003c and so on, so no text in it ends the script element
    return (
        f'<div class="plot" id="{plot}" role="img" aria-label="{label}" '
        f'style="min-height: {figure.layout.height}px"></div>\n'
        f'<script type="application/json" data-plot="{plot}">{figure.to_json()}</script>'
    )
