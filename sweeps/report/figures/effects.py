"""Effects of single changes on the final loss, over the noise of the baseline's seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from sweeps.analysis.findings import Findings
from sweeps.analysis.noise import Noise
from sweeps.analysis.screening import Effect, KnobEffect, ScreenWord
from sweeps.report.figures.style import (
    BAND,
    BLACK,
    BLUE,
    GREY,
    INNER_BAND,
    VERMILION,
    WHITE,
    Picture,
    hover,
    literal,
    no_picture,
    rows_figure,
    tukey_fence,
)
from sweeps.text import advised, change, count, joined, signed

_MARKS = {
    ScreenWord.LOWERS: (BLUE, "circle"),
    ScreenWord.RAISES: (VERMILION, "square"),
    ScreenWord.NOISE: (GREY, "circle-open"),
    ScreenWord.UNKNOWN: (GREY, "circle-open"),
}
"""colour and symbol by word"""


@dataclass(frozen=True, kw_only=True)
class EffectRow:
    """One change, as a row of the figure."""

    label: str
    effect: Effect


@dataclass(frozen=True, kw_only=True)
class NoiseBand:
    """Where further runs of the baseline would end with 95 % probability: its mean ± `half_width` nats."""

    name: str
    half_width: float
    colour: str
    legend_colour: str
    """stronger than the band, whose tint would not be seen in a legend"""


@dataclass(frozen=True, kw_only=True)
class SingleChanges:
    """All changes that were tried alone."""

    rows: tuple[EffectRow, ...]
    bands: tuple[NoiseBand, ...]
    """the wider one first; empty: noise unknown"""
    reach: float
    """nats drawn to either side: the noise, and effects up to Tukey's upper fence of their sizes"""
    seeds: int
    """baseline runs"""

    def with_word(self, word: ScreenWord) -> tuple[tuple[int, Effect, float], ...]:
        """Return row number, effect and its nats for the known effects with that word."""
        return tuple(
            (number, row.effect, row.effect.effect)
            for number, row in enumerate(self.rows)
            if row.effect.word is word and row.effect.effect is not None
        )


def effect_rows(findings: Findings) -> tuple[EffectRow, ...]:
    """Return the single-knob runs, the knob with the largest effect first, then the candidates."""
    screening = findings.screening
    knob_rows = [
        EffectRow(label=change(knob.knob, effect.run.config, screening.reference), effect=effect)
        for knob in sorted(screening.knobs, key=lambda knob: -_largest(knob))
        for effect in knob.effects
    ]
    advice_rows = [
        EffectRow(label=f"advice: {advised(effect.run.label)}", effect=effect) for effect in screening.candidates
    ]
    return (*knob_rows, *advice_rows)


def _largest(knob: KnobEffect) -> float:
    effect = None if knob.largest is None else knob.largest.effect
    return 0.0 if effect is None else abs(effect)


def single_changes(findings: Findings) -> SingleChanges | None:
    """Return the rows with their noise; None: the baseline or every change lacks a final loss."""
    screening, rows = findings.screening, effect_rows(findings)
    sizes = [abs(row.effect.effect) for row in rows if row.effect.effect is not None]
    if screening.baseline is None or not sizes:
        return None
    noise = max(row.effect.family_half_width or 0.0 for row in rows)
    return SingleChanges(
        rows=rows,
        bands=_bands(screening.baseline, family=screening.family),
        reach=max(1.2 * noise, min(max(sizes), tukey_fence(sizes))) or 1.0,
        seeds=screening.baseline.seeds,
    )


def _bands(baseline: Noise, *, family: int) -> tuple[NoiseBand, ...]:
    single, together = baseline.half_width(), baseline.half_width(looks=family)
    if single is None or together is None:
        return ()
    return (
        NoiseBand(
            name=f"noise, all {family} together",
            half_width=together,
            colour=BAND,
            legend_colour="rgba(0,0,0,0.09)",
        ),
        NoiseBand(
            name="noise, one run (95 %)",
            half_width=single,
            colour=INNER_BAND,
            legend_colour="rgba(0,0,0,0.22)",
        ),
    )


def effects_picture(findings: Findings) -> Picture:
    """Draw every change tried alone: its effect on the final loss, over the seeds' noise."""
    key, title = "effects", "Effect of each single change"
    changes = single_changes(findings)
    if changes is None:
        return no_picture(
            key,
            title,
            "Nothing to compare yet: this needs a complete baseline run and a complete run with one change.",
        )
    return Picture(
        key=key,
        title=title,
        summary=_summary(changes),
        reading="Each mark is one run with one change, on the search's seed (min_lr and warm-up keep their ratios, "
        "heads their size). The bands show where a further run of the baseline might end (95 %): the inner band for a "
        "single run, the outer band for all of them together, on which the words are based. Effects far larger than "
        "the rest are drawn at the edge, with their number.",
        figures=(_figure(changes),),
    )


def _summary(changes: SingleChanges) -> str:
    words = [row.effect.word for row in changes.rows]
    if ScreenWord.UNKNOWN in words:
        return "The noise of seeds isn't known, so none of these effects can be told from luck."
    number = count(len(changes.rows), "change")
    lower = sorted(
        (row for row in changes.rows if row.effect.word is ScreenWord.LOWERS),
        key=lambda row: -(row.effect.effect or 0.0),
    )
    higher = words.count(ScreenWord.RAISES)
    if not lower and not higher:
        return f"None of the {number} is outside the noise of {count(changes.seeds, 'baseline seed')}."
    which = joined(f"{row.label} ({signed(row.effect.effect or 0.0)} nats)" for row in lower)
    return (
        f"Of {number}, {len(lower)} lower the loss beyond the noise{f': {which}' if lower else ''}; {higher} raise it."
    )


def _figure(changes: SingleChanges) -> go.Figure:
    figure = rows_figure("nats better than the baseline", [row.label for row in changes.rows])
    for band in changes.bands:
        figure.add_vrect(x0=-band.half_width, x1=band.half_width, fillcolor=band.colour, line_width=0, layer="below")
        square = {"symbol": "square", "size": 12, "color": band.legend_colour}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=square, name=band.name, legendrank=3000))
    figure.add_vline(x=0, line={"color": BLACK, "width": 1})
    for word in _MARKS:
        marks = changes.with_word(word)
        if marks:
            figure.add_trace(_marks(marks, word, reach=changes.reach))
    for number, row in enumerate(changes.rows):
        if row.effect.effect is None:
            outcome = literal(row.effect.run.outcome)
            figure.add_annotation(x=0, y=number, text=outcome, showarrow=False, bgcolor=WHITE)
    return figure.update_xaxes(range=[-1.12 * changes.reach, 1.12 * changes.reach])


def _marks(marks: Sequence[tuple[int, Effect, float]], word: ScreenWord, *, reach: float) -> go.Scatter:
    """Return the marks of (row, effect, nats); those beyond `reach` stand at the edge with their number."""
    colour, symbol = _MARKS[word]
    return go.Scatter(
        x=[math.copysign(min(abs(nats), reach), nats) for *_, nats in marks],
        y=[number for number, *_ in marks],
        mode="markers+text",
        marker={"color": colour, "symbol": symbol, "size": 11, "line": {"width": 2, "color": colour}},
        text=[f" {signed(nats)} " if abs(nats) > reach else "" for *_, nats in marks],
        textposition=["middle right" if nats < 0 else "middle left" for *_, nats in marks],
        name=word.value,
        customdata=[f"{hover(effect.run)}<br>effect {_interval(effect, nats)}" for _, effect, nats in marks],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _interval(effect: Effect, nats: float) -> str:
    if effect.half_width is None or effect.family_half_width is None:
        return f"{signed(nats)} nats, noise unknown"
    return (
        f"{signed(nats)} ± {effect.half_width:.3f} nats (95 %)"
        f"<br>± {effect.family_half_width:.3f} for all comparisons together"
    )
