"""The best config against the baseline: mean and range of their losses over seeds, the plateau and the horizon marked.

It leads the report of a study from scratch, as the fork leads that of a study of branches.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from sweeps.analysis.findings import Findings
from sweeps.report.figures.best_curve import Comparison, comparison
from sweeps.report.figures.curves import LOSS, SKIPPED_SHARE, TOKENS, LossCurve, band_trace, zoom
from sweeps.report.figures.end_labels import MARGIN, EndLabel, add_end_labels
from sweeps.report.figures.style import (
    BAND,
    GREY,
    KIND_COLOURS,
    Picture,
    faded,
    literal,
    new_figure,
    no_picture,
    padded_range,
)
from sweeps.text import count, signed

_HEIGHT = 330


@dataclass(frozen=True, kw_only=True)
class Side:
    """One config's losses over its seeds, on the first seed's evaluations."""

    kind: str
    """baseline or best"""
    label: str
    seeds: int
    tokens: tuple[int, ...]
    means: tuple[float, ...]
    """nats per token"""
    lows: tuple[float, ...]
    highs: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class HeadToHead:
    """Both sides, and what is marked."""

    baseline: Side
    best: Side
    since: int | None
    """tokens at which the plateau of most of the baseline's seeds begins, the median; None: most are on none"""
    horizon: int
    """tokens of a trial of the baseline"""
    iters: int
    gain: float | None
    """mean final loss of the baseline - that of the best, nats; None: not known"""


def head_to_head(curves: Comparison) -> HeadToHead:
    """Return both sides; the best's is of fresh seeds where there are any."""
    config = curves.seeds[0].run.config
    best = curves.fresh or (curves.winner,)
    starts = [part.tokens[0] for part in curves.stuck if part.tokens]
    stuck = 2 * len(starts) > len(curves.seeds)
    ends = [[curve.run.val_loss for curve in side if curve.run.val_loss is not None] for side in (curves.seeds, best)]
    return HeadToHead(
        baseline=_side("baseline", "baseline", curves.seeds),
        best=_side("best", "best config" if curves.fresh else "best so far", best),
        since=round(statistics.median(starts)) if stuck else None,
        horizon=config.max_iters * config.tokens_per_iter,
        iters=config.max_iters,
        gain=statistics.fmean(ends[0]) - statistics.fmean(ends[1]) if all(ends) else None,
    )


def _side(kind: str, label: str, curves: Sequence[LossCurve]) -> Side:
    tokens = curves[0].tokens
    losses = np.array([np.interp(tokens, curve.tokens, curve.losses) for curve in curves])
    return Side(
        kind=kind,
        label=label,
        seeds=len(curves),
        tokens=tokens,
        means=tuple(losses.mean(axis=0).tolist()),
        lows=tuple(losses.min(axis=0).tolist()),
        highs=tuple(losses.max(axis=0).tolist()),
    )


def head_to_head_picture(findings: Findings) -> Picture:
    """Draw the baseline and the best config with their bands."""
    key, title = "head-to-head", "The best config against the baseline"
    best = findings.to_train
    curves = None if best is None else comparison(findings.results, best)
    if curves is None:
        return no_picture(key, title, "Nothing to compare yet: the baseline and a trial must be complete first.")
    shown = head_to_head(curves)
    plateau = " Shaded: most of the baseline's seeds are on a plateau there." if shown.since is not None else ""
    return Picture(
        key=key,
        title=title,
        summary=_summary(shown),
        reading="Lines are means over seeds, bands their range. The figure opens after the first tenth; a double "
        f"click shows everything.{plateau} The dotted line is the trials' horizon.",
        figures=(_figure(shown, curves),),
    )


def _summary(shown: HeadToHead) -> str:
    seeds = f"{count(shown.baseline.seeds, 'seed')} of the baseline, {shown.best.seeds} of the best"
    if shown.gain is None:
        return f"The best config's curve beside the baseline's ({seeds})."
    verb = "lower" if shown.gain >= 0 else "higher"
    return f"The best config ends {abs(shown.gain):.3f} nats {verb} than the baseline ({seeds})."


def _figure(shown: HeadToHead, curves: Comparison) -> go.Figure:
    figure = new_figure(TOKENS, LOSS, height=_HEIGHT, showlegend=False).update_layout(margin_r=MARGIN)
    last = max(shown.baseline.tokens[-1], shown.best.tokens[-1], shown.horizon)
    low, high = zoom([*curves.seeds, *(curves.fresh or (curves.winner,))]) or padded_range(0, 1)
    if shown.since is not None:
        figure.add_vrect(x0=shown.since, x1=last, fillcolor=BAND, line_width=0, layer="below")
        _note(figure, shown.since, "plateau", xanchor="left", y=1, yanchor="top")
    figure.add_vline(x=shown.horizon, line={"color": GREY, "width": 1, "dash": "dot"}, layer="below")
    _note(figure, shown.horizon, f"horizon, {shown.iters:,} iterations", xanchor="right", y=1, yanchor="top")
    labels = []
    for side in (shown.baseline, shown.best):
        figure.add_traces(_traces(side))
        gained = side.kind == "best" and shown.gain is not None
        text = f"{side.label}\n{signed(-(shown.gain or 0.0))} nats" if gained else side.label
        labels.append(EndLabel(text=text, x=side.tokens[-1], y=side.means[-1], colour=KIND_COLOURS[side.kind]))
    figure.update_xaxes(range=[SKIPPED_SHARE * last, last], nticks=5)
    figure.update_yaxes(range=[low, high])
    return add_end_labels(figure, labels, low=low, high=high)


def _traces(side: Side) -> list[go.Scatter]:
    """Return the band of a side with several seeds, and its line."""
    colour = KIND_COLOURS[side.kind]
    line = go.Scatter(
        x=side.tokens,
        y=side.means,
        mode="lines" if len(side.tokens) > 1 else "markers",
        line={"color": colour, "width": 2.5},
        name=side.label,
        hovertemplate=f"{literal(side.label)}, {count(side.seeds, 'seed')}<br>loss %{{y:.4f}} at %{{x:.4s}} tokens"
        "<extra></extra>",
    )
    if side.seeds < 2:
        return [line]
    band = band_trace(side.tokens, side.lows, side.highs, name=f"{side.label}, range")
    return [band.update(fillcolor=faded(colour, 0.16)), line]


def _note(figure: go.Figure, x: float, text: str, *, xanchor: str, y: float, yanchor: str) -> None:
    figure.add_annotation(x=x, xanchor=xanchor, y=y, yref="y domain", yanchor=yanchor, text=text, showarrow=False)
