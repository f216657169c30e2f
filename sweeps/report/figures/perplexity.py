"""Final perplexities of the baseline, the best trial and the candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from sweeps.report.figures.style import BLACK, KIND_COLOURS, SYMBOLS, Picture, hover, no_picture, rows_figure
from sweeps.store.records import Results, Run
from sweeps.text import advised, perplexity


@dataclass(frozen=True, kw_only=True)
class PerplexityRow:
    """One row of the figure."""

    label: str
    kind: str
    """baseline, best or candidate"""
    runs: tuple[Run, ...]
    perplexities: tuple[float, ...]
    """one per run"""


def perplexity_rows(results: Results) -> tuple[PerplexityRow, ...]:
    """Return rows for the baseline with all its seeds, the best trial, and each complete candidate."""
    best = results.best
    groups: list[tuple[str, str, tuple[Run, ...]]] = [("baseline", "baseline", results.baseline_runs)]
    if best is not None and best.origin != "baseline":
        groups.append((f"best ({advised(best.label)})", "best", (best,)))
    groups += [
        (f"advice: {advised(run.label)}", "candidate", (run,))
        for run in results.runs
        if run.origin == "candidate" and run.val_loss is not None and run is not best
    ]
    return tuple(
        PerplexityRow(
            label=label, kind=kind, runs=runs, perplexities=tuple(perplexity(run.val_loss or 0.0) for run in runs)
        )
        for label, kind, runs in groups
        if runs
    )


def perplexity_picture(results: Results) -> Picture:
    """Draw the final validation perplexity of the baseline's seeds, the best trial and the candidates."""
    key, title = "perplexity", "Final perplexity"
    rows = perplexity_rows(results)
    if not rows:
        return no_picture(key, title, "Nothing to draw yet: neither the baseline nor a candidate is complete.")
    words = [f"{row.label} at {float(np.exp(np.mean(np.log(row.perplexities)))):.4g}" for row in rows]
    return Picture(
        key=key,
        title=title,
        summary=f"Final perplexity: {'; '.join(words)}.",
        reading="exp of the final loss in nats per token. It is comparable only between runs with the same tokenizer "
        "and data. Dashed line: the baseline's mean loss, as perplexity.",
        figures=(_figure(rows),),
    )


def _figure(rows: Sequence[PerplexityRow]) -> go.Figure:
    figure = rows_figure("validation perplexity (lower is better)", [row.label for row in rows], showlegend=False)
    for number, row in enumerate(rows):
        figure.add_trace(
            go.Scatter(
                x=row.perplexities,
                y=[number] * len(row.runs),
                mode="markers",
                marker={"color": KIND_COLOURS[row.kind], "symbol": SYMBOLS[row.kind], "size": 11, "opacity": 0.7},
                text=[
                    f"{hover(run)}<br>perplexity {value:.5g}"
                    for run, value in zip(row.runs, row.perplexities, strict=True)
                ],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    if rows[0].kind == "baseline":
        mean = perplexity(float(np.mean([run.val_loss for run in rows[0].runs])))
        figure.add_vline(x=mean, line={"color": BLACK, "width": 1, "dash": "dash"})
    return figure
