"""Expectations of the pruning rule: where it expected trials to end that it stopped, or would have stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from sweeps.report.figures.sample import sample
from sweeps.report.figures.style import (
    BLACK,
    GREY,
    PURPLE,
    faded,
    hover,
    new_figure,
    padded_range,
    tukey_fence,
    wrapped,
)
from sweeps.store.records import Pruning, Results, Run

FANS = 2
"""fans drawn among the curves; more would hide the curves"""
_FAN_COLOUR = faded(PURPLE, 0.18)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Final loss that the rule expected of a trial when it stopped it, or would have stopped it; nats."""

    run: Run
    pruning: Pruning
    predicted: float
    low: float
    high: float
    final: float | None
    """where a sentinel ended; None: stopped, or diverged"""

    @property
    def tokens(self) -> int:
        """Tokens trained on when it was decided."""
        return self.pruning.step * self.run.config.tokens_per_iter


def expectations(results: Results) -> tuple[Expectation, ...]:
    """Return the trials with a prediction, by trial number."""
    expected = []
    for run in results.runs:
        pruning = run.pruning
        if pruning is None or pruning.predicted is None or pruning.low is None or pruning.high is None:
            continue
        expected.append(
            Expectation(
                run=run,
                pruning=pruning,
                predicted=pruning.predicted,
                low=pruning.low,
                high=pruning.high,
                final=run.val_loss if pruning.sentinel else None,
            )
        )
    return tuple(sorted(expected, key=lambda expectation: expectation.run.trial))


def closest(expected: Sequence[Expectation]) -> tuple[Expectation, ...]:
    """Return the stopped trials whose lower bound was closest to the best loss of that moment, at most `FANS`."""
    stopped = [expectation for expectation in expected if not expectation.pruning.sentinel]
    return tuple(sorted(stopped, key=lambda trial: trial.low - (trial.pruning.best or 0.0))[:FANS])


def fan_traces(expectation: Expectation, *, named: bool) -> tuple[go.Scatter, go.Scatter]:
    """Return a fan among the curves, from where the trial was stopped to the rule's bounds at the horizon."""
    start = expectation.tokens
    end = expectation.run.config.max_iters * expectation.run.config.tokens_per_iter
    loss = expectation.pruning.val_loss
    bounds = go.Scatter(
        x=[start, end, end, start],
        y=[loss, expectation.high, expectation.low, loss],
        fill="toself",
        fillcolor=_FAN_COLOUR,
        line={"color": PURPLE, "width": 0.75},
        mode="lines",
        name="expected when stopped",
        legendgroup="fan",
        legendrank=2000,
        showlegend=named,
        hoverinfo="skip",
    )
    middle = go.Scatter(
        x=[start, end],
        y=[loss, expectation.predicted],
        mode="lines",
        line={"color": PURPLE, "width": 1.5, "dash": "dot"},
        legendgroup="fan",
        showlegend=False,
        hovertemplate=f"{_hover(expectation)}<extra></extra>",
    )
    return bounds, middle


def sentinels_trace(sentinels: Sequence[Expectation]) -> go.Scatter:
    """Return marks among the curves where sentinels would have been stopped."""
    return go.Scatter(
        x=[sentinel.tokens for sentinel in sentinels],
        y=[sentinel.pruning.val_loss for sentinel in sentinels],
        mode="markers",
        marker={"color": PURPLE, "symbol": "diamond-open", "size": 9, "line": {"width": 2, "color": PURPLE}},
        name="sentinel, not stopped here",
        legendrank=2001,
        text=[_hover(sentinel) for sentinel in sentinels],
        hovertemplate="%{text}<extra></extra>",
    )


def expectations_figure(expected: Sequence[Expectation]) -> go.Figure:
    """Draw all expectations by trial number, over the best final loss of the moment."""
    figure = new_figure("trial", "final loss (nats per token)")
    figure.add_trace(
        go.Scatter(
            x=[expectation.run.trial for expectation in expected],
            y=[expectation.pruning.best for expectation in expected],
            mode="lines",
            line={"color": BLACK, "width": 1.5, "dash": "dash", "shape": "hv"},
            name="best so far",
            hovertemplate="best so far %{y:.4f}<extra></extra>",
        )
    )
    drawn = sample(expected, lambda expectation: expectation.run)
    stopped = [expectation for expectation in drawn if not expectation.pruning.sentinel]
    sentinels = [expectation for expectation in drawn if expectation.pruning.sentinel]
    if stopped:
        figure.add_trace(_intervals(stopped, name="expected, stopped", colour=GREY, symbol="circle"))
    if sentinels:
        figure.add_trace(_intervals(sentinels, name="expected, sentinel", colour=PURPLE, symbol="diamond-open"))
    ended = [(sentinel, sentinel.final) for sentinel in sentinels if sentinel.final is not None]
    if ended:
        figure.add_trace(
            go.Scatter(
                x=[sentinel.run.trial for sentinel, _ in ended],
                y=[final for _, final in ended],
                mode="markers",
                marker={"color": PURPLE, "symbol": "star", "size": 11},
                name="where it ended",
                text=[_hover(sentinel) for sentinel, _ in ended],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    return figure.update_yaxes(range=_losses_range(expected))


def _losses_range(expected: Sequence[Expectation]) -> tuple[float, float]:
    """Return the range of the best and the final losses; predictions count up to Tukey's fence."""
    finals = [expectation.final for expectation in expected if expectation.final is not None]
    bests = [expectation.pruning.best for expectation in expected if expectation.pruning.best is not None]
    losses = [*(expectation.predicted for expectation in expected), *finals]
    fence = tukey_fence(losses)
    highest = max(loss for loss in losses if loss <= fence)
    return padded_range(min([*bests, *finals]), max(highest, *bests), share=0.15)


def _intervals(expected: Sequence[Expectation], *, name: str, colour: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        x=[expectation.run.trial for expectation in expected],
        y=[expectation.predicted for expectation in expected],
        error_y={
            "array": [expectation.high - expectation.predicted for expectation in expected],
            "arrayminus": [expectation.predicted - expectation.low for expectation in expected],
            "color": colour,
            "thickness": 1.5,
            "width": 0,
        },
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 8, "line": {"width": 2, "color": colour}},
        name=name,
        text=[_hover(expectation) for expectation in expected],
        hovertemplate="%{text}<extra></extra>",
    )


def _hover(expectation: Expectation) -> str:
    pruning = expectation.pruning
    return f"{hover(expectation.run)}<br>at iteration {pruning.step}: {wrapped(pruning.why, width=44)}"
