"""Gaps of the races: how far each run from scratch is below the origin's own curve, along training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from sweeps.report.figures.curves import LINE_STYLES, SKIPPED_SHARE, band_trace
from sweeps.report.figures.end_labels import MARGIN, EndLabel, add_end_labels
from sweeps.report.figures.style import (
    BLACK,
    Picture,
    faded,
    literal,
    new_figure,
    no_picture,
    padded_range,
)
from sweeps.store.records import Results, Run
from sweeps.study import origin_runs
from sweeps.text import count, short, si, signed
from trainer.model.size import parameters

_ITERATIONS = "iterations of the origin, at equal tokens"
_GAP = "origin − race (nats; above 0 is better)"


@dataclass(frozen=True, kw_only=True)
class RaceGap:
    """One change against the origin's curve, at equal tokens: mean and range over the seeds."""

    label: str
    """the change"""
    parameters: int
    """of the changed model"""
    seconds: float
    """time for the iterations that are drawn, as a multiple of the origin's; NaN: not known"""
    seeds: tuple[int, ...]
    x: tuple[float, ...]
    """iterations of the origin with as many tokens"""
    means: tuple[float, ...]
    """the origin's loss - the race's, nats; above 0 is better"""
    lows: tuple[float, ...]
    highs: tuple[float, ...]


def race_gaps(results: Results) -> tuple[RaceGap, ...]:
    """Return the gap of every change that has been evaluated, in the order of the study."""
    origin = {seed: run for seed, run in results.origin_by_seed.items() if len(_curve(run)[0]) > 1}
    arms: dict[str, list[Run]] = {}
    for run in results.runs:
        if run.phase == origin_runs.RACE and run.knob is not None and len(_curve(run)[0]) > 1:
            arms.setdefault(run.key.split(":")[1], []).append(run)
    return tuple(_gap(runs, origin) for runs in arms.values()) if origin else ()


def _curve(run: Run) -> tuple[list[int], list[float]]:
    points = [point for point in run.points if math.isfinite(point.val_loss)]
    return [point.tokens for point in points], [point.val_loss for point in points]


def _gap(runs: Sequence[Run], origin: Mapping[int, Run]) -> RaceGap:
    """Return one change's gap: paired by seed where seeds are shared, else against the origin's mean."""
    shared = [run for run in runs if run.seed in origin] or list(runs)
    pairs = [(run, [origin[run.seed]] if run.seed in origin else list(origin.values())) for run in shared]
    last = min(_curve(run)[0][-1] for pair in pairs for run in (pair[0], *pair[1]))
    tokens = [place for place in _curve(shared[0])[0] if place <= last]
    gaps = np.array([_at(against, tokens).mean(axis=0) - _at([run], tokens)[0] for run, against in pairs])
    config, reference = shared[0].config, next(iter(origin.values())).config
    return RaceGap(
        label=f"{shared[0].knob} {short(config.as_dict()[shared[0].knob or ''])}",
        parameters=parameters(config),
        seconds=_times(pairs, last),
        seeds=tuple(run.seed for run in shared),
        x=tuple(place / reference.tokens_per_iter for place in tokens),
        means=tuple(gaps.mean(axis=0).tolist()),
        lows=tuple(gaps.min(axis=0).tolist()),
        highs=tuple(gaps.max(axis=0).tolist()),
    )


def _at(runs: Sequence[Run], tokens: Sequence[int]) -> NDArray[np.float64]:
    """Return (runs, tokens) losses, interpolated."""
    return np.array([np.interp(tokens, *_curve(run)) for run in runs])


def _times(pairs: Sequence[tuple[Run, Sequence[Run]]], last: int) -> float:
    """Return the races' time up to `last` tokens as a multiple of the origin's."""

    def seconds(run: Run) -> float:
        return float(np.interp(last, [point.tokens for point in run.points], [point.seconds for point in run.points]))

    origin = sum(float(np.mean([seconds(run) for run in against])) for _, against in pairs)
    return sum(seconds(run) for run, _ in pairs) / origin if origin > 0 else math.nan


def races_picture(results: Results) -> Picture:
    """Draw the gap of every race against the origin's own curve."""
    key, title = "races", "Races from scratch against the origin's curve"
    gaps = race_gaps(results)
    if not gaps:
        return no_picture(key, title, "No race has been evaluated beside the origin's curve yet.")
    return Picture(
        key=key,
        title=title,
        summary=_summary(gaps),
        reading="A race trains from scratch under the origin's own schedule and data order, with one change, and is "
        "compared with the origin's run on the same seed after as many tokens. Lines are means over seeds, bands "
        "their range. A race that is lower on every seed goes on to twice its length. The scale leaves out the first "
        "tenth.",
        figures=(_figure(gaps, results),),
    )


def _summary(gaps: Sequence[RaceGap]) -> str:
    return f"{'; '.join(_words(gap) for gap in sorted(gaps, key=lambda gap: -gap.means[-1]))}."


def _words(gap: RaceGap) -> str:
    end, half = gap.means[-1], gap.means[len(gap.x) // 2]
    time = "" if math.isnan(gap.seconds) else f", {gap.seconds:.2g} times the time"
    return (
        f"{gap.label} ({si(gap.parameters)} parameters{time}) is {abs(end):.3f} nats {'below' if end >= 0 else 'above'}"
        f" the origin at iteration {gap.x[-1]:,.0f} ({signed(half)} half-way; {count(len(gap.seeds), 'seed')})"
    )


def _figure(gaps: Sequence[RaceGap], results: Results) -> go.Figure:
    figure = new_figure(_ITERATIONS, _GAP, height=380, showlegend=False)
    figure.update_layout(margin_r=MARGIN)
    low, high = _visible(gaps)
    for number, gap in enumerate(gaps):
        colour, dash = LINE_STYLES[number % len(LINE_STYLES)]
        if len(gap.seeds) > 1:
            figure.add_trace(
                band_trace(gap.x, gap.lows, gap.highs, name=f"{gap.label}, range").update(fillcolor=faded(colour, 0.16))
            )
        figure.add_trace(
            go.Scatter(
                x=gap.x,
                y=gap.means,
                mode="lines",
                line={"color": colour, "dash": dash, "width": 2.2},
                name=gap.label,
                hovertemplate=f"{literal(gap.label)}, {count(len(gap.seeds), 'seed')}<br>%{{y:+.4f}} nats at iteration "
                "%{x:,}<extra></extra>",
            )
        )
    figure.add_hline(y=0, line={"color": BLACK, "width": 1.2})
    longest = max(gap.x[-1] for gap in gaps)
    figure.update_xaxes(range=[0, longest], nticks=5, tickformat=",d")
    figure.update_yaxes(range=[low, high])
    labels = [
        EndLabel(
            text=f"{gap.label}\n{si(gap.parameters)} params",
            x=gap.x[-1],
            y=gap.means[-1],
            colour=LINE_STYLES[number % len(LINE_STYLES)][0],
        )
        for number, gap in enumerate(gaps)
    ]
    size = next((parameters(run.config) for run in results.origin_by_seed.values()), None)
    own = "the origin" if size is None else f"the origin\n{si(size)} params"
    labels.append(EndLabel(text=own, x=longest, y=0.0, colour=BLACK))
    return add_end_labels(figure, labels, low=low, high=high)


def _visible(gaps: Sequence[RaceGap]) -> tuple[float, float]:
    """Return the range of 0 and of the gaps after the first tenth of the longest race."""
    first = SKIPPED_SHARE * max(gap.x[-1] for gap in gaps)
    values = [0.0]
    for gap in gaps:
        shown = [index for index, x in enumerate(gap.x) if x >= first]
        values += [value for index in shown for value in (gap.lows[index], gap.highs[index])]
    return padded_range(min(values), max(values), share=0.1)
