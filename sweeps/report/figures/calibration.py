"""Calibration of the pruning rule's predictions: how often final losses fell below its bounds."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from sweeps.analysis.calibration import STAGES, Calibration
from sweeps.report.figures.style import (
    BAND,
    BLACK,
    BLUE,
    GREY,
    VERMILION,
    WIDE_MARGIN,
    Picture,
    new_figure,
    no_picture,
)
from sweeps.text import count, joined, percent_whole

_STAGES = dict(zip(STAGES, ((VERMILION, "dot"), (BLUE, "dash"), (BLACK, "solid")), strict=True))
"""colour and dash by stage"""


def calibration_picture(calibration: Calibration) -> Picture:
    """Draw whether final losses fell below the rule's bounds as often as they should have."""
    key, title = "calibration", "Calibration of the predicted losses"
    if not calibration.stages:
        why = f"any prediction needs {calibration.needed} complete trials, and there are {calibration.complete}"
        return no_picture(key, title, f"Not enough evidence: {why}.")
    return Picture(
        key=key,
        title=title,
        summary=_summary(calibration),
        reading="Each complete trial is predicted again from all other complete trials. If the predictions were "
        "exactly right, the lines would follow the diagonal. Outside the grey band (95 %, at one place) they are off "
        "by more than luck. Steep in the middle: the rule doubts more than it needs to. Flat in the middle: it is too "
        "sure. All trials count equally. Stopped trials are left out, because nobody knows where they would have "
        "ended." + _of_many(calibration),
        figures=(_figure(calibration),),
    )


def _of_many(calibration: Calibration) -> str:
    """Return the sentence, with a space before it, that says how many of very many trials take part."""
    if calibration.among == calibration.complete:
        return ""
    return f" Of {calibration.complete:,} complete trials, {calibration.among:,} at even distances take part."


def _summary(calibration: Calibration) -> str:
    low, high = map(percent_whole, calibration.interval)
    errors = joined(f"{stage.error:.3f} nats at {stage.word} looks" for stage in calibration.stages)
    return (
        f"{percent_whole(calibration.kept)} of final losses ended above the lower bound that promises "
        f"{percent_whole(calibration.promised)} (95 % interval by {count(calibration.trials, 'trial')}: {low} to "
        f"{high}). Half of the predictions missed by less than {errors}."
    )


def _figure(calibration: Calibration) -> go.Figure:
    figure = new_figure("probability of the bound", "final losses below it", margin=WIDE_MARGIN)
    bounds = np.linspace(0, 1, 101)
    low, high = calibration.band(bounds)
    figure.add_trace(
        go.Scatter(
            x=[*bounds, *bounds[::-1]],
            y=[*high, *low[::-1]],
            fill="toself",
            fillcolor=BAND,
            line={"width": 0},
            mode="lines",
            name=f"right, within the luck of {count(calibration.trials, 'trial')}",
            legendrank=3000,
            hoverinfo="skip",
        )
    )
    diagonal = {"x": [0, 1], "y": [0, 1], "mode": "lines", "line": {"color": GREY, "width": 1}}
    figure.add_trace(go.Scatter(**diagonal, showlegend=False, hoverinfo="skip"))
    for stage in calibration.stages:
        colour, dash = _STAGES[stage.word]
        first, last = stage.evaluations
        figure.add_trace(
            go.Scatter(
                x=bounds,
                y=stage.below(bounds),
                mode="lines",
                line={"color": colour, "width": 2, "dash": dash},
                name=stage.word,
                hovertemplate=f"{stage.word}, evaluations {first} to {last}: %{{y:.0%}} of final losses "
                "below the %{x:.0%} bound<extra></extra>",
            )
        )
    figure.update_xaxes(range=[0, 1], tickformat=".0%")
    return figure.update_yaxes(range=[0, 1], tickformat=".0%")
