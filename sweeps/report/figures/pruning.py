"""What stopping trials early saved and may have cost, and how far the predictions behind it can be trusted."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from sweeps.analysis.calibration import STAGES, Calibration
from sweeps.analysis.findings import Findings
from sweeps.analysis.pruning import Balance, trained
from sweeps.pruning.rule import Rule
from sweeps.report.figures.style import (
    BAND,
    BLACK,
    BLUE,
    GREY,
    VERMILION,
    Picture,
    figure,
    hover,
    nothing,
    padded,
    rows_figure,
)
from sweeps.store.records import Results
from sweeps.text import count, joined, percent_whole
from sweeps.verdict.cautions import pruning_sentence

_STAGES = dict(zip(STAGES, ((VERMILION, "dot"), (BLUE, "dash"), (BLACK, "solid")), strict=True))
_WIDE = {"l": 62, "r": 30, "t": 12, "b": 52}
"""margin with room for 100 % at the right end"""
_READING_OF_MISTAKES = (
    "Among the best: within {:g} nats of the best final loss of that moment, or in the best tenth of all trials. "
    "Sentinels are drawn by lot from the trials that would be stopped, and go on: the share of them that ends among "
    "the best estimates that of the stopped ones (bar: exact 95 % interval). Dashed, upright: {}, the chance below "
    "which the rule stops a trial."
)


def pictures(findings: Findings) -> tuple[Picture, ...]:
    """Those to which the study's pruner has something to say."""
    made = [] if findings.study.pruner.type == "none" else [cost(findings)]
    return (*made, *([] if findings.calibration is None else [predictions(findings.calibration)]))


def cost(findings: Findings) -> Picture:
    """What stopping trials saved, and how many of those stopped would have ended among the best."""
    key, title = "pruning-cost", "What stopping early saved, and what it may have cost"
    found, rule = findings.balance, findings.rule
    if not found.stopped and not found.sentinels:
        return nothing(key, title, pruning_sentence(findings) or "No trial of the sampler has ended yet.")
    parts: list[tuple[go.Figure, str]] = []
    if rule is not None and (found.sentinels or found.expected is not None):
        parts.append((_mistakes(found, rule), _READING_OF_MISTAKES.format(rule.margin, percent_whole(rule.epsilon))))
    if found.stopped:
        parts.append((_still_training(found), "The area above the line is the training saved."))
    if any(math.isfinite(one.final) and one.pruning.predicted is not None for one in found.sentinels):
        words = "Sentinels on the diagonal ended as expected, below it lower; dashed, level: the best final loss."
        parts.append((_sentinels(found, findings.results), words))
    figures, readings = zip(*parts, strict=True) if parts else ((), ())
    return Picture(
        key=key, title=title, summary=pruning_sentence(findings), reading=" ".join(readings), figures=figures
    )


def _mistakes(found: Balance, rule: Rule) -> go.Figure:
    made = rows_figure(
        "share that ends among the best",
        [f"{count(len(found.sentinels), 'sentinel')}, {found.mistakes} among the best", "the rule's own estimate"],
        showlegend=False,
    )
    top = 2 * rule.epsilon
    if found.interval is None:
        made.add_annotation(x=top / 2, y=0, text="not enough evidence", showarrow=False, bgcolor="white")
    else:
        low, high = found.interval
        share, top = found.mistakes / len(found.sentinels), max(top, high)
        made.add_trace(
            go.Scatter(
                x=[share],
                y=[0],
                mode="markers",
                error_x={
                    "array": [high - share],
                    "arrayminus": [share - low],
                    "color": BLUE,
                    "thickness": 2,
                    "width": 6,
                },
                marker={"color": BLUE, "symbol": "diamond", "size": 11},
                hovertemplate=f"{percent_whole(share)} ({percent_whole(low)} to "
                f"{percent_whole(high)}, 95 %)<extra></extra>",
            )
        )
    if found.expected is not None:
        mean = found.expected / len(found.stopped)
        text = f"{found.expected:.2g} of {count(len(found.stopped), 'stopped trial')}"
        made.add_trace(
            go.Scatter(
                x=[mean],
                y=[1],
                mode="markers",
                marker={"color": GREY, "symbol": "circle", "size": 11},
                hovertemplate=f"{percent_whole(mean)}: {text}<extra></extra>",
            )
        )
    made.add_vline(x=rule.epsilon, line={"color": BLACK, "width": 1, "dash": "dash"})
    return made.update_xaxes(range=[-0.03 * top, 1.05 * top], tickformat=".0%" if top > 0.1 else ".1%")


def _still_training(found: Balance) -> go.Figure:
    """Share of the trials not yet stopped, along the horizon."""
    ends = sorted(trained(run) for run in found.stopped)
    x = [0.0, *ends, 1.0]
    y = [1 - index / found.trials for index in range(len(ends) + 1)]
    made = figure("share of the horizon", "trials not stopped", height=360, showlegend=False, margin=_WIDE)
    made.add_trace(
        go.Scatter(
            x=x,
            y=[*y, y[-1]],
            mode="lines",
            line={"color": BLUE, "width": 2, "shape": "hv"},
            fill="tozeroy",
            fillcolor="rgba(0,114,178,0.12)",
            hovertemplate="%{y:.0%} of trials not stopped yet<extra></extra>",
        )
    )
    x_text, y_text = (ends[0] + 1) / 2, 1 - len(ends) / found.trials / 2
    made.add_annotation(
        x=x_text, y=y_text, text=f"{percent_whole(found.saved)} saved", showarrow=False, bgcolor="white"
    )
    made.update_xaxes(range=[0, 1], tickformat=".0%")
    return made.update_yaxes(range=[0, 1.03], tickformat=".0%")


def _sentinels(found: Balance, results: Results) -> go.Figure:
    """Where sentinels were expected to end, and where they did."""
    made = figure("expected final loss (nats)", "final loss (nats)", height=360)
    those = [
        (one, one.pruning.predicted)
        for one in found.sentinels
        if math.isfinite(one.final) and one.pruning.predicted is not None
    ]
    best = results.best
    seen = [value for one, predicted in those for value in (one.final, predicted)]
    if best is not None and best.val_loss is not None:
        seen.append(best.val_loss)
        made.add_hline(y=best.val_loss, line={"color": BLACK, "width": 1, "dash": "dash"})
    low, high = padded(min(seen), max(seen))
    made.add_trace(
        go.Scatter(
            x=[low, high],
            y=[low, high],
            mode="lines",
            line={"color": GREY, "width": 1},
            name="as expected",
            hoverinfo="skip",
            showlegend=False,
        )
    )
    for among, colour, symbol, name in (
        (False, BLUE, "diamond-open", "not among the best"),
        (True, VERMILION, "star", "among the best"),
    ):
        part = [(one, predicted) for one, predicted in those if one.among_best is among]
        if not part:
            continue
        made.add_trace(
            go.Scatter(
                x=[predicted for _, predicted in part],
                y=[one.final for one, _ in part],
                error_x={
                    "array": [(one.pruning.high or predicted) - predicted for one, predicted in part],
                    "arrayminus": [predicted - (one.pruning.low or predicted) for one, predicted in part],
                    "color": colour,
                    "thickness": 1,
                    "width": 0,
                },
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 10, "line": {"width": 2, "color": colour}},
                name=name,
                text=[f"{hover(one.run)}<br>expected {predicted:.4f}" for one, predicted in part],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    made.update_xaxes(range=(low, high))
    return made.update_yaxes(range=(low, high))


def predictions(found: Calibration) -> Picture:
    """Whether final losses fell below the rule's bounds as often as they should have."""
    key, title = "calibration", "How far the predictions can be trusted"
    if not found.stages:
        why = f"it takes {found.needed} complete trials to predict any, and there are {found.complete}"
        return nothing(key, title, f"Not enough evidence: {why}.")
    made = figure("probability of the bound", "final losses below it", margin=_WIDE)
    at = np.linspace(0, 1, 101)
    low, high = found.band(at)
    made.add_trace(
        go.Scatter(
            x=[*at, *at[::-1]],
            y=[*high, *low[::-1]],
            fill="toself",
            fillcolor=BAND,
            line={"width": 0},
            mode="lines",
            name=f"right, within the luck of {count(found.trials, 'trial')}",
            legendrank=3000,
            hoverinfo="skip",
        )
    )
    diagonal = {"x": [0, 1], "y": [0, 1], "mode": "lines", "line": {"color": GREY, "width": 1}}
    made.add_trace(go.Scatter(**diagonal, showlegend=False, hoverinfo="skip"))
    for stage in found.stages:
        colour, dash = _STAGES[stage.word]
        first, last = stage.evaluations
        made.add_trace(
            go.Scatter(
                x=at,
                y=stage.below(at),
                mode="lines",
                line={"color": colour, "width": 2, "dash": dash},
                name=stage.word,
                hovertemplate=f"{stage.word}, evaluations {first} to {last}: %{{y:.0%}} of final losses "
                "below the %{x:.0%} bound<extra></extra>",
            )
        )
    made.update_xaxes(range=[0, 1], tickformat=".0%")
    made.update_yaxes(range=[0, 1], tickformat=".0%")
    return Picture(
        key=key,
        title=title,
        summary=_predictions_summary(found),
        reading="Each complete trial is predicted again from all the other complete ones. Were predictions exactly "
        "right, lines would follow the diagonal; outside the grey band (95 %, at one place) they are off by more than "
        "luck. Steep in the middle: the rule doubts more than it need; flat in the middle: it is too sure. Trials "
        "count equally; stopped ones are left out, for nobody knows where they would have ended.",
        figures=(made,),
    )


def _predictions_summary(found: Calibration) -> str:
    low, high = map(percent_whole, found.interval)
    errors = joined(f"{stage.error:.3f} nats at {stage.word} looks" for stage in found.stages)
    return (
        f"{percent_whole(found.kept)} of final losses ended above the lower bound that promises "
        f"{percent_whole(found.promised)} (95 % interval by {count(found.trials, 'trial')}: {low} to {high}). "
        f"Half of the predictions missed by less than {errors}."
    )
