"""Loss curves: of every run, and each candidate's difference from the baseline's seeds.

Curves go by tokens, not iterations, because a batch size changes what an iteration is. The first
tenth of a run falls steeply and would squeeze the rest flat, so pictures open on what comes after
it; a double click shows all of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

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
    figure,
    hover,
    nothing,
    padded,
    plain,
    tukey_fence,
)
from sweeps.store.records import Outcome, Results, Run
from sweeps.text import count
from trainer.config import TrainConfig
from trainer.schedule import lr_at

TOKENS, LOSS = "tokens trained on", "validation loss (nats a token)"
_STOPPED = {
    Outcome.PRUNED: "x",
    Outcome.DIVERGED: "triangle-up",
    Outcome.TRUNCATED: "x",
    Outcome.FAILED: "x",
    Outcome.INFEASIBLE: "x",
}
_SKIPPED = 0.1
"""share of the horizon that a picture opens without"""
_STYLES = [(BLUE, "solid"), (GREEN, "dash"), (PURPLE, "dot"), (VERMILION, "dashdot"), (GREY, "longdash")]


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """Validation losses of one run on the small window set, its finite evaluations only."""

    run: Run
    kind: str
    """its origin, or best"""
    tokens: tuple[int, ...]
    losses: tuple[float, ...]
    """nats a token"""


def curve(run: Run, *, kind: str | None = None) -> LossCurve:
    """A run's curve, without evaluations that aren't finite."""
    points = [point for point in run.points if math.isfinite(point.val_loss)]
    return LossCurve(
        run=run,
        kind=kind or run.origin,
        tokens=tuple(point.tokens for point in points),
        losses=tuple(point.val_loss for point in points),
    )


def curves(results: Results) -> tuple[LossCurve, ...]:
    """All runs with at least one evaluation, those to be drawn in front last."""
    baseline = {run.id: "baseline" for run in results.baseline_runs}  # those of the confirm phase are among them
    best = results.best
    made = [curve(run, kind="best" if run is best else baseline.get(run.id)) for run in results.runs]
    front = list(KIND_NAMES)
    return tuple(sorted((one for one in made if one.tokens), key=lambda one: -front.index(one.kind)))


def zoom(shown: Sequence[LossCurve]) -> tuple[float, float] | None:
    """The range of losses worth opening on; None: no points.

    From the lowest loss up to where the middle run is after a tenth of the horizon, or to the complete
    runs' final losses if that is higher, outliers (above Tukey's fence) left out.
    """
    horizon = max((one.tokens[-1] for one in shown), default=0)
    late = [
        [loss for tokens, loss in zip(one.tokens, one.losses, strict=True) if tokens >= _SKIPPED * horizon]
        for one in shown
        if one.run.outcome != Outcome.DIVERGED
    ]
    late = [losses for losses in late if losses]
    if not late:
        return None
    finals = [losses[-1] for losses in late]
    fence = tukey_fence(finals)
    usual = max(final for final in finals if final <= fence)
    middle = float(np.median([losses[0] for losses in late]))
    return padded(min(min(losses) for losses in late), max(middle, usual))


def all_curves(results: Results) -> Picture:
    """Every run's validation loss against the tokens it trained on."""
    key, title = "loss-curves", "Loss curves of all runs"
    shown = curves(results)
    if not shown:
        return nothing(key, title, "No run has been evaluated yet.")
    made = figure(TOKENS, LOSS, height=480)
    named: set[str] = set()
    for one in shown:
        made.add_trace(drawn(one, named=one.kind not in named))
        named.add(one.kind)
    for word, symbol in (("stopped early", "x"), ("diverged", "triangle-up")):
        ends = [one for one in shown if _STOPPED.get(one.run.outcome) == symbol]
        if ends:
            made.add_trace(
                go.Scatter(
                    x=[one.tokens[-1] for one in ends],
                    y=[one.losses[-1] for one in ends],
                    mode="markers",
                    marker={"symbol": symbol, "size": 8, "color": [KIND_COLOURS[one.kind] for one in ends]},
                    name=word,
                    legendrank=2000,
                    hoverinfo="skip",
                )
            )
    made.update_yaxes(range=zoom(shown))
    complete = sum(one.run.outcome == Outcome.COMPLETE for one in shown)
    best = results.best
    lowest = "" if best is None else f"; the lowest final loss of the search is {best.val_loss:.3f} nats"
    return Picture(
        key=key,
        title=title,
        summary=f"{complete} of {count(len(shown), 'curve')} reached their horizon{lowest}.",
        reading="Evaluations are on fixed validation windows, the same for all runs. Dotted lines ended early, at "
        "the cross. The picture opens after the first tenth; a double click shows everything.",
        figures=(made,),
    )


def drawn(one: LossCurve, *, named: bool) -> go.Scatter:
    """The curve in the style of its kind; `named`: it stands for its kind in the legend."""
    front = one.kind in ("best", "baseline")
    return go.Scatter(
        x=one.tokens,
        y=one.losses,
        mode="lines" if len(one.tokens) > 1 else "markers",
        line={
            "color": KIND_COLOURS[one.kind],
            "width": 2.5 if one.kind == "best" else 1.6 if front else 1,
            "dash": "dot" if one.run.outcome in _STOPPED else "solid",
        },
        marker={"color": KIND_COLOURS[one.kind]},
        opacity=0.5 if one.kind == "confirm" else 1,
        name=KIND_NAMES[one.kind],
        legendgroup=one.kind,
        legendrank=1000 + list(KIND_NAMES).index(one.kind),
        showlegend=named,
        hovertemplate=hover(one.run) + "<br>loss %{y:.4f} at %{x:.4s} tokens<extra></extra>",
    )


def band(x: Iterable[int], low: Sequence[float], high: Sequence[float], *, name: str, **where: str) -> go.Scatter:
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
        **where,
    )


_HEIGHT, _GAP = 96, 34
"""pixels of the panel, and between it and the curves"""
_STEPS = 200
"""updates at which a schedule is drawn, about"""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """A run's learning rates along its tokens."""

    tokens: tuple[int, ...]
    """trained on before the update"""
    rates: tuple[float, ...]


def rates(config: TrainConfig) -> Rates:
    """The schedule at evenly spaced updates, the first, the last and its corners among them."""
    last = config.max_iters - 1
    even = np.linspace(0, last, min(_STEPS, config.max_iters)).round().astype(int).tolist()
    corners = [step for step in (config.warmup_iters, config.lr_decay_iters) if config.decay_lr and step <= last]
    steps = sorted({*even, *corners})
    return Rates(
        tokens=tuple(step * config.tokens_per_iter for step in steps),
        rates=tuple(lr_at(step, config) for step in steps),
    )


def add_schedules(made: go.Figure, shown: Sequence[tuple[str, TrainConfig, dict[str, Any]]]) -> go.Figure:
    """Put the schedules of configs under a figure of curves by tokens: each with its name and plotly's line."""
    height = made.layout.height + _HEIGHT + _GAP
    inner = height - made.layout.margin.t - made.layout.margin.b
    axis = made.layout.yaxis.to_plotly_json() | {"title": {"text": "learning<br>rate", "standoff": 10}}
    axis |= {"domain": [0, _HEIGHT / inner], "rangemode": "tozero", "nticks": 4, "tickformat": "~g", "range": None}
    made.update_layout(height=height, yaxis2=axis)
    made.update_layout(yaxis={"domain": [(_HEIGHT + _GAP) / inner, 1]}, xaxis={"anchor": "y2"})
    for name, config, line in shown:
        found = rates(config)
        made.add_trace(
            go.Scatter(
                x=found.tokens,
                y=found.rates,
                yaxis="y2",
                mode="lines",
                line=line,
                showlegend=False,
                hovertemplate=f"{plain(name)}<br>learning rate %{{y:.4~g}} at %{{x:.4s}} tokens<extra></extra>",
            )
        )
    return made
