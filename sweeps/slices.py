"""The search's complete trials over its space: one knob at a time, and all of them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from sweeps.chosen import best_run, search_runs
from sweeps.figure import (
    BLACK,
    GREY,
    INK,
    KIND_COLOURS,
    SYMBOLS,
    VERMILION,
    Picture,
    axis_name,
    figure,
    hover,
    nothing,
    padded,
    plain,
)
from sweeps.knobs import PARAM, ChoicesKnob, RangeKnob
from sweeps.results import Results, Run
from sweeps.words import count, show


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One knob's values against final losses, over the search's complete trials."""

    knob: str
    param: str
    """its Optuna parameter"""
    log: bool
    choices: tuple[float | int, ...]
    """a knob of unordered values: all of them; empty for a range"""
    runs: tuple[Run, ...]
    ended_early: tuple[Run, ...]
    """trials without a final loss"""
    baseline: float | int
    """the baseline's value"""


def slice_data(results: Results) -> tuple[Slice, ...]:
    """One slice a knob, in the study's order."""
    trials = search_runs(results)
    made = []
    for name, knob in results.study.knobs.items():
        param = PARAM.get(name, name)
        having = [run for run in trials if param in run.params]
        made.append(
            Slice(
                knob=name,
                param=param,
                log=_is_log(knob),
                choices=knob.choices if isinstance(knob, ChoicesKnob) else (),
                runs=tuple(run for run in having if run.val_loss is not None),
                ended_early=tuple(run for run in having if run.val_loss is None and run.outcome != "running"),
                baseline=results.study.knob_value(name),
            )
        )
    return tuple(made)


def _is_log(knob: RangeKnob | ChoicesKnob) -> bool:
    return isinstance(knob, RangeKnob) and knob.log


def slices(results: Results) -> Picture:
    """One panel a knob: its values against the final loss."""
    key, title = "slices", "The search, knob by knob"
    data = [one for one in slice_data(results) if one.runs]
    if not data:
        return nothing(key, title, "Nothing to draw yet: no trial of the search is complete.")
    best = best_run(results)
    top = _fence([run.val_loss for one in data for run in one.runs if run.val_loss is not None])
    complete = {run.id for one in data for run in one.runs}
    early = {run.id for one in data for run in one.ended_early}
    ended = f", and {count(len(early), 'trial')} without one (crosses at the top)" if early else ""
    return Picture(
        key=key,
        title=title,
        summary=f"{count(len(complete), 'trial')} with a final loss{ended}; "
        f"the best is {'' if best is None else best.label}.",
        reading="Grey circles: the search. Black square and line: the baseline. Green triangles: that knob changed "
        "alone. Blue diamonds: advice. Star: the best. All knobs vary at once in the search, so a slope here is a "
        "hint, not an effect. Losses far above the rest are drawn at the top edge.",
        figures=tuple(_panel(one, best, top) for one in data),
    )


def _panel(one: Slice, best: Run | None, top: tuple[float, float]) -> go.Figure:
    made = figure(axis_name(one.knob), "final loss (nats)", height=290, showlegend=False)
    made.add_vline(x=_place(one, one.baseline), line={"color": BLACK, "width": 1, "dash": "dash"})
    kinds: dict[str, list[Run]] = {kind: [] for kind in SYMBOLS}
    for run in one.runs:
        emphasised = run.origin != "star" or run.knob == one.knob
        kinds["best" if run is best else run.origin if emphasised else "sampler"].append(run)
    for kind, runs in kinds.items():
        size = {"sampler": 7, "best": 14}.get(kind, 10)
        made.add_trace(
            go.Scatter(
                x=[_place(one, run.params[one.param]) for run in runs],
                y=[min(run.val_loss or 0.0, top[1]) for run in runs],
                mode="markers",
                marker={"color": KIND_COLOURS[kind], "symbol": SYMBOLS[kind], "size": size, "opacity": 0.85},
                text=[hover(run) for run in runs],
                hovertemplate="%{text}<extra></extra>",
                cliponaxis=False,
            )
        )
    made.add_trace(
        go.Scatter(
            x=[_place(one, run.params[one.param]) for run in one.ended_early],
            y=[top[1]] * len(one.ended_early),
            mode="markers",
            marker={"color": GREY, "symbol": "x-thin", "size": 7, "line": {"width": 1.5, "color": GREY}},
            text=[hover(run) for run in one.ended_early],
            hovertemplate="%{text}<extra></extra>",
            cliponaxis=False,
        )
    )
    made.update_yaxes(range=top)
    if one.log:
        made.update_xaxes(type="log", dtick="D2" if _decades(one) < 2 else 1, exponentformat="power")
    elif one.choices:
        made.update_xaxes(type="category", categoryorder="array", categoryarray=[show(value) for value in one.choices])
    return made


def _place(one: Slice, value: float | int | str) -> float | int | str:
    """Where a value goes on the axis: unordered ones by name."""
    return show(value) if one.choices else value


def _decades(one: Slice) -> float:
    values = [float(run.params[one.param]) for run in (*one.runs, *one.ended_early)]
    return math.log10(max(values) / min(values))


def _fence(losses: Sequence[float]) -> tuple[float, float]:
    """A range from the lowest loss to Tukey's upper fence (Q3 + 1.5 IQR), or to the highest if below it."""
    low, high = min(losses), max(losses)
    first, third = np.quantile(losses, [0.25, 0.75])
    return padded(low, min(high, float(third + 1.5 * (third - first)) or high))


@dataclass(frozen=True, kw_only=True)
class ParallelAxis:
    """One row of the parallel coordinates."""

    name: str
    low: str
    high: str
    positions: tuple[float, ...]
    """a trial each, from 0 (low) to 1 (high)"""


def parallel_axes(results: Results, runs: Sequence[Run]) -> tuple[ParallelAxis, ...]:
    """The knobs' values of `runs` and their final losses, each scaled to its own range (log where the knob is)."""
    axes = []
    for name, knob in results.study.knobs.items():
        values = [run.params[PARAM.get(name, name)] for run in runs]
        axes.append(_axis(axis_name(name), values, log=_is_log(knob)))
    return (*axes, _axis("final loss", [run.val_loss or 0.0 for run in runs], log=False))


def _axis(name: str, values: Sequence[float | int | str], *, log: bool) -> ParallelAxis:
    if any(isinstance(value, str) for value in values):
        order = sorted({str(value) for value in values})
        numbers = [float(order.index(str(value))) for value in values]
        low, high = order[0], order[-1]
    else:
        numbers = [math.log(float(value)) if log else float(value) for value in values]
        low, high = show(min(values)), show(max(values))
    least, span = min(numbers), (max(numbers) - min(numbers)) or 1.0
    return ParallelAxis(name=name, low=low, high=high, positions=tuple((x - least) / span for x in numbers))


def parallel(results: Results) -> Picture:
    """Parallel coordinates, lying down so that names and values stay legible on a narrow screen."""
    key, title = "parallel", "All complete trials at once"
    params = [PARAM.get(name, name) for name in results.study.knobs]
    runs = [
        run for run in search_runs(results) if run.val_loss is not None and all(name in run.params for name in params)
    ]
    if len(runs) < 2:
        return nothing(key, title, "Nothing to draw yet: it takes two complete trials of the search.")
    axes = parallel_axes(results, runs)
    made = figure("", "", height=60 + 62 * len(axes), showlegend=False)
    losses = axes[-1].positions
    ranks = np.argsort(np.argsort(losses)) / (len(runs) - 1)
    colours = sample_colorscale("Cividis", [float(rank) * 0.85 for rank in ranks])
    rows = list(range(len(axes)))
    for i in sorted(range(len(runs)), key=lambda i: -losses[i]):
        best = i == int(np.argmin(losses))
        made.add_trace(
            go.Scatter(
                x=[axis.positions[i] for axis in axes],
                y=rows,
                mode="lines+markers",
                line={"color": VERMILION if best else colours[i], "width": 3 if best else 1.2},
                marker={"size": 5},
                opacity=1.0 if best else 0.75,
                hovertemplate=hover(runs[i]) + "<extra></extra>",
            )
        )
    line = {"type": "line", "x0": 0, "x1": 1, "line": {"color": INK, "width": 1}, "layer": "below"}
    note = {"yanchor": "bottom", "yshift": 5, "showarrow": False, "bgcolor": "white", "opacity": 0.9}
    ends = ("left", "center", "right")
    texts = [(axis.low, f"<b>{plain(axis.name)}</b>", axis.high) for axis in axes]
    made.update_layout(
        shapes=[{**line, "y0": row, "y1": row} for row in rows],
        annotations=[
            {**note, "x": x, "y": row, "text": text, "xanchor": anchor}
            for row in rows
            for x, text, anchor in zip((0, 0.5, 1), texts[row], ends, strict=True)
        ],
    )
    made.update_xaxes(visible=False, range=[-0.02, 1.02])
    made.update_yaxes(visible=False, range=[len(axes) - 0.7, -0.7])
    made.update_layout(margin={"l": 14, "r": 14, "t": 8, "b": 8})
    best_of = best_run(results)
    return Picture(
        key=key,
        title=title,
        summary=f"{len(runs)} complete trials; the thick line is the best, {'' if best_of is None else best_of.label}.",
        reading="Each line is a trial; each row is a knob, from the lowest value tried on the left to the highest on "
        "the right. Dark lines ended low, light ones high. Where dark lines bundle, good trials agree.",
        figures=(made,),
    )
