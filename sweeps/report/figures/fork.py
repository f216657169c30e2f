"""The pictures of a study of branches: the origin's curve that goes flat, the fork, and what goes on falling.

A branch's effect is so much smaller than the origin's fall that no single scale shows both. So the fork begins shortly
before the plateau, or as far back as branches go on, and the origin's whole run is a picture of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from sweeps.analysis.findings import Findings
from sweeps.report.figures.branch_lines import BEST, CONTROL, GOING_ON, KNOB, Branches, BranchLine, branches_of
from sweeps.report.figures.curves import LOSS, SKIPPED_SHARE, band_trace
from sweeps.report.figures.end_labels import MARGIN, EndLabel, add_end_labels
from sweeps.report.figures.style import (
    BAND,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    INK,
    VERMILION,
    WHITE,
    Picture,
    faded,
    literal,
    new_figure,
    no_picture,
    padded_range,
)
from sweeps.store.records import Results
from sweeps.study.start import TrainStart
from sweeps.text import count, joined, signed

ITERATIONS = "iterations of the origin"
_STYLES: dict[str, tuple[str, str, float]] = {
    GOING_ON: (BLACK, "dash", 1.8),
    CONTROL: (BLUE, "solid", 2),
    KNOB: (GREEN, "dashdot", 2),
    BEST: (VERMILION, "solid", 2.8),
}
"""colour, dash and width by kind of line"""
_HEIGHT = 330
_NAMED_AT = 0.3
"""share of the origin's run beside which its name stands"""
_BEFORE, _MARGIN = (0.6, 1.2), 0.02
"""iterations before the fork as shares of a branch's: with the origin's curve from the first to the second, without it
the third"""
_BEND = 0.3
"""what is shown before the plateau, as a share of its length, where there is room"""
_LEAST_SPAN = 0.02
"""nats; the fork's height, at least, so that an evaluation's noise doesn't look like an effect"""
_LABEL = 0.08
"""room for the plateau's name above the lines, as a share of the fork's height"""
_HEADROOM = 0.5
"""most that the origin's own fall adds to the fork's height, as a share of what the branches need"""


def fork_picture(findings: Findings) -> Picture:
    """Draw the fork: the origin before it, the origin going on, the control and the best config's branches.

    Before anything has branched, it is the origin's curve so far.
    """
    key, title = "fork", "The origin and its branches"
    branches = branches_of(findings)
    if not branches.curve and not branches.lines:
        return no_picture(key, title, _nothing(findings.results))
    return Picture(
        key=key,
        title=title,
        summary=_summary(findings, branches),
        reading=_reading(branches),
        figures=(_fork(branches) if branches.lines else _whole(branches),),
    )


def origin_picture(findings: Findings) -> Picture:
    """Draw the origin's whole run, with the place of the fork in it."""
    key, title = "origin", "The origin's whole run"
    branches = branches_of(findings)
    if not branches.curve:
        return no_picture(key, title, "The origin's own curve is not known.")
    box = " The box is what the picture of the fork shows." if branches.lines else ""
    return Picture(
        key=key,
        title=title,
        summary=_of_the_origin(findings.results, branches),
        reading=f"The figure opens after the first tenth of the run; a double click shows everything.{box}",
        figures=(_whole(branches),),
    )


# words


def _nothing(results: Results) -> str:
    if isinstance(results.study.start, TrainStart):
        return "The origin has not been evaluated yet, so there is nothing to branch from."
    return "No branch has been evaluated yet."


def _summary(findings: Findings, branches: Branches) -> str:
    parts = [_of_the_origin(findings.results, branches), *_of_the_branches(findings, branches)]
    return " ".join(parts)


def _of_the_origin(results: Results, branches: Branches) -> str:
    origin = results.study.origin
    if origin is None:
        run, last = branches.origin_run, branches.curve[-1]
        assert run is not None
        where = f"at iteration {last.step:,}"
        if run.unfinished:
            where += f" of at most {run.config.max_iters:,}"
        else:
            where = f"{run.outcome} {where}" + (f" ({run.reason})" if run.reason else "")
        return f"The origin's run is {where}, with {last.loss:.3f} nats. Nothing branches from it yet."
    if origin.plateau == "plateau" and origin.since is not None:
        return f"From iteration {origin.since:,} to the fork at {origin.step:,}, the origin is on a plateau."
    if origin.plateau == "improving":
        return f"At the fork, iteration {origin.step:,}, the origin is not on a plateau: it still improves."
    if origin.plateau == "undetermined":
        return f"Whether the origin is on a plateau at the fork, iteration {origin.step:,}, is not decided."
    return f"The origin is a checkpoint of iteration {origin.step:,}, without its curve."


def _of_the_branches(findings: Findings, branches: Branches) -> Sequence[str]:
    study = findings.study
    sentences = []
    if study.origin is not None and study.origin.going_on is not None:
        brings = study.origin.going_on
        verb = "lowers" if brings >= 0 else "raises"
        sentences.append(f"Going on as before {verb} the loss by {abs(brings):.3f} nats in {study.iters:,} iterations.")
    control = branches.line(CONTROL)
    ends = [
        f"{line.words} ends {abs(line.gain):.3f} nats {'lower' if line.gain >= 0 else 'higher'} "
        f"({count(len(line.seeds), 'seed')})"
        for line in (branches.line(BEST), branches.line(KNOB))
        if line is not None and line.gain is not None
    ]
    if ends:
        sentences.append(f"Against the control, {joined(ends)}.")
    elif control is not None:
        sentences.append(
            f"The control has run on {count(len(control.seeds), 'seed')}; nothing is compared with it yet."
        )
    elif study.origin is not None:
        sentences.append("No branch is complete yet.")
    return sentences


def _reading(branches: Branches) -> str:
    if not branches.lines:
        return "The figure opens after the first tenth of the run; a double click shows everything."
    parts = []
    trials = [line for line in branches.lines if line.kind != GOING_ON]
    if trials:
        parts.append(
            "A branch goes on from the origin's weights and moments; its step s is drawn at iteration "
            f"{branches.step:,} + s. The control is the branch with nothing changed. Lines are means over seeds, bands "
            "their range. A seed moves all branches alike, so bands that overlap may differ on every seed."
        )
    going_on = branches.line(GOING_ON)
    moved = [f"the branches by {signed(trials[0].shift)} nats"] if trials and branches.curve else []
    moved += (
        [f"the origin going on by {signed(going_on.shift)} nats"] if going_on and (trials or branches.curve) else []
    )
    if moved:
        parts.append(
            "Runs of different lengths are evaluated on different windows of the validation text. To meet at the fork, "
            f"lines are moved by a constant: {joined(moved)}."
        )
    if any(line.gain is not None for line in trials):
        parts.append("The numbers are final losses less the control's, on many more windows.")
    return " ".join(parts)


# figures


def _new_panel() -> go.Figure:
    """Return an empty panel whose ticks have room on a phone."""
    figure = new_figure(ITERATIONS, LOSS, height=_HEIGHT, showlegend=False)
    return figure.update_xaxes(nticks=4, tickformat=",d")


def _whole(branches: Branches) -> go.Figure:
    """Return the origin's whole curve, after its first tenth."""
    figure = _new_panel()
    curve = branches.curve
    late = [point.loss for point in curve if point.step >= SKIPPED_SHARE * curve[-1].step]
    ends = [loss for line in branches.lines for loss in line.means]
    low, high = padded_range(min(late + ends), max(late + ends))
    last = max([curve[-1].step, *(line.x[-1] for line in branches.lines)])
    _add_plateau(figure, branches, left=branches.since)
    _add_origin(figure, branches)
    named = next(point for point in curve if point.step >= _NAMED_AT * curve[-1].step)
    label: dict[str, Any] = {"text": "the origin", "showarrow": False, "xanchor": "left", "yanchor": "bottom"}
    figure.add_annotation(x=named.step, y=named.loss, xshift=4, yshift=2, **label)
    for line in branches.lines:
        figure.add_trace(_line_trace(line).update(line_width=1.5))
    if branches.lines:
        x, y = _fork_window(branches)
        corners: dict[str, Any] = {"x0": x[0], "x1": x[1], "y0": y[0], "y1": y[1]}
        figure.add_shape(type="rect", line={"color": GREY, "width": 1}, **corners)
    figure.update_yaxes(range=[low, high])
    return figure.update_xaxes(range=padded_range(0, last, share=0.02))


def _fork(branches: Branches) -> go.Figure:
    """Return the fork, with the labels of all lines at their ends."""
    x, (low, high) = _fork_window(branches)
    figure = _new_panel().update_layout(margin_r=MARGIN)
    if branches.curve:
        _add_plateau(figure, branches, left=None if branches.since is None else max(branches.since, x[0]))
    for line in branches.lines:
        if len(line.seeds) > 1:
            colour = faded(_STYLES[line.kind][0], 0.16)
            figure.add_trace(
                band_trace(line.x, line.lows, line.highs, name=f"{line.words}, range").update(fillcolor=colour)
            )
    _add_origin(figure, branches)
    for line in branches.lines:
        figure.add_trace(_line_trace(line))
    _add_fork_mark(figure, branches)
    figure.update_xaxes(range=x)
    figure.update_yaxes(range=[low, high])
    labels = [
        EndLabel(text=_end_text(line), x=line.x[-1], y=line.means[-1], colour=_STYLES[line.kind][0])
        for line in branches.lines
    ]
    return add_end_labels(figure, labels, low=low, high=high)


def _end_text(line: BranchLine) -> str:
    return line.label if line.gain is None else f"{line.label}\n{signed(-line.gain)} nats"


def _fork_window(branches: Branches) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ranges of x and y that show the branches whole, and some of the origin before them."""
    last = max([branches.step + 1.0, *(line.x[-1] for line in branches.lines)])
    first = branches.step - _before(branches, last - branches.step)
    values = [branches.level]
    for line in branches.lines:
        values += [*line.lows, *line.highs]
    low, high = min(values), max(values)
    before = [point.loss for point in branches.curve if point.step >= first]
    room = _HEADROOM * (high - low)
    low, high = max(min([low, *before]), low - room), min(max([high, *before]), high + room)
    more = max(0.0, _LEAST_SPAN - (high - low)) / 2
    bottom, top = padded_range(low - more, high + more, share=0.08)
    return (first, last), (bottom, top + _LABEL * (top - bottom))


def _before(branches: Branches, length: float) -> float:
    """Return how many of the origin's iterations stand before branches of this length: the plateau's bend, if near."""
    if not branches.curve:
        return _MARGIN * length
    since = branches.step if branches.since is None else branches.since
    least, most = (share * length for share in _BEFORE)
    return min(max(least, (1 + _BEND) * (branches.step - since)), most, branches.step)


def _add_origin(figure: go.Figure, branches: Branches) -> None:
    curve = branches.curve
    if not curve:
        return
    figure.add_trace(
        go.Scatter(
            x=[point.step for point in curve],
            y=[point.loss for point in curve],
            mode="lines",
            line={"color": BLACK, "width": 2.2},
            name="origin",
            hovertemplate="the origin<br>loss %{y:.4f} at iteration %{x:,}<extra></extra>",
        )
    )


def _add_plateau(figure: go.Figure, branches: Branches, *, left: float | None) -> None:
    if left is None:
        return
    figure.add_vrect(x0=left, x1=branches.step, fillcolor=BAND, line_width=0, layer="below")
    figure.add_annotation(
        x=branches.step, y=1, yref="y domain", xanchor="right", yanchor="top", text="plateau", showarrow=False
    )


def _add_fork_mark(figure: go.Figure, branches: Branches) -> None:
    figure.add_vline(x=branches.step, line={"color": GREY, "width": 1, "dash": "dot"}, layer="below")
    figure.add_trace(
        go.Scatter(
            x=[branches.step],
            y=[branches.level],
            mode="markers",
            marker={"color": WHITE, "size": 9, "line": {"color": INK, "width": 2}},
            name="fork",
            hovertemplate="the fork<br>loss %{y:.4f} at iteration %{x:,}<extra></extra>",
        )
    )
    figure.add_annotation(
        x=branches.step,
        y=0,
        yref="y domain",
        yanchor="bottom",
        xanchor="right" if branches.curve else "left",
        text=f"fork<br>at {branches.step:,}",
        align="right" if branches.curve else "left",
        xshift=-3 if branches.curve else 3,
        showarrow=False,
    )


def _line_trace(line: BranchLine) -> go.Scatter:
    colour, dash, width = _STYLES[line.kind]
    return go.Scatter(
        x=line.x,
        y=line.means,
        mode="lines",
        line={"color": colour, "dash": dash, "width": width},
        name=line.words,
        hovertemplate=f"{literal(line.words)}, {count(len(line.seeds), 'seed')}<br>loss %{{y:.4f}} at iteration "
        "%{x:,}<extra></extra>",
    )
