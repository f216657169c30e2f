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

from sweeps import screening
from sweeps.chosen import baseline_runs, best_run
from sweeps.figure import (
    BAND,
    BLACK,
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
)
from sweeps.noise import noise_of
from sweeps.results import Results, Run
from sweeps.schedules import add_schedules
from sweeps.screened import ADVICE
from sweeps.words import advised, count, joined, signed
from trainer.config import TrainConfig

TOKENS, LOSS = "tokens trained on", "validation loss (nats a token)"
_STOPPED = {"pruned": "x", "diverged": "triangle-up", "truncated": "x", "failed": "x", "infeasible": "x"}
_SKIPPED = 0.1
"""share of the horizon that a picture opens without"""
_STYLES = [(BLUE, "solid"), (GREEN, "dash"), (PURPLE, "dot"), (VERMILION, "dashdot"), (GREY, "longdash")]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Validation losses of one run on the small window set, its finite evaluations only."""

    run: Run
    kind: str
    """its origin, or best"""
    tokens: tuple[int, ...]
    losses: tuple[float, ...]
    """nats a token"""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One run against the baseline's seeds, evaluation by evaluation."""

    run: Run
    tokens: tuple[int, ...]
    nats: tuple[float, ...]
    """the baseline's mean - the run's loss: positive is better"""
    half_widths: tuple[float, ...]
    """95 % interval of one more baseline run at each evaluation (pointwise); empty: noise unknown"""


def curve(run: Run, *, kind: str | None = None) -> Curve:
    """A run's curve, without evaluations that aren't finite."""
    points = [point for point in run.points if math.isfinite(point.val_loss)]
    return Curve(
        run=run,
        kind=kind or run.origin,
        tokens=tuple(point.tokens for point in points),
        losses=tuple(point.val_loss for point in points),
    )


def curves(results: Results) -> tuple[Curve, ...]:
    """All runs with at least one evaluation, those to be drawn in front last."""
    baseline = {run.id: "baseline" for run in baseline_runs(results)}  # those of the confirm phase are among them
    best = best_run(results)
    made = [curve(run, kind="best" if run is best else baseline.get(run.id)) for run in results.runs]
    front = list(KIND_NAMES)
    return tuple(sorted((one for one in made if one.tokens), key=lambda one: -front.index(one.kind)))


def zoom(shown: Sequence[Curve]) -> tuple[float, float] | None:
    """The range of losses worth opening on; None: no points.

    From the lowest loss up to where the middle run is after a tenth of the horizon, or to the complete
    runs' final losses if that is higher, outliers (above Tukey's fence, Q3 + 1.5 IQR) left out.
    """
    horizon = max((one.tokens[-1] for one in shown), default=0)
    late = [
        [loss for tokens, loss in zip(one.tokens, one.losses, strict=True) if tokens >= _SKIPPED * horizon]
        for one in shown
        if one.run.outcome != "diverged"
    ]
    late = [losses for losses in late if losses]
    if not late:
        return None
    finals = [losses[-1] for losses in late]
    first, third = np.quantile(finals, [0.25, 0.75])
    usual = max(final for final in finals if final <= third + 1.5 * (third - first))
    middle = float(np.median([losses[0] for losses in late]))
    return padded(min(min(losses) for losses in late), max(middle, usual))


def difference(run: Run, baseline: Sequence[Run]) -> Difference | None:
    """A run against the baseline's seeds at its own evaluations, between which theirs are interpolated.

    None: one of them has no evaluations.
    """
    mine, seeds = curve(run), [curve(one) for one in baseline]
    if not mine.tokens or not seeds or not all(one.tokens for one in seeds):
        return None
    last = min(one.tokens[-1] for one in seeds)
    kept = [(tokens, loss) for tokens, loss in zip(mine.tokens, mine.losses, strict=True) if tokens <= last]
    at = [tokens for tokens, _ in kept]
    theirs = np.array([np.interp(at, one.tokens, one.losses) for one in seeds])
    noises = [noise_of(column) for column in theirs.T.tolist()]
    widths = [noise.half_width() for noise in noises]
    return Difference(
        run=run,
        tokens=tuple(at),
        nats=tuple(noise.mean - loss for noise, (_, loss) in zip(noises, kept, strict=True)),
        half_widths=tuple(width or 0.0 for width in widths) if any(widths) else (),
    )


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
    complete = sum(one.run.outcome == "complete" for one in shown)
    best = best_run(results)
    lowest = "" if best is None else f"; the lowest final loss of the search is {best.val_loss:.3f} nats"
    return Picture(
        key=key,
        title=title,
        summary=f"{complete} of {count(len(shown), 'curve')} reached their horizon{lowest}.",
        reading="Evaluations are on fixed validation windows, the same for all runs. Dotted lines ended early, at "
        "the cross. The picture opens after the first tenth; a double click shows everything.",
        figures=(made,),
    )


def drawn(one: Curve, *, named: bool) -> go.Scatter:
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


def candidate_differences(results: Results) -> Picture:
    """How far each candidate is below or above the baseline's mean, as training goes on."""
    key, title = "candidates", "The advice against the baseline"
    effects = {effect.run.id: effect for effect in screening.screen(results).advice}
    baseline = baseline_runs(results)
    found = [difference(effect.run, baseline) for effect in effects.values()]
    shown = [one for one in found if one is not None and one.tokens]
    if not effects:
        return nothing(key, title, "The study names no candidates, or none has started.")
    if not shown:
        return nothing(key, title, "Nothing to compare yet: the baseline or the candidates have no complete curve.")
    seeds = [curve(run, kind="baseline") for run in baseline]
    lines = [curve(one.run) for one in shown]
    losses = figure(TOKENS, LOSS)
    for index, seed in enumerate(seeds):
        losses.add_trace(drawn(seed, named=not index))
    schedules: list[tuple[str, TrainConfig, dict[str, Any]]] = [
        ("baseline", seeds[0].run.config, {"color": BLACK, "width": 3})
    ]
    differences = figure(TOKENS, "baseline − run (nats; above 0 is better)")
    widest = max(shown, key=lambda one: len(one.half_widths))
    if widest.half_widths:
        low = [-width for width in widest.half_widths]
        differences.add_trace(band(widest.tokens, low, widest.half_widths, name="one more baseline run, 95 %"))
    differences.add_hline(y=0, line={"color": BLACK, "width": 1})
    for index, (one, line) in enumerate(zip(shown, lines, strict=True)):
        colour, dash = _STYLES[index % len(_STYLES)]
        style = {"color": colour, "width": 2, "dash": dash}
        shared = {"line": style, "name": plain(advised(one.run.label)), "mode": "lines"}
        schedules.append((advised(one.run.label), one.run.config, style))
        at = "%{x:.4s} tokens<extra></extra>"
        losses.add_trace(
            go.Scatter(
                x=line.tokens, y=line.losses, hovertemplate=f"{hover(one.run)}<br>loss %{{y:.4f}} at {at}", **shared
            )
        )
        template = f"{hover(one.run)}<br>%{{y:+.4f}} nats at {at}"
        differences.add_trace(go.Scatter(x=one.tokens, y=one.nats, hovertemplate=template, **shared))
    losses.update_layout(yaxis_range=zoom([*seeds, *lines]))
    add_schedules(losses, schedules)
    differences.update_yaxes(range=_zoom_differences(shown))
    words = [
        f"{advised(one.run.label)}: {ADVICE[effects[one.run.id].word]}"
        + ("" if effects[one.run.id].effect is None else f" ({signed(effects[one.run.id].effect or 0.0)} nats)")
        for one in shown
    ]
    return Picture(
        key=key,
        title=title,
        summary=f"At the end, {joined(words)}." if len(words) == 1 else f"At the end: {'; '.join(words)}.",
        reading="Upper: losses, and the learning rates under them. Lower: the baseline's mean minus each run; inside "
        "the grey band a baseline run with another seed would pass as well (95 %, one evaluation at a time). Words are "
        "decided on the final loss, for all comparisons together.",
        figures=(losses, differences),
    )


def _zoom_differences(shown: Sequence[Difference]) -> tuple[float, float]:
    horizon = max(one.tokens[-1] for one in shown)
    values = [0.0]
    for one in shown:
        for index, tokens in enumerate(one.tokens):
            if tokens >= _SKIPPED * horizon:
                width = one.half_widths[index] if one.half_widths else 0.0
                values += [one.nats[index], -width, width]
    return padded(min(values), max(values))
