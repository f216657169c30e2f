"""The study as one HTML page that needs nothing else: no network, no fonts, plotly.js inside once.

The page says its verdict in words first, then what to train next; every figure comes with its conclusion, and every run
is in a table. Whatever comes from a study (names, labels, reasons) is escaped, and the page's content security policy
forbids loading anything from anywhere.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from sweeps.analysis.findings import Findings
from sweeps.report.figures.style import Picture
from sweeps.report.markup import breakable, cell, head, items, number, prose, row, row_head, table, terms, text
from sweeps.store.records import (
    ESTIMATE,
    Results,
    Run,
)
from sweeps.study import horizon
from sweeps.text import NOT_TRAINED, changes, count, duration, perplexity, short
from sweeps.verdict.confirmed import knob_words
from sweeps.verdict.recommendation import confirmed_losses
from sweeps.verdict.verdict import Verdict, verdict
from trainer.config import EXPORTABLE, TrainConfig

_TEMPLATES = Path(__file__).with_name("templates")
_HIDDEN = NOT_TRAINED | {"sampling", "vocab_size"}
_DOCS = {spec.name: spec.metadata["doc"] for spec in dataclasses.fields(TrainConfig)}


def render(findings: Findings, pictures: Sequence[Picture]) -> str:
    """The page's HTML; the same results give the same page."""
    results = findings.results
    runs, data = results.runs, results.data
    facts = [
        count(len(runs), "run"),
        f"{data.train_tokens:,} training tokens",
        f"{duration(results.seconds)} of sweeping",
    ]
    words = verdict(findings)
    return Template(_template("report.html")).substitute(
        title=text(results.study.name),
        facts=" · ".join(facts),
        css=_template("report.css"),
        verdict=_verdict(words),
        next=_next(words, findings),
        figures="\n".join(_picture(picture) for picture in pictures),
        trials=_trials(results),
        provenance=_provenance(results),
        plotly=get_plotlyjs(),
        script=_template("report.js"),
    )


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _verdict(verdict: Verdict) -> str:
    """The headline and the sentences below it; what to train next has a section of its own."""
    parts = [f'<p class="headline">{prose(verdict.headline)}</p>']
    groups = ((heading, said) for heading, said in verdict.groups.items() if said is not verdict.next)
    return "\n".join([*parts, *(f"<h3>{text(heading)}</h3>\n{items(said)}" for heading, said in groups)])


def _next(verdict: Verdict, findings: Findings) -> str:
    found, best, reference = findings.attribution, findings.to_train, findings.results.reference
    said = items(verdict.next) if verdict.next else ""
    if best is None:
        return f'{said}\n<p class="empty">No trial of the search is complete yet.</p>'
    words = knob_words(found) if found is not None else {}
    columns = [("Setting", ""), ("Baseline", "number"), ("Best", "number"), ("What it is", "aside")]
    if words:
        columns.insert(3, ("Verdict", "words aside"))
    blank = [cell("", "aside")] if words else []
    rows = [*_losses(findings, best, blank), *_settings(best.config, reference, words)]
    shown = "" if found is not None and found.broken else ", not shown to be better than the baseline"
    caption = f"{best.label}{shown}; what differs from the baseline is marked"
    return f"{said}\n{table(caption, head(columns), rows)}\n{_nanogpt(best.config)}"


def _losses(findings: Findings, best: Run, blank: Sequence[str]) -> Iterable[str]:
    """What the baseline and the best end with: on fresh seeds, where they are confirmed, else in the search."""
    both, data = confirmed_losses(findings), findings.results.data
    if both is not None:
        pair: Sequence[float | None] = both.means
        over = both.seeds
    else:
        baseline = findings.screening.baseline
        pair = (None if baseline is None else baseline.mean, best.val_loss)
        over = "mean of its seeds and one run"
    measures: Sequence[tuple[str, str, Callable[[float], str]]] = (
        ("final loss", f"validation, nats a token; {over}", lambda loss: f"{loss:.4f}"),
        ("perplexity", "exp of the loss", lambda loss: f"{perplexity(loss):.4g}"),
        ("bits per byte", "of validation text", lambda loss: _digits(data.bits_per_byte(loss))),
    )
    for name, meaning, shown in measures:
        values = ["–" if loss is None else shown(loss) for loss in pair]
        yield row([row_head(f"<strong>{name}</strong>"), *map(number, values), *blank, cell(meaning, "aside")])


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _settings(best: TrainConfig, reference: TrainConfig | None, words: Mapping[str, str]) -> Iterable[str]:
    old = {} if reference is None else reference.as_dict()
    changed = {} if reference is None else changes(best, reference)
    for name, value in best.as_dict().items():
        if name in _HIDDEN and name not in changed:
            continue
        heading = row_head(f"<code>{breakable(name)}</code>")
        cells = [heading, number(short(old.get(name))), number(short(value), "new")]
        if words:
            cells.append(cell(words.get(name, "follows from the knobs" if name in changed else ""), "words aside"))
        yield row([*cells, cell(_DOCS[name], "aside")], changed=name in changed)


def _nanogpt(config: TrainConfig) -> str:
    settings = config.as_dict()
    lines = "\n".join(f"{name} = {settings[name]!r}" for name in EXPORTABLE)
    note = "the best trial's settings at the sweep's horizon; sweep export fits them to a longer run"
    return f"<details><summary>As nanoGPT settings</summary>\n<pre># {note}\n{text(lines)}</pre></details>"


def _picture(picture: Picture) -> str:
    key, title, summary = picture.key, text(picture.title), text(picture.summary)
    opening = f'<article class="picture" id="{key}" aria-labelledby="{key}-title">\n<h3 id="{key}-title">{title}</h3>'
    if not picture.figures:
        return f'{opening}\n<p class="empty">{summary}</p>\n</article>'
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
        f'{opening}\n<p class="summary">{prose(picture.summary)}</p>\n<div class="{kind}">\n'
        + "\n".join(panels)
        + "\n</div>\n"
        f'<p class="reading">{text(picture.reading)}</p>\n</article>'
    )


def _trials(results: Results) -> str:
    if not results.runs:
        return '<p class="empty">No run has started.</p>'
    knobs = list(results.study.knobs)
    columns = [("Run", "number"), ("What", ""), ("Phase", ""), ("Asked by", ""), ("Outcome", "")]
    columns += [("Final loss", "number"), ("Perplexity", "number"), *((knob, "number") for knob in knobs)]
    columns += [("Seed", "number"), ("Tokens", "number"), ("Seconds", "number"), ("Remark", "")]
    status = '<p class="note" id="trials-status" role="status">Press a column’s name to sort by it.</p>'
    rows = [_trial(run, knobs) for run in results.runs]
    caption = "Losses are on the large set of validation windows, nats a token"
    attributes = 'class="sortable" data-status="trials-status"'
    return f"{status}\n{table(caption, head(columns, sortable=True), rows, attributes=attributes)}"


def _trial(run: Run, knobs: Sequence[str]) -> str:
    config = run.config.as_dict()
    tokens = run.points[-1].tokens if run.points else 0
    loss = run.val_loss
    return row(
        [
            number(str(run.id), value=run.id),
            cell(run.label, "words"),
            cell(run.phase),
            cell(run.origin),
            cell(run.outcome),
            number("–" if loss is None else f"{loss:.4f}", value=loss),
            number("–" if loss is None else f"{perplexity(loss):.4g}", value=loss),
            *(number(short(config[knob]), value=config[knob]) for knob in knobs),
            number(str(run.seed), value=run.seed),
            number(f"{tokens:,}", value=tokens),
            number(f"{run.seconds:.0f}", value=run.seconds),
            cell(_remark(run), "words"),
        ]
    )


def _remark(run: Run) -> str:
    if run.pruning is not None and run.pruning.sentinel:
        return f"sentinel, went on; {run.pruning.why}" + (f"; {run.reason}" if run.reason else "")
    return run.reason


def _provenance(results: Results) -> str:
    data, reference = results.data, results.reference
    facts = {
        "data": data.path,
        "data fingerprint": data.fingerprint,
        "tokens": f"{data.train_tokens:,} to train on, {data.val_tokens:,} to validate on",
        "vocabulary": f"{data.vocab_size:,} tokens",
        "search seed": str(results.study.seed),
        "seeds used": "; ".join(_seeds(results)) or "–",
        "trained on": ", ".join(sorted({run.device for run in results.runs})) or "–",
        "time": _time(results),
    }
    if reference is not None:
        tokens = reference.max_iters * reference.tokens_per_iter
        over = f"{data.epochs(reference):.2g} epochs of the training data"
        facts["a trial"] = f"{reference.max_iters:,} iterations, {tokens:,} tokens, {over}"
    if results.study.fit is not None:
        facts["horizon"] = "; ".join(horizon.fit_in_words(results.study))
    facts |= {name: said for name, said in results.provenance.items() if name != ESTIMATE}
    commands = "\n".join(text(command) for command in _commands(results))
    return f"{terms(facts.items())}\n<h3>Commands to repeat it</h3>\n<pre>{commands}</pre>"


def _time(results: Results) -> str:
    """What the sweep took and a whole run of its baseline, beside what was estimated of both."""
    runs = [run.seconds for run in results.baseline_runs]
    each = f", {duration(statistics.fmean(runs))} a run of the baseline" if runs else ""
    took, estimate = f"{duration(results.seconds)}{each}", results.provenance.get(ESTIMATE)
    return took if estimate is None else f"estimated at the start: {estimate}; took: {took}"


def _seeds(results: Results) -> Iterable[str]:
    for phase in dict.fromkeys(run.phase for run in results.runs):
        seeds = sorted({run.seed for run in results.runs if run.phase == phase})
        yield f"{phase} {', '.join(map(str, seeds))}"


def _commands(results: Results) -> Iterable[str]:
    """What made the study, and what reads it; with the program by its name, wherever it lay."""
    made = results.provenance.get("command", "")
    program, _, rest = made.partition(" ")
    if made:
        yield f"sweep {rest}" if Path(program).name == "sweep" else made
    yield from (f"sweep {command} {results.study.name}" for command in ("report", "verdict", "export"))
