"""Style of all figures: colours, layout, axes, hover text, and the `Picture` that a figure is shown in.

The colours are from Okabe and Ito (2008), which can be told apart with any colour vision. Only those with a contrast of
at least 3:1 on white are used. Kinds also differ by symbol or dash, so nothing rests on colour alone. Figures are drawn
for a light page; `dark` has the colours that the page puts in their place where the reader prefers dark.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from sweeps.analysis.finals import Final
from sweeps.store.records import Run
from sweeps.study.proposals import ONE_AT_A_TIME
from sweeps.text import short

BLACK, BLUE, GREEN, VERMILION, PURPLE, GREY = "#000000", "#0072B2", "#009E73", "#D55E00", "#AA4F86", "#8C8C8C"
INK, GRID, BAND, INNER_BAND = "#24292f", "#e4e7eb", "rgba(0,0,0,0.07)", "rgba(0,0,0,0.10)"
WHITE, VEIL = "#ffffff", "rgba(255,255,255,0.8)"
"""the page, and what keeps a text on it legible over lines"""
TEXT = {GREEN: "#007a59", VERMILION: "#b34e00", GREY: "#6b6b6b"}
"""colours with a contrast of at least 4.5:1 on white, for texts; the other colours have it themselves"""
SHADES: tuple[str, ...] = tuple(sample_colorscale("Cividis", np.linspace(0, 0.9, 9)))
"""from strong to pale, for low to high losses, without the end of the scale that would vanish on white"""
TOP = 30
"""pixels above a plot, where plotly's tools appear"""
WIDE_MARGIN = {"l": 62, "r": 30, "t": TOP, "b": 52}
"""margin with room for a tick label of 100 % at the right end"""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

KIND_COLOURS = {
    "best": VERMILION,
    "baseline": BLACK,
    "candidate": BLUE,
    ONE_AT_A_TIME: GREEN,
    "combined": GREEN,
    "confirm": PURPLE,
    "sampler": GREY,
}
"""colour by kind: a run's origin, or best"""
KIND_NAMES = {
    "best": "best",
    "baseline": "baseline",
    "candidate": "advice",
    ONE_AT_A_TIME: "one knob changed",
    "combined": "knobs combined",
    "sampler": "search",
    "confirm": "confirm phase",
}
"""name in a legend by kind; the first kind is drawn in front"""
SYMBOLS = {
    "sampler": "circle",
    "baseline": "square",
    "candidate": "diamond",
    ONE_AT_A_TIME: "triangle-up",
    "combined": "triangle-down",
    "best": "star",
}
_RATIOS = {"min_lr": "min_lr ÷ learning_rate", "warmup_iters": "warmup_iters ÷ max_iters"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure, or several panels of one, with its conclusion in words."""

    key: str
    """for element and dashboard ids: letters and hyphens"""
    title: str
    summary: str
    """the conclusion in a sentence; without figures: the reason"""
    reading: str
    """how to read the figures"""
    figures: tuple[go.Figure, ...]
    """empty: nothing to draw"""


def no_picture(key: str, title: str, why: str) -> Picture:
    """Return a picture without figures, with the reason."""
    return Picture(key=key, title=title, summary=why, reading="", figures=())


def new_figure(x_title: str, y_title: str, *, height: int = 420, **layout: Any) -> go.Figure:
    """Return an empty figure in the report's style; `layout` overrides it."""
    axis: dict[str, Any] = {
        "gridcolor": GRID,
        "linecolor": GREY,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": GREY,
        "automargin": True,
    }
    # one dict, because each update of a layout takes plotly 15 ms
    style = {
        "template": "none",
        "height": height,
        "margin": {"l": 62, "r": 18, "t": TOP, "b": 52},
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": WHITE,
        "plot_bgcolor": WHITE,
        "hoverlabel": {"align": "left", "bgcolor": WHITE, "font": {"family": FONT, "size": 12, "color": INK}},
        "hovermode": "closest",
        "legend": {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom", "font": {"size": 12}},
        "xaxis": {
            **axis,
            "title": {"text": x_title, "standoff": 10, "font": {"size": 13}},
            "tickangle": 0,
            "nticks": 7,
        },
        "yaxis": {**axis, "title": {"text": y_title, "standoff": 10, "font": {"size": 13}}},
    }
    return go.Figure(layout={**style, **layout})


def rows_figure(x_title: str, labels: Sequence[str], **layout: Any) -> go.Figure:
    """Return an empty figure with one row per label, the first on top; row i is at y = i.

    Labels stand above their rows, inside the figure. Beside the rows they would take half of a narrow screen.
    """
    figure = new_figure(
        x_title, "", height=100 + 42 * len(labels), margin={"l": 12, "r": 18, "t": TOP, "b": 52}, **layout
    )
    figure.update_yaxes(showgrid=False, showline=False, showticklabels=False, ticks="", range=[len(labels) - 0.6, -0.8])
    line = {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "line": {"color": GRID, "width": 1}, "layer": "below"}
    note: dict[str, Any] = {
        "x": 0.006,
        "xref": "x domain",
        "xanchor": "left",
        "yanchor": "bottom",
        "yshift": 7,
        "showarrow": False,
    }
    note |= {"font": {"size": 12}, "bgcolor": VEIL, "borderpad": 1}
    figure.update_layout(
        shapes=[{**line, "y0": row, "y1": row} for row in range(len(labels))],
        annotations=[{**note, "y": row, "text": literal(label)} for row, label in enumerate(labels)],
    )
    return figure


def axis_name(knob: str) -> str:
    """Return the title of a knob's axis; a knob swept as a ratio is named as that ratio."""
    return _RATIOS.get(knob, knob)


def faded(colour: str, alpha: float) -> str:
    """Return a colour such as #0072B2 with an opacity, as plotly takes it."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def literal(text: str) -> str:
    """Return text that plotly shows unchanged: its markup (<b>, <a>) and placeholders (%{x}) are escaped."""
    return html.escape(text, quote=False).replace("{", "&#123;")


def wrapped(text: str, *, width: int = 24) -> str:
    """Return `literal` text, broken at spaces into lines of about `width` characters that plotly understands."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(literal(line) for line in lines)


def hover(run: Run) -> str:
    """Return the head of a run's hover text: its label, its outcome and the trial's parameters."""
    loss = "" if run.val_loss is None else f", final loss {run.val_loss:.4f}"
    params = [f"{literal(name)} {literal(short(value))}" for name, value in run.params.items()]
    head = [f"<b>{wrapped(run.label, width=44)}</b>", f"trial {run.trial}, seed {run.seed}: {run.outcome}{loss}"]
    return "<br>".join([*head, *params])


def final_hover(final: Final) -> str:
    """Return a trial's hover text, with the predicted loss if the trial was stopped early."""
    predicted = f"<br>predicted final loss {final.loss:.4f}" if final.imputed else ""
    return f"{hover(final.run)}{predicted}"


def tukey_fence(values: Sequence[float]) -> float:
    """Return Tukey's upper fence (1977): the third quartile plus 1.5 times the distance between the quartiles."""
    first, third = np.quantile(values, [0.25, 0.75])
    return float(third + 1.5 * (third - first))


def padded_range(low: float, high: float, *, share: float = 0.05) -> tuple[float, float]:
    """Return the range with `share` of its width added on both sides; never empty."""
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room


def fenced_range(losses: Sequence[float]) -> tuple[float, float]:
    """Return a padded range from the lowest loss to the highest, or to Tukey's upper fence if that is lower."""
    low, high = min(losses), max(losses)
    return padded_range(low, min(high, tukey_fence(losses) or high))


def knob_axis(low: float, high: float, *, log: bool) -> dict[str, Any]:
    """Return plotly's settings of an axis over a knob's whole range."""
    if not log:
        return {"range": padded_range(low, high)}
    log_low, log_high = math.log10(low), math.log10(high)
    ticks = "D2" if log_high - log_low < 2 else 1
    return {"type": "log", "range": padded_range(log_low, log_high), "dtick": ticks, "exponentformat": "power"}
