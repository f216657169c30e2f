"""Curves by whether they were stuck at their end, with what the pruning rule expected of those it stopped.

Only the few stopped trials that were closest to the best get a fan among the curves. A second figure has all
expectations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from sweeps.analysis.curves import losses_of, schedule_of
from sweeps.pruning import plateau
from sweeps.pruning.plateau import CurveState, CurveVerdict
from sweeps.report.figures.curves import LOSS, TOKENS, LossCurve, loss_curve, zoom
from sweeps.report.figures.expectations import (
    FANS,
    Expectation,
    closest,
    expectations,
    expectations_figure,
    fan_traces,
    sentinels_trace,
)
from sweeps.report.figures.sample import note_on, sample
from sweeps.report.figures.style import BLACK, BLUE, GREY, VERMILION, Picture, hover, new_figure, no_picture
from sweeps.store.records import Outcome, Results
from sweeps.text import count, joined, signed

_STATES = {
    CurveState.PLATEAU: (VERMILION, "square", "on a plateau"),
    CurveState.IMPROVING: (BLUE, "triangle-down", "improving"),
    CurveState.UNDETERMINED: (GREY, "circle-open", "undetermined"),
}
"""colour, symbol and name by state; the first is drawn in front"""
_READING = (
    "The mark at a curve's end says whether it was stuck there. On a plateau: its last evaluations fell by less than "
    "half of what the earlier curve and its learning-rate schedule predict. Improving: they fell by more. Both are "
    "sure to 95 %. Thick lines were stopped early. Dashed: the best final loss."
)
_READING_OF_EXPECTATIONS = (
    f" Fans: where stopped trials were expected to end, for the {FANS} whose lower bound was closest to the best loss "
    "then. The lower figure has all expectations by trial number, with the rule's bounds, over the best final loss of "
    "the moment. It also shows where the sentinels ended, which were not stopped."
)


@dataclass(frozen=True, kw_only=True)
class JudgedCurve:
    """A run's curve, and whether it was stuck at its end."""

    curve: LossCurve
    verdict: CurveVerdict

    @property
    def pruned(self) -> bool:
        """Whether the run was stopped early."""
        return self.curve.run.outcome == Outcome.PRUNED


def judged_curves(results: Results) -> tuple[JudgedCurve, ...]:
    """Return the curves of all evaluated trials that have not diverged, with the verdict at the last evaluation."""
    runs = [
        run
        for run in results.runs
        if loss_curve(run).tokens
        and not run.before_trials
        and run.outcome != Outcome.DIVERGED
        and (run.pruning is None or run.pruning.reason != "diverged")
    ]
    verdicts = plateau.verdicts([losses_of(run) for run in runs], [schedule_of(run.config) for run in runs])
    return tuple(
        JudgedCurve(curve=loss_curve(run), verdict=verdict) for run, verdict in zip(runs, verdicts, strict=True)
    )


def stopped_picture(results: Results) -> Picture:
    """Draw each curve by its verdict, and what was expected of those that were stopped."""
    key, title = "stopped-curves", "Plateaus at the end of curves, and predictions for stopped trials"
    curves, expected = judged_curves(results), expectations(results)
    if not curves:
        return no_picture(key, title, "No run has been evaluated yet.")
    figure = _figure(curves, expected, drawn=sample(curves, lambda judged: judged.curve.run))
    if results.best is not None:
        figure.add_hline(y=results.best.val_loss, line={"color": BLACK, "width": 1, "dash": "dash"})
    return Picture(
        key=key,
        title=title,
        summary=_summary(curves, expected),
        reading=_READING + (_READING_OF_EXPECTATIONS if expected else "") + note_on(len(curves)),
        figures=(figure, expectations_figure(expected)) if expected else (figure,),
    )


def _summary(curves: Sequence[JudgedCurve], expected: Sequence[Expectation]) -> str:
    words = f"At the end of {count(len(curves), 'curve')}: {_state_counts(curves)}"
    pruned = [curve for curve in curves if curve.pruned]
    if pruned:
        words += f"; of the {len(pruned)} stopped early: {_state_counts(pruned)}"
    for trial in closest(expected)[:1]:
        if trial.pruning.best is not None:
            words += (
                f". Of those stopped, {trial.run.label} might have come closest to the best: {trial.predicted:.3f} "
                f"nats expected ({trial.low:.3f} to {trial.high:.3f}), with the best at {trial.pruning.best:.3f} then"
            )
    return f"{words}."


def _state_counts(curves: Sequence[JudgedCurve]) -> str:
    """Return "all improving", or "1 on a plateau and 2 improving"."""
    counts = Counter(curve.verdict.word for curve in curves)
    names = [(counts[state], name) for state, (_, _, name) in _STATES.items() if counts[state]]
    return f"all {names[0][1]}" if len(names) == 1 else joined(f"{number} {name}" for number, name in names)


def _figure(
    curves: Sequence[JudgedCurve], expected: Sequence[Expectation], *, drawn: Sequence[JudgedCurve]
) -> go.Figure:
    figure = new_figure(TOKENS, LOSS, height=480)
    for state in reversed(_STATES):
        figure.add_traces(list(_state_traces(state, [curve for curve in drawn if curve.verdict.word is state])))
    fans = closest(expected)
    for number, trial in enumerate(fans):
        figure.add_traces(fan_traces(trial, named=number == 0))
    sentinels = [expectation for expectation in expected if expectation.pruning.sentinel]
    if sentinels:
        figure.add_trace(sentinels_trace(sample(sentinels, lambda sentinel: sentinel.run)))
    return figure.update_yaxes(range=_losses_range(curves, fans))


def _losses_range(curves: Sequence[JudgedCurve], fans: Sequence[Expectation]) -> tuple[float, float] | None:
    """Return the range of losses to open on; None: nothing to draw.

    That of all curves, widened down to the fans' lower ends, and up to stuck ends, at most to twice its height.
    """
    usual = zoom([curve.curve for curve in curves])
    if usual is None:
        return None
    low, high = min([usual[0], *(trial.low for trial in fans)]), usual[1]
    stuck_ends = [curve.curve.losses[-1] for curve in curves if curve.verdict.word is CurveState.PLATEAU]
    highest = max(stuck_ends, default=high) + 0.05 * (high - low)
    return low, max(high, min(highest, 2 * high - low))


def _state_traces(state: CurveState, curves: Sequence[JudgedCurve]) -> Iterator[go.Scatter]:
    """Yield the curves of one state, those stopped early in front, and the marks at their ends."""
    if not curves:
        return
    colour, symbol, name = _STATES[state]
    for judged in sorted(curves, key=lambda curve: curve.pruned):
        yield go.Scatter(
            x=judged.curve.tokens,
            y=judged.curve.losses,
            mode="lines",
            line={"color": colour, "width": 2 if judged.pruned else 1},
            opacity=0.9 if judged.pruned else 0.5,
            legendgroup=state.value,
            showlegend=False,
            hovertemplate=f"{hover(judged.curve.run)}<br>{_verdict_words(judged.verdict)}"
            "<br>loss %{y:.4f} at %{x:.4s} tokens<extra></extra>",
        )
    yield go.Scatter(
        x=[judged.curve.tokens[-1] for judged in curves],
        y=[judged.curve.losses[-1] for judged in curves],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 8, "line": {"width": 1.5, "color": colour}},
        name=name,
        legendgroup=state.value,
        legendrank=1000 + list(_STATES).index(state),
        hoverinfo="skip",
    )


def _verdict_words(verdict: CurveVerdict) -> str:
    name = _STATES[verdict.word][2]
    if verdict.observed is None or verdict.expected is None:
        return f"{name}: {verdict.reason}"
    reason = f" ({verdict.reason})" if verdict.reason else ""
    return f"{name}{reason}: fell {signed(verdict.observed)} nats, {signed(verdict.expected)} expected"
