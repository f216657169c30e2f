"""Parallel coordinates of all of the search's trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from sweeps.analysis.finals import Final
from sweeps.analysis.findings import Findings
from sweeps.report.figures.sample import note_on, sample
from sweeps.report.figures.style import (
    GREY,
    INK,
    SHADES,
    TOP,
    VERMILION,
    WHITE,
    Picture,
    axis_name,
    final_hover,
    literal,
    new_figure,
    no_picture,
)
from sweeps.store.records import Results, Run
from sweeps.study.knobs import PARAM, RangeKnob
from sweeps.text import count, short


@dataclass(frozen=True, kw_only=True)
class ParallelAxis:
    """One row of the figure: a knob, or the final loss."""

    name: str
    low: str
    high: str
    positions: tuple[float, ...]
    """one per trial, from 0 (low) to 1 (high)"""


def parallel_trials(findings: Findings) -> tuple[Final, ...]:
    """Return the search's trials that have a final loss, told or predicted, and a value of every knob."""
    params = {PARAM.get(name, name) for name in findings.study.sampled}
    return tuple(final for final in findings.finals if not final.diverged and params <= final.run.params.keys())


def parallel_axes(results: Results, trials: Sequence[Final]) -> tuple[ParallelAxis, ...]:
    """Return the trials' values of each knob, then their final losses, each scaled to its own range.

    A knob with a log range is scaled by its logarithm.
    """
    axes = []
    for name, knob in results.study.sampled.items():
        values = [trial.run.params[PARAM.get(name, name)] for trial in trials]
        axes.append(_scaled(axis_name(name), values, log=isinstance(knob, RangeKnob) and knob.log))
    return (*axes, _scaled("final loss", [trial.loss for trial in trials], log=False))


def _scaled(name: str, values: Sequence[float | int | str], *, log: bool) -> ParallelAxis:
    numbers = [math.log(float(value)) if log else float(value) for value in values]
    least, span = min(numbers), (max(numbers) - min(numbers)) or 1.0
    low, high = (short(values[numbers.index(end)]) for end in (least, max(numbers)))
    return ParallelAxis(name=name, low=low, high=high, positions=tuple((x - least) / span for x in numbers))


def parallel_picture(findings: Findings) -> Picture:
    """Draw parallel coordinates with horizontal axes, which keeps names and values legible on a narrow screen."""
    key, title = "parallel", "Parallel coordinates of all trials"
    trials, best = parallel_trials(findings), findings.results.best
    complete = sum(not trial.imputed for trial in trials)
    if complete < 2:
        return no_picture(key, title, "Nothing to draw yet: this needs two complete trials of the search.")
    stopped = f" and {len(trials) - complete} that were stopped early" if len(trials) > complete else ""
    return Picture(
        key=key,
        title=title,
        summary=f"{count(complete, 'complete trial')}{stopped}; the thick line is the best, "
        f"{'' if best is None else best.label}.",
        reading="Each line is a trial. Each row is a knob, from the lowest value tried on the left to the highest on "
        "the right. Strong lines ended low, pale lines high. Dotted grey lines were stopped early and lead to their "
        "predicted loss. Where strong lines bundle, good trials agree. Trials that diverged or never ran "
        "are not shown." + note_on(len(trials)),
        figures=(_figure(parallel_axes(findings.results, trials), trials, best),),
    )


def _figure(axes: Sequence[ParallelAxis], trials: Sequence[Final], best: Run | None) -> go.Figure:
    figure = new_figure("", "", height=84 + 54 * len(axes), showlegend=False)
    losses = axes[-1].positions
    ranks = np.argsort(np.argsort(losses)) / (len(trials) - 1)
    colours = [SHADES[int(rank * (len(SHADES) - 1))] for rank in ranks]
    # stopped trials at the back, the lowest loss in front
    drawn = sample(range(len(trials)), lambda index: trials[index].run)
    for index in sorted(drawn, key=lambda index: (not trials[index].imputed, -losses[index])):
        trial = trials[index]
        chosen, imputed = trial.run is best, trial.imputed
        colour = VERMILION if chosen else GREY if imputed else colours[index]
        figure.add_trace(
            go.Scatter(
                x=[axis.positions[index] for axis in axes],
                y=list(range(len(axes))),
                mode="lines+markers",
                line={"color": colour, "width": 3 if chosen else 1.2, "dash": "dot" if imputed else "solid"},
                marker={"size": 5, "symbol": "circle-open" if imputed else "circle"},
                opacity=1.0 if chosen else 0.75,
                text=[final_hover(trial)] * len(axes),
                hovertemplate="%{text}<extra></extra>",
            )
        )
    _draw_axes(figure, axes)
    return figure


def _draw_axes(figure: go.Figure, axes: Sequence[ParallelAxis]) -> None:
    line = {"type": "line", "x0": 0, "x1": 1, "line": {"color": INK, "width": 1}, "layer": "below"}
    note = {"yanchor": "bottom", "yshift": 5, "showarrow": False, "bgcolor": WHITE, "opacity": 0.9}
    notes = [
        {**note, "x": x, "y": row, "text": text, "xanchor": anchor}
        for row, axis in enumerate(axes)
        for x, text, anchor in (
            (0, axis.low, "left"),
            (0.5, f"<b>{literal(axis.name)}</b>", "center"),
            (1, axis.high, "right"),
        )
    ]
    figure.update_layout(
        shapes=[{**line, "y0": row, "y1": row} for row in range(len(axes))],
        annotations=notes,
        margin={"l": 14, "r": 14, "t": TOP, "b": 8},
    )
    figure.update_xaxes(visible=False, range=[-0.02, 1.02])
    figure.update_yaxes(visible=False, range=[len(axes) - 0.7, -0.7])
