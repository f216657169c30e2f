"""Maps: final losses over two knobs that go together, learning rate with width and learning rate with weight decay.

Width calls for another rate (muP: Yang et al. 2022), and AdamW forgets over `1 / (learning_rate * weight_decay)`
iterations (Wang and Aitchison 2024), so that pairs on one line of the second map decay alike. Every trial is a mark and
nothing is drawn between them: all other knobs vary too, and a smooth surface would promise more than they know.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from sweeps.analysis.finals import Final, without_final
from sweeps.analysis.findings import Findings
from sweeps.report.figures.slices import axis_of, fenced, said
from sweeps.report.figures.style import BLACK, GREY, INK, SYMBOLS, VERMILION, Picture, axis_name, figure, hover, nothing
from sweeps.store.records import Run
from sweeps.study.knobs import RangeKnob
from sweeps.text import count, named, short

_X = "learning_rate"
_SCALE = [(step / 8, colour) for step, colour in enumerate(sample_colorscale("Cividis", np.linspace(0, 0.9, 9)))]
"""without its lightest end, which would vanish on white"""


@dataclass(frozen=True, kw_only=True)
class Timescale:
    """Where AdamW's weights are an average over one number of iterations: x * y = 1 / iterations, within the map."""

    iterations: int
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Map:
    """Final losses over the learning rate (x) and another knob (y), both ranges."""

    y: str
    """nanoGPT's name of the other knob"""
    ranges: tuple[RangeKnob, RangeKnob]
    """x, y"""
    finals: tuple[Final, ...]
    """of the search's trials, the lowest loss last, so that it stays on top where marks coincide"""
    without: tuple[Run, ...]
    """trials that ended without anything that could stand for a final loss"""
    best: Run | None
    baseline: tuple[float, float]
    timescales: tuple[Timescale, ...]
    """of weight decay alone"""


def map_data(findings: Findings, y: str) -> Map | None:
    """The map of the learning rate and knob `y`; None: the study doesn't sweep both over a range."""
    results = findings.results
    knobs = [results.study.sampled.get(name) for name in (_X, y)]
    ranges = [knob for knob in knobs if isinstance(knob, RangeKnob)]
    if len(ranges) < 2:
        return None
    known = [final for final in findings.finals if {_X, y} <= final.run.params.keys()]
    return Map(
        y=y,
        ranges=(ranges[0], ranges[1]),
        finals=tuple(sorted(known, key=lambda final: -final.loss)),
        without=tuple(run for run in without_final(results, findings.finals) if {_X, y} <= run.params.keys()),
        best=results.best,
        baseline=(float(results.study.knob_value(_X)), float(results.study.knob_value(y))),
        timescales=_timescales(*ranges) if y == "weight_decay" else (),
    )


def _timescales(rates: RangeKnob, decays: RangeKnob) -> tuple[Timescale, ...]:
    """One for each power of ten whose line crosses the map."""
    made = []
    for power in range(1, 9):
        start = max(float(rates.low), 1 / (10**power * float(decays.high)))
        end = min(float(rates.high), 1 / (10**power * float(decays.low)) if decays.low else math.inf)
        if start < end:
            x = np.geomspace(start, end, 33)
            made.append(Timescale(iterations=10**power, x=tuple(x.tolist()), y=tuple((1 / (10**power * x)).tolist())))
    return tuple(made)


def pictures(findings: Findings) -> tuple[Picture, ...]:
    """A map for each pair that the study sweeps."""
    maps = [(key, map_data(findings, y)) for key, y in (("map-width", "n_embd"), ("map-decay", "weight_decay"))]
    return tuple(_picture(key, one) for key, one in maps if one is not None)


def _picture(key: str, one: Map) -> Picture:
    title = f"Learning rate and {named(one.y)}"
    if one.best is None or {_X, one.y} - one.best.params.keys():
        return nothing(key, title, "Nothing to draw yet: no trial of the search is complete.")
    x, y = (short(one.best.params[name]) for name in (_X, one.y))
    summary = f"The best of {count(len(one.finals), 'trial')} is at {_X} {x}, {one.y} {y}"
    reading = (
        "A mark is a trial, its colour the final loss; where several coincide the lowest is on top. Open: stopped "
        "early, with the loss predicted for it. All other knobs vary too, so neighbours may differ for their sake."
    )
    if one.timescales:
        tau = 1 / (float(one.best.params[_X]) * float(one.best.params[one.y]))
        runs = short(float(f"{tau / one.best.config.max_iters:.2g}"))
        summary += f", where AdamW's weights average over τ = {tau:,.0f} iterations, {runs} times the length of its run"
        reading += " Grey lines: pairs of one τ = 1 ÷ (learning_rate × weight_decay), in iterations."
    return Picture(key=key, title=title, summary=f"{summary}.", reading=reading, figures=(_figure(one),))


def _figure(one: Map) -> go.Figure:
    made = figure(_X, axis_name(one.y), height=440)
    made.update_layout(legend={"y": -0.2, "yanchor": "top"})  # below: it may take several rows
    for scale in one.timescales:
        made.add_trace(_line(scale))
    seen = [final for final in one.finals if not final.diverged]
    low, high = fenced([final.loss for final in seen])
    losses: dict[str, Any] = {"colorscale": _SCALE, "cmin": low, "cmax": high}
    bar = {"thickness": 12, "title": {"text": "final<br>loss", "font": {"size": 12}}, "outlinewidth": 0}
    complete, imputed = ([final for final in seen if final.imputed is word] for word in (False, True))
    disc = {"symbol": "circle", "size": 12, "line": {"width": 1, "color": "white"}, "colorbar": bar}
    ring = {"symbol": "circle-open", "size": 11, "line": {"width": 2.5}}
    for those, name, marker in ((imputed, "stopped early", ring), (complete, "complete", disc)):
        coloured = {**losses, **marker, "color": [final.loss for final in those]}
        made.add_trace(_marks(one, [(final.run, said(final)) for final in those], "", coloured))
        if those:  # its place in the legend, in no loss's colour
            grey = {"symbol": marker["symbol"], "size": 10, "color": GREY}
            made.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=grey, name=name))
    cross = {"symbol": "x-thin", "size": 8, "line": {"width": 1.5, "color": GREY}}
    diverged = [(final.run, said(final)) for final in one.finals if final.diverged]
    made.add_trace(_marks(one, diverged, "diverged", cross))
    without = {"symbol": "triangle-down-open", "size": 8, "color": GREY}
    made.add_trace(_marks(one, [(run, hover(run)) for run in one.without], "no loss", without))
    square = {"symbol": "square-open", "size": 18, "color": BLACK, "line": {"width": 2}}
    made.add_trace(
        go.Scatter(
            x=[one.baseline[0]], y=[one.baseline[1]], mode="markers", marker=square, name="baseline", hoverinfo="skip"
        )
    )
    if one.best is not None:
        star = {"symbol": SYMBOLS["best"], "size": 16, "color": VERMILION, "line": {"width": 1, "color": "white"}}
        made.add_trace(_marks(one, [(one.best, hover(one.best))], "best", star))
    for update, knob in zip((made.update_xaxes, made.update_yaxes), one.ranges, strict=True):
        update(**axis_of(float(knob.low), float(knob.high), log=knob.log))
    return made


def _line(scale: Timescale) -> go.Scatter:
    """A time scale, named at its upper end."""
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


def _marks(one: Map, runs: Sequence[tuple[Run, str]], name: str, marker: dict[str, Any]) -> go.Scatter:
    return go.Scatter(
        x=[run.params[_X] for run, _ in runs],
        y=[run.params[one.y] for run, _ in runs],
        mode="markers",
        marker=marker,
        name=name,
        showlegend=bool(runs and name),
        text=[text for _, text in runs],
        hovertemplate="%{text}<extra></extra>",
        cliponaxis=False,
    )
