"""Colours of the figures where the reader prefers dark, by the colour that stands in a figure.

Graphics have a contrast of at least 3:1 on the dark panel, texts of at least 4.5:1, as on white. Shades of losses
run the other way, so that the strong ones stay strong.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from plotly.colors import sample_colorscale

from sweeps.report.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    GRID,
    INK,
    PURPLE,
    SHADES,
    TEXT,
    VERMILION,
    WHITE,
)

DARK: Mapping[str, str] = {
    WHITE: "#161b22",
    BLACK: "#f0f3f6",
    INK: "#e6edf3",
    GRID: "#2f363e",
    BLUE: "#56b4e9",
    GREEN: "#2dc08d",
    VERMILION: "#f58a42",
    PURPLE: "#d98cb9",
    GREY: "#8b949e",
    TEXT[GREEN]: "#2dc08d",
    TEXT[VERMILION]: "#f58a42",
    TEXT[GREY]: "#a3abb3",
    **dict(zip(SHADES, sample_colorscale("Cividis", np.linspace(1, 0.2, len(SHADES))), strict=True)),
}
"""hex colours also stand for their translucent forms: rgba(0,114,178,0.16) becomes that of BLUE's dark colour"""
