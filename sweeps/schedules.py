"""The learning-rate schedules of curves, as a small panel under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from sweeps.figure import plain
from trainer.config import TrainConfig
from trainer.schedule import lr_at

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
