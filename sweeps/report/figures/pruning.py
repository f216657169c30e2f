"""Balance of stopping trials early: the training it saved, and the good trials it may have lost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import plotly.graph_objects as go

from sweeps.analysis.findings import Findings
from sweeps.analysis.pruning import Balance, Sentinel, trained
from sweeps.pruning.rule import Rule
from sweeps.report.figures.sample import note_on, sample
from sweeps.report.figures.style import (
    BLACK,
    BLUE,
    GREY,
    VERMILION,
    WHITE,
    WIDE_MARGIN,
    Picture,
    faded,
    hover,
    new_figure,
    no_picture,
    padded_range,
    rows_figure,
)
from sweeps.text import count, percent_whole
from sweeps.verdict.cautions import pruning_sentence

_READING_OF_MISTAKES = (
    "Among the best: within {:g} nats of the best final loss of that moment, or in the best tenth of all trials. "
    "Sentinels are drawn at random from the trials that would be stopped, and go on. The share of sentinels that end "
    "among the best estimates that share of the stopped trials (bar: exact 95 % interval). Dashed, vertical: {}, the "
    "chance below which the rule stops a trial."
)


def cost_picture(findings: Findings) -> Picture:
    """Draw what stopping trials saved, and how many of those stopped would have ended among the best."""
    key, title = "pruning-cost", "Savings and cost of stopping early"
    balance, sentence = findings.balance, pruning_sentence(findings)
    if not balance.stopped and not balance.sentinels:
        return no_picture(key, title, sentence or "No trial of the sampler has ended yet.")
    panels = list(_panels(findings))
    return Picture(
        key=key,
        title=title,
        summary=sentence,
        reading=" ".join(reading for _, reading in panels),
        figures=tuple(figure for figure, _ in panels),
    )


def _panels(findings: Findings) -> Iterator[tuple[go.Figure, str]]:
    """Yield the panels that have data, each with how to read it."""
    balance, rule = findings.balance, findings.rule
    if rule is not None and (balance.sentinels or balance.expected is not None):
        yield (
            _mistakes_figure(balance, rule),
            _READING_OF_MISTAKES.format(rule.margin, percent_whole(rule.epsilon)),
        )
    if balance.stopped:
        yield _training_figure(balance), "The area above the line is the training saved."
    predicted = _predicted_sentinels(balance)
    if predicted:
        best = None if findings.results.best is None else findings.results.best.val_loss
        yield (
            _sentinels_figure(predicted, best=best),
            "Sentinels on the diagonal ended as expected, those below it lower. "
            "Dashed, horizontal: the best final loss." + note_on(len(predicted)),
        )


def _mistakes_figure(balance: Balance, rule: Rule) -> go.Figure:
    """Draw the share of sentinels that ended among the best, and the share that the rule expected."""
    sentinels = count(len(balance.sentinels), "sentinel")
    labels = [f"{sentinels}, {balance.mistakes} among the best", "the rule's own estimate"]
    figure = rows_figure("share that ends among the best", labels, showlegend=False)
    top = 2 * rule.epsilon
    if balance.interval is None:
        figure.add_annotation(x=top / 2, y=0, text="not enough evidence", showarrow=False, bgcolor=WHITE)
    else:
        low, high = balance.interval
        figure.add_trace(_share_trace(balance.mistakes / len(balance.sentinels), low, high))
        top = max(top, high)
    if balance.expected is not None:
        mean = balance.expected / len(balance.stopped)
        text = f"{balance.expected:.2g} of {count(len(balance.stopped), 'stopped trial')}"
        figure.add_trace(
            go.Scatter(
                x=[mean],
                y=[1],
                mode="markers",
                marker={"color": GREY, "symbol": "circle", "size": 11},
                hovertemplate=f"{percent_whole(mean)}: {text}<extra></extra>",
            )
        )
    figure.add_vline(x=rule.epsilon, line={"color": BLACK, "width": 1, "dash": "dash"})
    return figure.update_xaxes(range=[-0.03 * top, 1.05 * top], tickformat=".0%" if top > 0.1 else ".1%")


def _share_trace(share: float, low: float, high: float) -> go.Scatter:
    interval = f"{percent_whole(low)} to {percent_whole(high)}, 95 %"
    return go.Scatter(
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
        hovertemplate=f"{percent_whole(share)} ({interval})<extra></extra>",
    )


def _training_figure(balance: Balance) -> go.Figure:
    """Draw the share of trials not yet stopped, along the horizon."""
    ends = sorted(trained(run) for run in balance.stopped)
    shares = [1 - stopped / balance.trials for stopped in range(len(ends) + 1)]
    figure = new_figure("share of the horizon", "trials not stopped", height=360, showlegend=False, margin=WIDE_MARGIN)
    figure.add_trace(
        go.Scatter(
            x=[0.0, *ends, 1.0],
            y=[*shares, shares[-1]],
            mode="lines",
            line={"color": BLUE, "width": 2, "shape": "hv"},
            fill="tozeroy",
            fillcolor=faded(BLUE, 0.12),
            hovertemplate="%{y:.0%} of trials not stopped yet<extra></extra>",
        )
    )
    x, y = (ends[0] + 1) / 2, 1 - len(ends) / balance.trials / 2  # inside the area saved
    figure.add_annotation(x=x, y=y, text=f"{percent_whole(balance.saved)} saved", showarrow=False, bgcolor=WHITE)
    figure.update_xaxes(range=[0, 1], tickformat=".0%")
    return figure.update_yaxes(range=[0, 1.03], tickformat=".0%")


def _predicted_sentinels(balance: Balance) -> list[tuple[Sentinel, float]]:
    """Return the sentinels with a final loss and a prediction, with the predicted loss."""
    return [
        (sentinel, sentinel.pruning.predicted)
        for sentinel in balance.sentinels
        if math.isfinite(sentinel.final) and sentinel.pruning.predicted is not None
    ]


def _sentinels_figure(predicted: Sequence[tuple[Sentinel, float]], *, best: float | None) -> go.Figure:
    """Draw where sentinels ended over where they were expected to end; `best`: the lowest final loss."""
    figure = new_figure("expected final loss (nats)", "final loss (nats)", height=360)
    losses = [loss for sentinel, expected in predicted for loss in (sentinel.final, expected)]
    if best is not None:
        losses.append(best)
        figure.add_hline(y=best, line={"color": BLACK, "width": 1, "dash": "dash"})
    low, high = padded_range(min(losses), max(losses))
    figure.add_trace(
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
    drawn = sample(predicted, lambda pair: pair[0].run)
    others = [pair for pair in drawn if not pair[0].among_best]
    among_best = [pair for pair in drawn if pair[0].among_best]
    if others:
        figure.add_trace(_sentinels_trace(others, name="not among the best", colour=BLUE, symbol="diamond-open"))
    if among_best:
        figure.add_trace(_sentinels_trace(among_best, name="among the best", colour=VERMILION, symbol="star"))
    figure.update_xaxes(range=(low, high))
    return figure.update_yaxes(range=(low, high))


def _sentinels_trace(predicted: Sequence[tuple[Sentinel, float]], *, name: str, colour: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        x=[expected for _, expected in predicted],
        y=[sentinel.final for sentinel, _ in predicted],
        error_x={
            "array": [(sentinel.pruning.high or expected) - expected for sentinel, expected in predicted],
            "arrayminus": [expected - (sentinel.pruning.low or expected) for sentinel, expected in predicted],
            "color": colour,
            "thickness": 1,
            "width": 0,
        },
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 10, "line": {"width": 2, "color": colour}},
        name=name,
        text=[f"{hover(sentinel.run)}<br>expected {expected:.4f}" for sentinel, expected in predicted],
        hovertemplate="%{text}<extra></extra>",
    )
