"""All of the search's trials at once: parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from sweeps.analysis.finals import Final
from sweeps.analysis.findings import Findings
from sweeps.report.figures.slices import said
from sweeps.report.figures.style import GREY, INK, VERMILION, Picture, axis_name, figure, nothing, plain
from sweeps.store.records import Results
from sweeps.study.knobs import PARAM, RangeKnob
from sweeps.text import count, short


@dataclass(frozen=True, kw_only=True)
class ParallelAxis:
    """One row of the parallel coordinates."""

    name: str
    low: str
    high: str
    positions: tuple[float, ...]
    """a trial each, from 0 (low) to 1 (high)"""


def parallel_trials(findings: Findings) -> tuple[Final, ...]:
    """The search's trials that have a final loss, told or predicted, and a value of every knob."""
    params = {PARAM.get(name, name) for name in findings.study.sampled}
    return tuple(final for final in findings.finals if not final.diverged and params <= final.run.params.keys())


def parallel_axes(results: Results, known: Sequence[Final]) -> tuple[ParallelAxis, ...]:
    """The knobs' values of the trials and their final losses, each scaled to its own range (log where the knob is)."""
    axes = []
    for name, knob in results.study.sampled.items():
        values = [final.run.params[PARAM.get(name, name)] for final in known]
        axes.append(_axis(axis_name(name), values, log=isinstance(knob, RangeKnob) and knob.log))
    return (*axes, _axis("final loss", [final.loss for final in known], log=False))


def _axis(name: str, values: Sequence[float | int | str], *, log: bool) -> ParallelAxis:
    numbers = [math.log(float(value)) if log else float(value) for value in values]
    least, span = min(numbers), (max(numbers) - min(numbers)) or 1.0
    low, high = (short(values[numbers.index(end)]) for end in (least, max(numbers)))
    return ParallelAxis(name=name, low=low, high=high, positions=tuple((x - least) / span for x in numbers))


def parallel(findings: Findings) -> Picture:
    """Parallel coordinates, lying down so that names and values stay legible on a narrow screen."""
    key, title = "parallel", "All trials at once"
    known = parallel_trials(findings)
    told = [final for final in known if not final.imputed]
    if len(told) < 2:
        return nothing(key, title, "Nothing to draw yet: it takes two complete trials of the search.")
    axes = parallel_axes(findings.results, known)
    made = figure("", "", height=60 + 54 * len(axes), showlegend=False)
    losses, best = axes[-1].positions, findings.results.best
    ranks = np.argsort(np.argsort(losses)) / (len(known) - 1)
    colours = sample_colorscale("Cividis", [float(rank) * 0.85 for rank in ranks])
    for i in sorted(range(len(known)), key=lambda i: (not known[i].imputed, -losses[i])):
        chosen, imputed = known[i].run is best, known[i].imputed
        colour = VERMILION if chosen else GREY if imputed else colours[i]
        made.add_trace(
            go.Scatter(
                x=[axis.positions[i] for axis in axes],
                y=list(range(len(axes))),
                mode="lines+markers",
                line={"color": colour, "width": 3 if chosen else 1.2, "dash": "dot" if imputed else "solid"},
                marker={"size": 5, "symbol": "circle-open" if imputed else "circle"},
                opacity=1.0 if chosen else 0.75,
                text=[said(known[i])] * len(axes),
                hovertemplate="%{text}<extra></extra>",
            )
        )
    line = {"type": "line", "x0": 0, "x1": 1, "line": {"color": INK, "width": 1}, "layer": "below"}
    note = {"yanchor": "bottom", "yshift": 5, "showarrow": False, "bgcolor": "white", "opacity": 0.9}
    ends = ("left", "center", "right")
    texts = [(axis.low, f"<b>{plain(axis.name)}</b>", axis.high) for axis in axes]
    made.update_layout(
        shapes=[{**line, "y0": row, "y1": row} for row in range(len(axes))],
        annotations=[
            {**note, "x": x, "y": row, "text": text, "xanchor": anchor}
            for row in range(len(axes))
            for x, text, anchor in zip((0, 0.5, 1), texts[row], ends, strict=True)
        ],
    )
    made.update_xaxes(visible=False, range=[-0.02, 1.02])
    made.update_yaxes(visible=False, range=[len(axes) - 0.7, -0.7])
    made.update_layout(margin={"l": 14, "r": 14, "t": 8, "b": 8})
    early = f" and {len(known) - len(told)} that were stopped early" if len(known) > len(told) else ""
    return Picture(
        key=key,
        title=title,
        summary=f"{count(len(told), 'complete trial')}{early}; the thick line is the best, "
        f"{'' if best is None else best.label}.",
        reading="Each line is a trial; each row is a knob, from the lowest value tried on the left to the highest on "
        "the right. Dark lines ended low, light ones high; dotted grey ones were stopped early and lead to the loss "
        "that was predicted for them. Where dark lines bundle, good trials agree. Trials that diverged or never ran "
        "are not shown.",
        figures=(made,),
    )
