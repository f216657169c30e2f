"""Settings of the best config beside the baseline's: the table of the report, and the lines for nanoGPT."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from sweeps.analysis.findings import Findings
from sweeps.report.markup import block, breakable, cell, head, number, row, row_head, table
from sweeps.store.records import Run
from sweeps.text import NOT_TRAINED, changes, perplexity, short
from sweeps.verdict.confirmed import knob_words
from sweeps.verdict.recommendation import confirmed_losses
from trainer.config import EXPORTABLE, TrainConfig

_HIDDEN = NOT_TRAINED | {"sampling", "vocab_size"}
_DOCS = {spec.name: spec.metadata["doc"] for spec in dataclasses.fields(TrainConfig)}


def settings_section(findings: Findings, best: Run) -> str:
    """Return the settings and losses of the baseline and the best, and the best's settings as nanoGPT has them."""
    attribution = findings.attribution
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
    return f"{table(caption, head(columns), rows, kind='settings')}\n{_nanogpt_settings(best.config)}"


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
        values = [number("–" if loss is None else in_unit(loss), value=loss) for loss in losses]
        no_verdict = [cell("", "aside")] if judged else []
        yield row([row_head(f"<strong>{name}</strong>", value=name), *values, *no_verdict, cell(meaning, "aside")])


def _setting_rows(best: TrainConfig, reference: TrainConfig | None, verdicts: Mapping[str, str]) -> Iterator[str]:
    """Yield a row per setting with the baseline's and the best's value; `verdicts`: words by knob."""
    baseline = {} if reference is None else reference.as_dict()
    changed = {} if reference is None else changes(best, reference)
    for name, value in best.as_dict().items():
        if name in _HIDDEN and name not in changed:
            continue
        cells = [
            row_head(f"<code>{breakable(name)}</code>", value=name),
            number(short(baseline.get(name)), value=baseline.get(name)),
            number(short(value), "new", value=value),
        ]
        if verdicts:
            cells.append(cell(verdicts.get(name, "follows from the knobs" if name in changed else ""), "words aside"))
        yield row([*cells, cell(_DOCS[name], "aside")], kind="changed" if name in changed else "")


def _nanogpt_settings(config: TrainConfig) -> str:
    settings = config.as_dict()
    note = "# the best trial's settings at the sweep's horizon; sweep export adapts them to a longer run"
    lines = [note, *(f"{name} = {settings[name]!r}" for name in EXPORTABLE)]
    heading = "<h4>As nanoGPT settings</h4>"
    return heading + block("\n".join(lines))
