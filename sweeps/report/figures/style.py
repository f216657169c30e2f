"""What all figures share: colours, layout, hover text, and the sentence that goes with each.

Colours are Okabe and Ito's (2008), told apart with any colour vision, and only those with at least
3:1 contrast on white; kinds also differ by symbol or dash, so nothing rests on colour alone.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from sweeps.store.records import Run
from sweeps.text import short

BLACK, BLUE, GREEN, VERMILION, PURPLE, GREY = "#000000", "#0072B2", "#009E73", "#D55E00", "#AA4F86", "#8C8C8C"
INK, GRID, BAND, INNER_BAND = "#24292f", "#e4e7eb", "rgba(0,0,0,0.07)", "rgba(0,0,0,0.10)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

KIND_COLOURS = {
    "best": VERMILION,
    "baseline": BLACK,
    "candidate": BLUE,
    "star": GREEN,
    "combined": GREEN,
    "confirm": PURPLE,
    "sampler": GREY,
}
KIND_NAMES = {
    "best": "best",
    "baseline": "baseline",
    "candidate": "advice",
    "star": "one knob changed",
    "combined": "those combined",
    "sampler": "search",
    "confirm": "confirm phase",
}
"""origin of a run (or best) → its name in a legend, in the order of drawing from the front"""
SYMBOLS = {
    "sampler": "circle",
    "baseline": "square",
    "candidate": "diamond",
    "star": "triangle-up",
    "combined": "triangle-down",
    "best": "star",
}
_RATIOS = {"min_lr": "min_lr ÷ learning_rate", "warmup_iters": "warmup_iters ÷ max_iters"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure, or several panels of one, and what it says."""

    key: str
    """for element and dashboard ids: letters and hyphens"""
    title: str
    summary: str
    """the conclusion in a sentence; where there's nothing to draw: why"""
    reading: str
    """how to read it"""
    figures: tuple[go.Figure, ...]
    """empty: nothing to draw"""


def nothing(key: str, title: str, why: str) -> Picture:
    """A picture that can't be drawn yet, with the reason."""
    return Picture(key=key, title=title, summary=why, reading="", figures=())


def figure(x_title: str, y_title: str, *, height: int = 420, **layout: Any) -> go.Figure:
    """An empty figure in the house's style; `layout` goes on top."""
    axis: dict[str, Any] = {
        "gridcolor": GRID,
        "linecolor": GREY,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": GREY,
        "automargin": True,
    }
    # in one go: each update of a layout takes plotly 15 ms
    style = {
        "template": "none",
        "height": height,
        "margin": {"l": 62, "r": 18, "t": 12, "b": 52},
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "hoverlabel": {"align": "left", "bgcolor": "white", "font": {"family": FONT, "size": 12, "color": INK}},
        "hovermode": "closest",
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "xaxis": {**axis, "title": {"text": x_title, "standoff": 10}, "tickangle": 0, "nticks": 7},
        "yaxis": {**axis, "title": {"text": y_title, "standoff": 10}},
    }
    return go.Figure(layout={**style, **layout})


def rows_figure(x_title: str, labels: Sequence[str], **layout: Any) -> go.Figure:
    """A figure of one row a label, first on top; row i is at y = i.

    Labels stand above their rows, inside the picture: beside it they'd take half of a narrow screen.
    """
    made = figure(x_title, "", height=100 + 42 * len(labels), margin={"l": 12, "r": 18, "t": 12, "b": 52}, **layout)
    made.update_yaxes(showgrid=False, showline=False, showticklabels=False, ticks="", range=[len(labels) - 0.6, -0.8])
    line = {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "line": {"color": GRID, "width": 1}, "layer": "below"}
    note: dict[str, Any] = {
        "x": 0.006,
        "xref": "x domain",
        "xanchor": "left",
        "yanchor": "bottom",
        "yshift": 7,
        "showarrow": False,
    }
    note |= {"font": {"size": 12}, "bgcolor": "rgba(255,255,255,0.8)", "borderpad": 1}
    made.update_layout(
        shapes=[{**line, "y0": row, "y1": row} for row in range(len(labels))],
        annotations=[{**note, "y": row, "text": plain(label)} for row, label in enumerate(labels)],
    )
    return made


def axis_name(knob: str) -> str:
    """A knob as the title of its axis: swept ratios are named as such."""
    return _RATIOS.get(knob, knob)


def plain(text: str) -> str:
    """Text that plotly shows as it is: its own markup (<b>, <a>) and placeholders (%{x}) switched off."""
    return html.escape(text, quote=False).replace("{", "&#123;")


def wrapped(text: str, *, width: int = 24) -> str:
    """Plain text broken at spaces into lines of about `width` characters, as plotly wants them."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(plain(line) for line in lines)


def hover(run: Run) -> str:
    """A run as the head of its hover text: what it is, how it ended, the trial's parameters."""
    loss = "" if run.val_loss is None else f", final loss {run.val_loss:.4f}"
    params = [f"{plain(name)} {plain(short(value))}" for name, value in run.params.items()]
    head = [f"<b>{wrapped(run.label, width=44)}</b>", f"trial {run.trial}, seed {run.seed}: {run.outcome}{loss}"]
    return "<br>".join([*head, *params])


def tukey_fence(values: Sequence[float]) -> float:
    """Tukey's upper fence (1977): the third quartile plus 1.5 times the distance between the quartiles."""
    first, third = np.quantile(values, [0.25, 0.75])
    return float(third + 1.5 * (third - first))


def padded(low: float, high: float, *, share: float = 0.05) -> tuple[float, float]:
    """A range with a little room on both sides; never empty."""
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room
