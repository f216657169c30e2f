"""Maps of final losses over two knobs that interact: learning rate with width, learning rate with weight decay.

The best learning rate depends on the width (muP: Yang et al. 2022). AdamW averages over
`1 / (learning_rate * weight_decay)` iterations (Wang and Aitchison 2024), so pairs on one line of the second map decay
alike. Every trial is a mark, with nothing drawn in between: all other knobs vary too, and a smooth surface would
promise more than the trials show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from sweeps.analysis.finals import Final, without_final
from sweeps.analysis.findings import Findings
from sweeps.report.figures.sample import note_on, sample
from sweeps.report.figures.style import (
    BLACK,
    GREY,
    INK,
    SHADES,
    SYMBOLS,
    VERMILION,
    WHITE,
    Picture,
    axis_name,
    fenced_range,
    final_hover,
    hover,
    knob_axis,
    new_figure,
    no_picture,
)
from sweeps.store.records import Run
from sweeps.study.knobs import RangeKnob
from sweeps.text import count, named, short

_X = "learning_rate"
_SCALE = [(step / (len(SHADES) - 1), shade) for step, shade in enumerate(SHADES)]
"""colours of losses"""


@dataclass(frozen=True, kw_only=True)
class Timescale:
    """The line within the map on which AdamW averages over `iterations`: x * y = 1 / iterations."""

    iterations: int
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LossMap:
    """Final losses over the ranges of the learning rate (x) and another knob (y)."""

    y: str
    """nanoGPT's name of the knob"""
    ranges: tuple[RangeKnob, RangeKnob]
    """x, y"""
    finals: tuple[Final, ...]
    """the search's trials, the lowest loss last and so on top where marks coincide"""
    without: tuple[Run, ...]
    """trials that ended without a final loss, told or predicted"""
    best: Run | None
    baseline: tuple[float, float]
    """x, y"""
    timescales: tuple[Timescale, ...]
    """only for weight decay"""


def map_data(findings: Findings, y: str) -> LossMap | None:
    """Return the map of the learning rate and knob `y`; None: the study doesn't sweep both over a range."""
    results = findings.results
    knobs = [results.study.sampled.get(name) for name in (_X, y)]
    ranges = [knob for knob in knobs if isinstance(knob, RangeKnob)]
    if len(ranges) < 2:
        return None
    finals = [final for final in findings.finals if {_X, y} <= final.run.params.keys()]
    return LossMap(
        y=y,
        ranges=(ranges[0], ranges[1]),
        finals=tuple(sorted(finals, key=lambda final: -final.loss)),
        without=tuple(run for run in without_final(results, findings.finals) if {_X, y} <= run.params.keys()),
        best=results.best,
        baseline=(float(results.study.knob_value(_X)), float(results.study.knob_value(y))),
        timescales=tuple(_timescales(*ranges)) if y == "weight_decay" else (),
    )


def _timescales(rates: RangeKnob, decays: RangeKnob) -> Iterator[Timescale]:
    """Yield one per power of ten whose line crosses the map."""
    for power in range(1, 9):
        start = max(float(rates.low), 1 / (10**power * float(decays.high)))
        end = min(float(rates.high), 1 / (10**power * float(decays.low)) if decays.low else math.inf)
        if start < end:
            x = np.geomspace(start, end, 33)
            y = 1 / (10**power * x)
            yield Timescale(iterations=10**power, x=tuple(x.tolist()), y=tuple(y.tolist()))


def map_pictures(findings: Findings) -> tuple[Picture, ...]:
    """Draw a map for each of the two pairs that the study sweeps."""
    maps = (("map-width", map_data(findings, "n_embd")), ("map-decay", map_data(findings, "weight_decay")))
    return tuple(_map_picture(key, losses) for key, losses in maps if losses is not None)


def _map_picture(key: str, losses: LossMap) -> Picture:
    title = f"Learning rate and {named(losses.y)}"
    best = losses.best
    if best is None or {_X, losses.y} - best.params.keys():
        return no_picture(key, title, "Nothing to draw yet: no trial of the search is complete.")
    x, y = best.params[_X], best.params[losses.y]
    summary = f"The best of {count(len(losses.finals), 'trial')} is at {_X} {short(x)}, {losses.y} {short(y)}"
    reading = (
        "A mark is a trial, its colour the final loss; where several coincide the lowest is on top. Open marks were "
        "stopped early and have the colour of their predicted loss. All other knobs vary too, which may be why "
        "neighbours differ."
    )
    if losses.timescales:
        tau = 1 / (float(x) * float(y))
        lengths = short(float(f"{tau / best.config.max_iters:.2g}"))
        summary += f", where AdamW's weights average over τ = {tau:,.0f} iterations, "
        summary += f"{lengths} times the length of its run"
        reading += " Grey lines: pairs with the same τ = 1 ÷ (learning_rate × weight_decay), in iterations."
    reading += note_on(len(losses.finals))
    return Picture(key=key, title=title, summary=f"{summary}.", reading=reading, figures=(_map_figure(losses),))


def _map_figure(losses: LossMap) -> go.Figure:
    figure = new_figure(_X, axis_name(losses.y), height=440)
    for scale in losses.timescales:
        figure.add_trace(_timescale_trace(scale))
    figure.add_traces([*_loss_traces(losses), *_other_traces(losses)])
    x, y = losses.ranges
    figure.update_xaxes(**knob_axis(float(x.low), float(x.high), log=x.log))
    return figure.update_yaxes(**knob_axis(float(y.low), float(y.high), log=y.log))


def _timescale_trace(scale: Timescale) -> go.Scatter:
    """Return the line of a time scale, named at its upper end."""
    return go.Scatter(
        x=scale.x,
        y=scale.y,
        mode="lines+text",
        line={"color": GREY, "width": 1},
        text=[f"τ {scale.iterations:,}", *[""] * (len(scale.x) - 1)],
        textposition="top right",
        textfont={"size": 11, "color": INK},
        hoverinfo="skip",
        showlegend=False,
    )


def _loss_traces(losses: LossMap) -> Iterator[go.Scatter]:
    """Yield the trials whose colour is a final loss, told or predicted."""
    finite = [final for final in losses.finals if not final.diverged]
    low, high = fenced_range([final.loss for final in finite])
    scale: dict[str, Any] = {"colorscale": _SCALE, "cmin": low, "cmax": high}
    bar = {"thickness": 12, "title": {"text": "final<br>loss", "font": {"size": 12}}, "outlinewidth": 0}
    disc = {"symbol": "circle", "size": 12, "line": {"width": 1, "color": WHITE}, "colorbar": bar}
    ring = {"symbol": "circle-open", "size": 11, "line": {"width": 2.5}}
    stopped = [final for final in finite if final.imputed]
    complete = [final for final in finite if not final.imputed]
    for finals, name, marker in ((stopped, "stopped early", ring), (complete, "complete", disc)):
        drawn = sample(finals, lambda final: final.run)
        coloured = {**scale, **marker, "color": [final.loss for final in drawn]}
        yield _marks(losses.y, [(final.run, final_hover(final)) for final in drawn], "", coloured)
        if finals:  # the legend shows the symbol without a loss's colour
            grey = {"symbol": marker["symbol"], "size": 10, "color": GREY}
            yield go.Scatter(x=[None], y=[None], mode="markers", marker=grey, name=name)


def _other_traces(losses: LossMap) -> Iterator[go.Scatter]:
    """Yield trials without a loss, the baseline and the best."""
    cross = {"symbol": "x-thin", "size": 8, "line": {"width": 1.5, "color": GREY}}
    diverged = sample([final for final in losses.finals if final.diverged], lambda final: final.run)
    yield _marks(losses.y, [(final.run, final_hover(final)) for final in diverged], "diverged", cross)
    triangle = {"symbol": "triangle-down-open", "size": 8, "color": GREY}
    yield _marks(losses.y, [(run, hover(run)) for run in sample(losses.without, lambda run: run)], "no loss", triangle)
    square = {"symbol": "square-open", "size": 18, "color": BLACK, "line": {"width": 2}}
    x, y = losses.baseline
    yield go.Scatter(x=[x], y=[y], mode="markers", marker=square, name="baseline", hoverinfo="skip")
    if losses.best is not None:
        star = {"symbol": SYMBOLS["best"], "size": 16, "color": VERMILION, "line": {"width": 1, "color": WHITE}}
        yield _marks(losses.y, [(losses.best, hover(losses.best))], "best", star)


def _marks(y: str, runs: Sequence[tuple[Run, str]], name: str, marker: dict[str, Any]) -> go.Scatter:
    """Return marks of runs with their hover text, over the learning rate and knob `y`."""
    return go.Scatter(
        x=[run.params[_X] for run, _ in runs],
        y=[run.params[y] for run, _ in runs],
        mode="markers",
        marker=marker,
        name=name,
        showlegend=bool(runs and name),
        text=[text for _, text in runs],
        hovertemplate="%{text}<extra></extra>",
        cliponaxis=False,
    )
