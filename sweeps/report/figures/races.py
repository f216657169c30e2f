"""Gaps of the races: how far each run from scratch is below the origin's own curve, along training."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from sweeps.analysis.findings import Findings
from sweeps.analysis.races import RaceFinding
from sweeps.report.figures.curves import LINE_STYLES, SKIPPED_SHARE, band_trace
from sweeps.report.figures.end_labels import MARGIN, EndLabel, add_end_labels
from sweeps.report.figures.style import BLACK, Picture, faded, literal, new_figure, no_picture, padded_range
from sweeps.text import count, short, signed

_ITERATIONS = "iterations"
_GAP = "origin − race (nats; above 0 is better)"


def races_picture(findings: Findings) -> Picture:
    """Draw the gap of every race against the origin's own curve, or its log."""
    key, title = "races", "Races from scratch against the origin's curve"
    races = [race for race in findings.races if race.gaps]
    if not races:
        return no_picture(key, title, "No race has been evaluated beside the origin's curve yet.")
    return Picture(
        key=key,
        title=title,
        summary=f"{'; '.join(_words(race) for race in sorted(races, key=_at_end, reverse=True))}.",
        reading="A race trains from scratch under the origin's own schedule and data order, with one change, and is "
        "compared with the origin's curve at the same iteration. Lines are the mean gap, bands its 95 % interval; one "
        "seed has none. A race that is lower on every seed goes on to twice its length. The scale leaves out the "
        "first tenth.",
        figures=(_figure(races),),
    )


def _label(race: RaceFinding) -> str:
    return f"{race.knob} {short(race.value)}"


def _at_end(race: RaceFinding) -> float:
    return race.gaps[race.steps].mean


def _words(race: RaceFinding) -> str:
    end = _at_end(race)
    steps = sorted(race.gaps)
    half = race.gaps[steps[(len(steps) - 1) // 2]].mean
    time = "" if race.seconds is None else f", {race.seconds:.3g} times the time"
    return (
        f"{_label(race)} ({race.params:.3g} times the parameters{time}) is {abs(end):.3f} nats "
        f"{'below' if end >= 0 else 'above'} the origin at iteration {race.steps:,} "
        f"({signed(half)} half-way; {count(len(race.seeds), 'seed')})"
    )


def _figure(races: Sequence[RaceFinding]) -> go.Figure:
    figure = new_figure(_ITERATIONS, _GAP, height=380, showlegend=False)
    figure.update_layout(margin_r=MARGIN)
    low, high = _visible(races)
    labels = []
    for number, race in enumerate(races):
        colour, dash = LINE_STYLES[number % len(LINE_STYLES)]
        figure.add_traces(_traces(race, colour=colour, dash=dash))
        text = f"{_label(race)}\n{race.params:.3g}× params"
        labels.append(EndLabel(text=text, x=race.steps, y=_at_end(race), colour=colour))
    figure.add_hline(y=0, line={"color": BLACK, "width": 1.2})
    longest = max(race.steps for race in races)
    figure.update_xaxes(range=[0, longest], nticks=5, tickformat=",d")
    figure.update_yaxes(range=[low, high])
    labels.append(EndLabel(text="the origin", x=longest, y=0.0, colour=BLACK))
    return add_end_labels(figure, labels, low=low, high=high)


def _traces(race: RaceFinding, *, colour: str, dash: str) -> list[go.Scatter]:
    """Return the band of the gap's interval where it is known, and its line."""
    known = [
        (step, gap.low, gap.high)
        for step, gap in sorted(race.gaps.items())
        if gap.low is not None and gap.high is not None
    ]
    label, steps = _label(race), sorted(race.gaps)
    line = go.Scatter(
        x=steps,
        y=[race.gaps[step].mean for step in steps],
        mode="lines" if len(steps) > 1 else "markers",
        line={"color": colour, "dash": dash, "width": 2.2},
        name=label,
        hovertemplate=f"{literal(label)}, {count(len(race.seeds), 'seed')}<br>%{{y:+.4f}} nats at iteration "
        "%{x:,}<extra></extra>",
    )
    if not known:
        return [line]
    places, lows, highs = zip(*known, strict=True)
    band = band_trace(places, lows, highs, name=f"{label}, 95 % interval")
    return [band.update(fillcolor=faded(colour, 0.16)), line]


def _visible(races: Sequence[RaceFinding]) -> tuple[float, float]:
    """Return the range of 0 and of the gaps after the first tenth, with the intervals at the ends of the races."""
    first = SKIPPED_SHARE * max(race.steps for race in races)
    values = [0.0]
    for race in races:
        values += [gap.mean for step, gap in race.gaps.items() if step >= first]
        last = race.gaps[race.steps]
        values += [end for end in (last.low, last.high) if end is not None]
    return padded_range(min(values), max(values), share=0.1)
