"""The study as one HTML page that needs nothing else: no network, no fonts, plotly.js inside once.

The page says its result in words first; every figure comes with its conclusion, and every run is in
a table. Whatever comes from a study (names, labels, reasons) is escaped, and the page's content
security policy forbids loading anything from anywhere.
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from sweeps import plots, screening, units
from sweeps.chosen import best_run, reference_config
from sweeps.figure import Picture
from sweeps.paths import write_text
from sweeps.results import Results, Run
from sweeps.units import bits_per_byte, perplexity
from sweeps.verdict import Verdict, screening_verdict
from sweeps.words import NOT_TRAINED, changes, count, duration, show, why_pruned
from trainer.config import EXPORTABLE, TrainConfig

_TEMPLATES = Path(__file__).with_name("templates")
_HIDDEN = NOT_TRAINED | {"sampling", "vocab_size"}
_EXPONENT = re.compile(r"\d[\d.]*e-\d+")
_DOCS = {spec.name: spec.metadata["doc"] for spec in dataclasses.fields(TrainConfig)}


def write_report(results: Results, path: Path) -> Path:
    """Write the report to `path`, whole or not at all, and return it. Raises OSError where it can't be written."""
    write_text(path, render(results))
    return path


def render(results: Results) -> str:
    """The page's HTML; the same results give the same page."""
    runs, data = results.runs, results.data
    facts = [
        count(len(runs), "run"),
        f"{data.train_tokens:,} training tokens",
        f"{duration(results.seconds)} of sweeping",
    ]
    return Template(_template("report.html")).substitute(
        title=_text(results.study.name),
        facts=" · ".join(facts),
        css=_template("report.css"),
        verdict=_verdict(screening_verdict(results)),
        best=_best(results),
        figures="\n".join(_picture(picture) for picture in plots.pictures(results)),
        trials=_trials(results),
        provenance=_provenance(results),
        plotly=get_plotlyjs(),
        script=_template("report.js"),
    )


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    return html.escape(text)


def _prose(text: str) -> str:
    """A sentence as HTML whose numbers such as 1e-4 stay on one line."""
    return _EXPONENT.sub(r'<span class="whole">\g<0></span>', _text(text))


def _verdict(verdict: Verdict) -> str:
    parts = [f'<p class="headline">{_prose(verdict.headline)}</p>']
    groups = {
        "Each knob alone": verdict.alone,
        "The advice": verdict.advice,
        "The best config": verdict.best,
        "How far to trust it": verdict.cautions,
    }
    for heading, sentences in groups.items():
        if sentences:
            items = "\n".join(f"<li>{_prose(sentence)}</li>" for sentence in sentences)
            parts.append(f"<h3>{heading}</h3>\n<ul>\n{items}\n</ul>")
    return "\n".join(parts)


def _best(results: Results) -> str:
    best, reference = best_run(results), reference_config(results)
    if best is None:
        return '<p class="empty">No trial of the search is complete yet.</p>'
    rows = [*_losses(results, best), *_settings(best.config, reference)]
    head = _head([("Setting", ""), ("Baseline", "number"), ("Best", "number"), ("What it is", "aside")])
    caption = f"{_text(best.label)}, against the baseline (mean of its seeds); what differs is marked"
    return f"{_table(caption, head, rows)}\n{_nanogpt(best.config)}"


def _losses(results: Results, best: Run) -> Iterable[str]:
    baseline = screening.screen(results).baseline
    pair = [None if baseline is None else baseline.mean, best.val_loss]
    measures: Sequence[tuple[str, str, Callable[[float], str]]] = (
        ("final loss", "validation, nats a token", lambda loss: f"{loss:.4f}"),
        ("perplexity", "exp of the loss", lambda loss: f"{perplexity(loss):.4g}"),
        ("bits per byte", "of validation text", lambda loss: _digits(bits_per_byte(loss, results))),
    )
    for name, meaning, shown in measures:
        values = ["–" if loss is None else shown(loss) for loss in pair]
        yield _row([_row_head(f"<strong>{name}</strong>"), *map(_number, values), _cell(meaning, "aside")])


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _settings(best: TrainConfig, reference: TrainConfig | None) -> Iterable[str]:
    old = {} if reference is None else reference.as_dict()
    changed = {} if reference is None else changes(best, reference)
    for name, value in best.as_dict().items():
        if name in _HIDDEN and name not in changed:
            continue
        cells = [_row_head(f"<code>{name}</code>"), _number(show(old.get(name))), _number(show(value), "new")]
        cells.append(_cell(_DOCS[name], "aside"))
        yield _row(cells, changed=name in changed)


def _nanogpt(config: TrainConfig) -> str:
    settings = config.as_dict()
    lines = "\n".join(f"{name} = {settings[name]!r}" for name in EXPORTABLE)
    note = "the best trial's settings at the sweep's horizon; sweep export fits them to a longer run"
    return f"<details><summary>As nanoGPT settings</summary>\n<pre># {note}\n{_text(lines)}</pre></details>"


def _picture(picture: Picture) -> str:
    key, title, summary = picture.key, _text(picture.title), _text(picture.summary)
    head = f'<article class="picture" id="{key}" aria-labelledby="{key}-title">\n<h3 id="{key}-title">{title}</h3>'
    if not picture.figures:
        return f'{head}\n<p class="empty">{summary}</p>\n</article>'
    panels = []
    # plotly writes <, > and / in its JSON as \u003c and so on: no text in it ends the script element
    for index, figure in enumerate(picture.figures):
        plot = f"plot-{key}-{index}"
        which = f" (panel {index + 1} of {len(picture.figures)})" if len(picture.figures) > 1 else ""
        panels.append(
            f'<div class="plot" id="{plot}" role="img" aria-label="{title}{which}: {summary}" '
            f'style="min-height: {figure.layout.height}px"></div>\n'
            f'<script type="application/json" data-plot="{plot}">{figure.to_json()}</script>'
        )
    kind = "panels many" if len(picture.figures) > 2 else "panels"
    return (
        f'{head}\n<p class="summary">{_prose(picture.summary)}</p>\n<div class="{kind}">\n'
        + "\n".join(panels)
        + "\n</div>\n"
        f'<p class="reading">{_text(picture.reading)}</p>\n</article>'
    )


def _trials(results: Results) -> str:
    if not results.runs:
        return '<p class="empty">No run has started.</p>'
    knobs = list(results.study.knobs)
    columns = [("Run", "number"), ("What", ""), ("Asked by", ""), ("Outcome", ""), ("Final loss", "number")]
    columns += [("Perplexity", "number"), *((knob, "number") for knob in knobs)]
    columns += [("Seed", "number"), ("Tokens", "number"), ("Seconds", "number"), ("Remark", "")]
    status = '<p class="note" id="trials-status" role="status">Press a column’s name to sort by it.</p>'
    rows = [_trial(run, knobs) for run in results.runs]
    caption = "Losses are on the large set of validation windows, nats a token"
    table = _table(
        caption, _head(columns, sortable=True), rows, attributes='class="sortable" data-status="trials-status"'
    )
    return f"{status}\n{table}"


def _trial(run: Run, knobs: Sequence[str]) -> str:
    config = run.config.as_dict()
    tokens = run.points[-1].tokens if run.points else 0
    loss = run.val_loss
    return _row(
        [
            _number(str(run.id), value=run.id),
            _cell(run.label, "words"),
            _cell(run.origin),
            _cell(run.outcome),
            _number("–" if loss is None else f"{loss:.4f}", value=loss),
            _number("–" if loss is None else f"{perplexity(loss):.4g}", value=loss),
            *(_number(show(config[knob]), value=config[knob]) for knob in knobs),
            _number(str(run.seed), value=run.seed),
            _number(f"{tokens:,}", value=tokens),
            _number(f"{run.seconds:.0f}", value=run.seconds),
            _cell(_remark(run), "words"),
        ]
    )


def _remark(run: Run) -> str:
    if run.pruning is not None and run.pruning.sentinel:
        return f"sentinel, went on; {why_pruned(run.pruning)}" + (f"; {run.reason}" if run.reason else "")
    return run.reason


def _provenance(results: Results) -> str:
    data, reference = results.data, reference_config(results)
    seeds = sorted({run.seed for run in results.runs})
    facts = {
        "data": data.path,
        "data fingerprint": data.fingerprint,
        "tokens": f"{data.train_tokens:,} to train on, {data.val_tokens:,} to validate on",
        "vocabulary": f"{data.vocab_size:,} tokens",
        "search seed": str(results.study.seed),
        "seeds used": ", ".join(map(str, seeds)) or "–",
        "trained on": ", ".join(sorted({run.device for run in results.runs})) or "–",
        "time": duration(results.seconds),
    }
    if reference is not None:
        tokens = reference.max_iters * reference.tokens_per_iter
        over = f"{units.epochs(reference, results):.2g} epochs of the training data"
        facts["a trial"] = f"{reference.max_iters:,} iterations, {tokens:,} tokens, {over}"
    facts |= dict(results.provenance)
    items = "\n".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts.items())
    return f"<dl>\n{items}\n</dl>"


def _table(caption: str, head: str, rows: Iterable[str], *, attributes: str = "") -> str:
    body = "\n".join(rows)
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{caption}"><table {attributes}>\n'
        f"<caption>{caption}</caption>\n{head}\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _head(columns: Sequence[tuple[str, str]], *, sortable: bool = False) -> str:
    cells = []
    for name, kind in columns:
        shown = f'<button type="button">{_text(name)}</button>' if sortable else _text(name)
        cells.append(f'<th scope="col" class="{kind}">{shown}</th>')
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def _row(cells: Iterable[str], *, changed: bool = False) -> str:
    mark = ' class="changed"' if changed else ""
    return f"<tr{mark}>{''.join(cells)}</tr>"


def _row_head(inner: str) -> str:
    return f'<th scope="row">{inner}</th>'


def _cell(text: str, kind: str = "") -> str:
    return f'<td class="{kind}" data-value="{_text(text)}">{_text(text)}</td>'


def _number(text: str, kind: str = "", *, value: float | int | str | bool | None = None) -> str:
    exact = "" if value is None else _text(str(value))
    return f'<td class="number {kind}" data-value="{exact}">{_text(text)}</td>'
