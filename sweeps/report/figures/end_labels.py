"""Labels at the right ends of lines, in place of a legend. Labels that would overlap are moved apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from scipy.optimize import isotonic_regression

from sweeps.report.figures.style import TEXT, VEIL, wrapped

MARGIN = 104
"""pixels to the right of a figure with labels, which leaves the lines more than half of a phone's width"""
_WIDTH = 14
"""characters per line of a label, about"""
_LINE, _GAP = 15, 4
"""pixels of a line of text, and between two labels"""


@dataclass(frozen=True, kw_only=True)
class EndLabel:
    """A label at the end of a line."""

    text: str
    """plain text, which may have line ends"""
    x: float
    y: float
    colour: str


def add_end_labels(figure: go.Figure, labels: Sequence[EndLabel], *, low: float, high: float) -> go.Figure:
    """Add labels to a figure whose y axis ranges from `low` to `high`; those at one x are moved apart."""
    inner = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    for x in dict.fromkeys(label.x for label in labels):
        column = [label for label in labels if label.x == x]
        texts = ["<br>".join(wrapped(line, width=_WIDTH) for line in label.text.splitlines()) for label in column]
        wanted = [(high - label.y) / (high - low) * inner for label in column]
        heights = [_LINE * (text.count("<br>") + 1) + _GAP for text in texts]
        for label, text, place, want in zip(column, texts, apart(wanted, heights, room=inner), wanted, strict=True):
            figure.add_annotation(
                x=x,
                y=label.y,
                text=text,
                font={"size": 12, "color": TEXT.get(label.colour, label.colour)},
                align="left",
                xanchor="left",
                xshift=5,
                yanchor="middle",
                yshift=want - place,
                showarrow=False,
                bgcolor=VEIL,
                borderpad=0,
            )
    return figure


def apart(wanted: Sequence[float], heights: Sequence[float], *, room: float) -> list[float]:
    """Return the centres nearest to those wanted (least squares) at which labels of these heights don't overlap.

    All are pixels from the top. Labels keep their order. They stay within `room`, unless they need more.
    """
    if not wanted:
        return []
    order = np.argsort(wanted, kind="stable")
    tall = np.asarray(heights, dtype=float)[order]
    # less the room of the labels above it, a centre may not be above the one before: an isotonic regression
    above = np.cumsum(tall) - tall / 2
    free = isotonic_regression(np.asarray(wanted, dtype=float)[order] - above).x
    placed = np.clip(free, 0, max(0.0, room - float(tall.sum()))) + above
    centres = np.empty(len(placed))
    centres[order] = placed
    return [float(centre) for centre in centres]
