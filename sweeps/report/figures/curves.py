"""Loss curves of all runs, and the learning-rate schedules under them.

The x axis is tokens, not iterations, because a batch size changes what an iteration is. The first tenth of a run falls
so steeply that it would flatten the rest, so figures open on what comes after it. A double click shows everything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from sweeps.report.figures.sample import note_on, sample
from sweeps.report.figures.style import (
    BAND,
    BLUE,
    GREEN,
    GREY,
    KIND_COLOURS,
    KIND_NAMES,
    PURPLE,
    VERMILION,
    Picture,
    hover,
    literal,
    new_figure,
    no_picture,
    padded_range,
    tukey_fence,
)
from sweeps.store.records import Outcome, Results, Run
from sweeps.text import count
from trainer.config import TrainConfig
from trainer.schedule import lr_at

TOKENS, LOSS = "tokens trained on", "validation loss (nats per token)"
SKIPPED_SHARE = 0.1
"""share of the horizon that figures open without"""
LINE_STYLES = [(BLUE, "solid"), (GREEN, "dash"), (PURPLE, "dot"), (VERMILION, "dashdot"), (GREY, "longdash")]
_END_SYMBOLS = {
    Outcome.PRUNED: "x",
    Outcome.DIVERGED: "triangle-up",
    Outcome.TRUNCATED: "x",
    Outcome.FAILED: "x",
    Outcome.INFEASIBLE: "x",
}
"""symbol at the end of a curve that stopped before its horizon"""
_PANEL_HEIGHT, _PANEL_GAP = 96, 34
"""pixels of the schedules' panel, and between it and the curves"""
_SCHEDULE_POINTS = 200
"""updates at which a schedule is drawn, about"""


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """Validation losses of one run on the small set of windows, without evaluations that aren't finite."""

    run: Run
    kind: str
    """the run's origin, or best"""
    tokens: tuple[int, ...]
    losses: tuple[float, ...]
    """nats per token"""


@dataclass(frozen=True, kw_only=True)
class ScheduleLine:
    """Learning rates of a run along its tokens."""

    tokens: tuple[int, ...]
    """trained on before the update"""
    rates: tuple[float, ...]


def loss_curve(run: Run, *, kind: str | None = None) -> LossCurve:
    """Return a run's curve; `kind` replaces its origin."""
    points = [point for point in run.points if math.isfinite(point.val_loss)]
    return LossCurve(
        run=run,
        kind=kind or run.origin,
        tokens=tuple(point.tokens for point in points),
        losses=tuple(point.val_loss for point in points),
    )


def loss_curves(results: Results) -> tuple[LossCurve, ...]:
    """Return the curves of all trials with an evaluation, those drawn in front last."""
    kinds = {run.id: "baseline" for run in results.baseline_runs}  # includes those of the confirm phase
    if results.best is not None:
        kinds[results.best.id] = "best"
    curves = [loss_curve(run, kind=kinds.get(run.id)) for run in results.runs if not run.before_trials]
    front = list(KIND_NAMES)
    return tuple(sorted((curve for curve in curves if curve.tokens), key=lambda curve: -front.index(curve.kind)))


def zoom(curves: Sequence[LossCurve]) -> tuple[float, float] | None:
    """Return the range of losses to open on; None: no points.

    The range begins at the lowest loss. It ends at the median run's loss after a tenth of the horizon, or at the
    highest last loss if that is higher. Last losses above Tukey's fence are ignored.
    """
    horizon = max((curve.tokens[-1] for curve in curves), default=0)
    late = [
        [loss for tokens, loss in zip(curve.tokens, curve.losses, strict=True) if tokens >= SKIPPED_SHARE * horizon]
        for curve in curves
        if curve.run.outcome != Outcome.DIVERGED
    ]
    late = [losses for losses in late if losses]
    if not late:
        return None
    last = [losses[-1] for losses in late]
    fence = tukey_fence(last)
    highest = max(loss for loss in last if loss <= fence)
    median = float(np.median([losses[0] for losses in late]))
    return padded_range(min(min(losses) for losses in late), max(median, highest))


def schedule_line(config: TrainConfig) -> ScheduleLine:
    """Return the schedule at evenly spaced updates, with the first, the last and its corners."""
    last = config.max_iters - 1
    even = np.linspace(0, last, min(_SCHEDULE_POINTS, config.max_iters)).round().astype(int).tolist()
    corners = [step for step in (config.warmup_iters, config.lr_decay_iters) if config.decay_lr and step <= last]
    steps = sorted({*even, *corners})
    return ScheduleLine(
        tokens=tuple(step * config.tokens_per_iter for step in steps),
        rates=tuple(lr_at(step, config) for step in steps),
    )


def curves_picture(results: Results) -> Picture:
    """Draw every run's validation loss against the tokens it was trained on."""
    key, title = "loss-curves", "Loss curves of all runs"
    curves = loss_curves(results)
    if not curves:
        return no_picture(key, title, "No run has been evaluated yet.")
    complete = sum(curve.run.outcome == Outcome.COMPLETE for curve in curves)
    best = results.best
    lowest = "" if best is None else f"; the lowest final loss of the search is {best.val_loss:.3f} nats"
    return Picture(
        key=key,
        title=title,
        summary=f"{complete} of {count(len(curves), 'curve')} reached their horizon{lowest}.",
        reading="Evaluations are on fixed validation windows, the same for all runs. Dotted lines ended early, at "
        "the cross. The figure opens after the first tenth; a double click shows everything." + note_on(len(curves)),
        figures=(_figure(curves),),
    )


def _figure(curves: Sequence[LossCurve]) -> go.Figure:
    figure = new_figure(TOKENS, LOSS, height=480)
    named: set[str] = set()
    drawn = sample(curves, lambda curve: curve.run)
    for curve in drawn:
        figure.add_trace(curve_trace(curve, named=curve.kind not in named))
        named.add(curve.kind)
    for name, symbol in (("stopped early", "x"), ("diverged", "triangle-up")):
        ends = [curve for curve in drawn if _END_SYMBOLS.get(curve.run.outcome) == symbol]
        if ends:
            figure.add_trace(
                go.Scatter(
                    x=[curve.tokens[-1] for curve in ends],
                    y=[curve.losses[-1] for curve in ends],
                    mode="markers",
                    marker={"symbol": symbol, "size": 8, "color": [KIND_COLOURS[curve.kind] for curve in ends]},
                    name=name,
                    legendrank=2000,
                    hoverinfo="skip",
                )
            )
    return figure.update_yaxes(range=zoom(curves))


def curve_trace(curve: LossCurve, *, named: bool) -> go.Scatter:
    """Return the curve in the style of its kind; `named`: it stands for its kind in the legend."""
    widths = {"best": 2.5, "baseline": 1.6}
    return go.Scatter(
        x=curve.tokens,
        y=curve.losses,
        mode="lines" if len(curve.tokens) > 1 else "markers",
        line={
            "color": KIND_COLOURS[curve.kind],
            "width": widths.get(curve.kind, 1),
            "dash": "dot" if curve.run.outcome in _END_SYMBOLS else "solid",
        },
        marker={"color": KIND_COLOURS[curve.kind]},
        opacity=0.5 if curve.kind == "confirm" else 1,
        name=KIND_NAMES[curve.kind],
        legendgroup=curve.kind,
        legendrank=1000 + list(KIND_NAMES).index(curve.kind),
        showlegend=named,
        hovertemplate=hover(curve.run) + "<br>loss %{y:.4f} at %{x:.4s} tokens<extra></extra>",
    )


def band_trace(x: Iterable[float], low: Sequence[float], high: Sequence[float], *, name: str) -> go.Scatter:
    """Return a grey band between two lines."""
    x = list(x)
    return go.Scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        fill="toself",
        fillcolor=BAND,
        line={"width": 0},
        mode="lines",
        name=name,
        legendrank=3000,
        hoverinfo="skip",
    )


def add_schedules(figure: go.Figure, schedules: Sequence[tuple[str, TrainConfig, dict[str, Any]]]) -> go.Figure:
    """Add a panel with the configs' learning rates under a figure of curves by tokens.

    `schedules`: name, config and plotly's line settings of each.
    """
    height = figure.layout.height + _PANEL_HEIGHT + _PANEL_GAP
    inner = height - figure.layout.margin.t - figure.layout.margin.b
    axis = figure.layout.yaxis.to_plotly_json() | {"title": {"text": "learning<br>rate", "standoff": 10}}
    axis |= {"domain": [0, _PANEL_HEIGHT / inner], "rangemode": "tozero", "nticks": 4, "tickformat": "~g"}
    axis |= {"range": None}
    figure.update_layout(height=height, yaxis2=axis)
    figure.update_layout(yaxis={"domain": [(_PANEL_HEIGHT + _PANEL_GAP) / inner, 1]}, xaxis={"anchor": "y2"})
    for name, config, line in schedules:
        schedule = schedule_line(config)
        figure.add_trace(
            go.Scatter(
                x=schedule.tokens,
                y=schedule.rates,
                yaxis="y2",
                mode="lines",
                line=line,
                showlegend=False,
                hovertemplate=f"{literal(name)}<br>learning rate %{{y:.4~g}} at %{{x:.4s}} tokens<extra></extra>",
            )
        )
    return figure
