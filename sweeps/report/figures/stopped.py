"""Which curves were stuck at their end, and what the pruning rule expected of those it stopped.

Data first, then the picture. With many trials only the few whose end is most in doubt get a fan among the curves; all
of them stand side by side below.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from sweeps.analysis.curves import losses_of, schedule_of
from sweeps.pruning import plateau
from sweeps.pruning.plateau import CurveState, CurveVerdict
from sweeps.report.figures.curves import LOSS, TOKENS, LossCurve, curve, zoom
from sweeps.report.figures.style import (
    BLACK,
    BLUE,
    GREY,
    PURPLE,
    VERMILION,
    Picture,
    figure,
    hover,
    nothing,
    padded,
    tukey_fence,
    wrapped,
)
from sweeps.store.records import Outcome, Pruning, Results, Run
from sweeps.text import count, joined, signed

_WORDS = {
    CurveState.PLATEAU: (VERMILION, "square", "on a plateau"),
    CurveState.IMPROVING: (BLUE, "triangle-down", "improving"),
    CurveState.UNDETERMINED: (GREY, "circle-open", "undetermined"),
}
"""colour, symbol and name, those drawn in front first"""
_FANS = 2
"""predictions drawn among the curves: more would hide them"""
_FAN = "rgba(170,79,134,0.18)"
_READING = (
    "The mark at a curve's end says whether it was stuck there. On a plateau: its last evaluations fell by less than "
    "half of what was to be expected from the curve before and its learning-rate schedule; improving: by more; both "
    "sure to 95 %. Thick lines were stopped early. Dashed: the best final loss."
)
_READING_OF_FANS = (
    f" Fans: where a stopped trial was expected to end, for the {_FANS} whose lower bound came nearest to the best "
    "then. The lower picture has all expectations in the order of trials, between the rule's bounds and over the best "
    "final loss of the moment, and where the sentinels ended, which were not stopped."
)


@dataclass(frozen=True, kw_only=True)
class JudgedCurve:
    """A run's curve and whether it was stuck at its end."""

    curve: LossCurve
    verdict: CurveVerdict


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What the rule expected of a trial when it stopped it, or would have stopped it."""

    run: Run
    pruning: Pruning
    predicted: float
    """nats, as all below"""
    low: float
    high: float
    final: float | None
    """where a sentinel ended; None: stopped, or diverged"""


def judged_curves(results: Results) -> tuple[JudgedCurve, ...]:
    """Every run with an evaluation that has not diverged, with the verdict at its last one."""
    runs = [
        run
        for run in results.runs
        if curve(run).tokens
        and run.outcome != Outcome.DIVERGED
        and (run.pruning is None or run.pruning.reason != "diverged")
    ]
    verdicts = plateau.verdicts([losses_of(run) for run in runs], [schedule_of(run.config) for run in runs])
    return tuple(JudgedCurve(curve=curve(run), verdict=each) for run, each in zip(runs, verdicts, strict=True))


def outlooks(results: Results) -> tuple[Outlook, ...]:
    """Trials with a prediction, in the order of their numbers."""
    found = []
    for run in results.runs:
        noted = run.pruning
        if noted is None or noted.predicted is None or noted.low is None or noted.high is None:
            continue
        final = run.val_loss if noted.sentinel else None
        found.append(
            Outlook(run=run, pruning=noted, predicted=noted.predicted, low=noted.low, high=noted.high, final=final)
        )
    return tuple(sorted(found, key=lambda one: one.run.trial))


def nearest(found: Sequence[Outlook]) -> tuple[Outlook, ...]:
    """The few to be drawn among the curves: of those stopped, the ones that might have come nearest to the best."""
    stopped = [one for one in found if not one.pruning.sentinel]
    return tuple(sorted(stopped, key=lambda one: one.low - (one.pruning.best or 0.0))[:_FANS])


def stopped_curves(results: Results) -> Picture:
    """Each curve by its verdict, and what was expected of those that were stopped."""
    key, title = "stopped-curves", "Which curves were stuck, and what was expected of those stopped"
    shown, found = judged_curves(results), outlooks(results)
    if not shown:
        return nothing(key, title, "No run has been evaluated yet.")
    made, fans = _judged(shown), nearest(found)
    for index, one in enumerate(fans):
        _add_fan(made, one, named=index == 0)
    _add_sentinels(made, [one for one in found if one.pruning.sentinel])
    best = results.best
    if best is not None:
        made.add_hline(y=best.val_loss, line={"color": BLACK, "width": 1, "dash": "dash"})
    made.update_yaxes(range=_opened(shown, fans))
    return Picture(
        key=key,
        title=title,
        summary=_stopped_summary(shown, found),
        reading=_READING + (_READING_OF_FANS if found else ""),
        figures=(made, _expectations(found)) if found else (made,),
    )


def _opened(shown: Sequence[JudgedCurve], fans: Sequence[Outlook]) -> tuple[float, float] | None:
    """The range of losses to open on: that of all curves, the fans' lower ends, and stuck ends up to twice as high."""
    found = zoom([one.curve for one in shown])
    if found is None:
        return None
    low, high = min([found[0], *(one.low for one in fans)]), found[1]
    stuck = max((one.curve.losses[-1] for one in shown if one.verdict.word is CurveState.PLATEAU), default=high)
    return low, max(high, min(stuck + 0.05 * (high - low), 2 * high - low))


def _judged(shown: Sequence[JudgedCurve]) -> go.Figure:
    made = figure(TOKENS, LOSS, height=480)
    for word, (colour, symbol, name) in reversed(_WORDS.items()):
        those = [one for one in shown if one.verdict.word is word]
        if not those:
            continue
        for one in sorted(those, key=lambda one: one.curve.run.outcome == Outcome.PRUNED):
            run, thick = one.curve.run, one.curve.run.outcome == Outcome.PRUNED
            made.add_trace(
                go.Scatter(
                    x=one.curve.tokens,
                    y=one.curve.losses,
                    mode="lines",
                    line={"color": colour, "width": 2 if thick else 1},
                    opacity=0.9 if thick else 0.5,
                    legendgroup=word.value,
                    showlegend=False,
                    hovertemplate=f"{hover(run)}<br>{_verdict_words(one.verdict)}"
                    "<br>loss %{y:.4f} at %{x:.4s} tokens<extra></extra>",
                )
            )
        made.add_trace(
            go.Scatter(
                x=[one.curve.tokens[-1] for one in those],
                y=[one.curve.losses[-1] for one in those],
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 8, "line": {"width": 1.5, "color": colour}},
                name=name,
                legendgroup=word.value,
                legendrank=1000 + list(_WORDS).index(word),
                hoverinfo="skip",
            )
        )
    return made


def _verdict_words(verdict: CurveVerdict) -> str:
    name = _WORDS[verdict.word][2]
    if verdict.observed is None or verdict.expected is None:
        return f"{name}: {verdict.reason}"
    why = f" ({verdict.reason})" if verdict.reason else ""
    return f"{name}{why}: fell {signed(verdict.observed)} nats, {signed(verdict.expected)} expected"


def _add_fan(made: go.Figure, one: Outlook, *, named: bool) -> None:
    config = one.run.config
    at, end = (step * config.tokens_per_iter for step in (one.pruning.step, config.max_iters))
    loss = one.pruning.val_loss
    made.add_trace(
        go.Scatter(
            x=[at, end, end, at],
            y=[loss, one.high, one.low, loss],
            fill="toself",
            fillcolor=_FAN,
            line={"color": PURPLE, "width": 0.75},
            mode="lines",
            name="expected when stopped",
            legendgroup="fan",
            legendrank=2000,
            showlegend=named,
            hoverinfo="skip",
        )
    )
    made.add_trace(
        go.Scatter(
            x=[at, end],
            y=[loss, one.predicted],
            mode="lines",
            line={"color": PURPLE, "width": 1.5, "dash": "dot"},
            legendgroup="fan",
            showlegend=False,
            hovertemplate=f"{_expected(one)}<extra></extra>",
        )
    )


def _add_sentinels(made: go.Figure, those: Sequence[Outlook]) -> None:
    """Where they would have been stopped, on their curves."""
    if those:
        made.add_trace(
            go.Scatter(
                x=[one.pruning.step * one.run.config.tokens_per_iter for one in those],
                y=[one.pruning.val_loss for one in those],
                mode="markers",
                marker={"color": PURPLE, "symbol": "diamond-open", "size": 9, "line": {"width": 2, "color": PURPLE}},
                name="sentinel, not stopped here",
                legendrank=2001,
                text=[_expected(one) for one in those],
                hovertemplate="%{text}<extra></extra>",
            )
        )


def _expectations(found: Sequence[Outlook]) -> go.Figure:
    """Every prediction in the order of trials, over the best final loss of its time."""
    made = figure("trial", "final loss (nats a token)")
    made.add_trace(
        go.Scatter(
            x=[one.run.trial for one in found],
            y=[one.pruning.best for one in found],
            mode="lines",
            line={"color": BLACK, "width": 1.5, "dash": "dash", "shape": "hv"},
            name="best so far",
            hovertemplate="best so far %{y:.4f}<extra></extra>",
        )
    )
    for sentinel, name, colour, symbol in (
        (False, "expected, stopped", GREY, "circle"),
        (True, "expected, sentinel", PURPLE, "diamond-open"),
    ):
        those = [one for one in found if one.pruning.sentinel is sentinel]
        if those:
            made.add_trace(_intervals(those, name=name, colour=colour, symbol=symbol))
    ended = [(one, one.final) for one in found if one.final is not None]
    if ended:
        made.add_trace(
            go.Scatter(
                x=[one.run.trial for one, _ in ended],
                y=[final for _, final in ended],
                mode="markers",
                marker={"color": PURPLE, "symbol": "star", "size": 11},
                name="where it ended",
                text=[_expected(one) for one, _ in ended],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    middle = [*(one.predicted for one in found), *(final for _, final in ended)]
    fence = tukey_fence(middle)
    usual = max(value for value in middle if value <= fence)
    bests = [one.pruning.best for one in found if one.pruning.best is not None]
    made.update_yaxes(range=padded(min([*bests, *(final for _, final in ended)]), max(usual, *bests), share=0.15))
    return made


def _intervals(those: Sequence[Outlook], *, name: str, colour: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        x=[one.run.trial for one in those],
        y=[one.predicted for one in those],
        error_y={
            "array": [one.high - one.predicted for one in those],
            "arrayminus": [one.predicted - one.low for one in those],
            "color": colour,
            "thickness": 1.5,
            "width": 0,
        },
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 8, "line": {"width": 2, "color": colour}},
        name=name,
        text=[_expected(one) for one in those],
        hovertemplate="%{text}<extra></extra>",
    )


def _expected(one: Outlook) -> str:
    return f"{hover(one.run)}<br>at iteration {one.pruning.step}: {wrapped(one.pruning.why, width=44)}"


def _stopped_summary(shown: Sequence[JudgedCurve], found: Sequence[Outlook]) -> str:
    def words(those: Sequence[JudgedCurve]) -> str:
        counts = Counter(one.verdict.word for one in those)
        found = [(counts[word], name) for word, (_, _, name) in _WORDS.items() if counts[word]]
        return f"all {found[0][1]}" if len(found) == 1 else joined(f"{number} {name}" for number, name in found)

    stopped = [one for one in shown if one.curve.run.outcome == Outcome.PRUNED]
    text = f"At the end of {count(len(shown), 'curve')}: {words(shown)}"
    if stopped:
        text += f"; of the {len(stopped)} stopped early: {words(stopped)}"
    lowest = nearest(found)[:1]
    if lowest and lowest[0].pruning.best is not None:
        one = lowest[0]
        text += (
            f". Of those stopped, {one.run.label} might have come nearest to the best: {one.predicted:.3f} nats "
            f"expected ({one.low:.3f} to {one.high:.3f}), with the best at {one.pruning.best:.3f} then"
        )
    return f"{text}."
