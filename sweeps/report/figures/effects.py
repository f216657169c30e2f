"""The pictures of a study's result: effects of single changes, curves, slices, importances, pruning, perplexity.

Each is data first, then a figure; `pictures` gives all of them, in the report's order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from sweeps.analysis.findings import Findings
from sweeps.analysis.screening import Effect, ScreenWord
from sweeps.report.figures.style import (
    BAND,
    BLACK,
    BLUE,
    GREY,
    INNER_BAND,
    VERMILION,
    Picture,
    hover,
    nothing,
    plain,
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


@dataclass(frozen=True, kw_only=True)
class EffectRow:
    """One change, as a row of the effects picture."""

    label: str
    effect: Effect


def effect_rows(findings: Findings) -> tuple[EffectRow, ...]:
    """The knobs' star runs by the size of the knob's largest effect, then the candidates."""
    found = findings.screening

    def size(effect: Effect | None) -> float:
        return 0.0 if effect is None or effect.effect is None else abs(effect.effect)

    knobs = sorted(found.knobs, key=lambda knob: -size(knob.largest))
    stars = [
        EffectRow(label=change(knob.knob, effect.run.config, found.reference), effect=effect)
        for knob in knobs
        for effect in knob.effects
    ]
    return (
        *stars,
        *(EffectRow(label=f"advice: {advised(effect.run.label)}", effect=effect) for effect in found.advice),
    )


def effects(findings: Findings) -> Picture:
    """Every change tried alone: its effect on the final loss, over the band of seed noise."""
    key, title = "effects", "What each change does on its own"
    rows, found = effect_rows(findings), findings.screening
    if found.baseline is None or not any(row.effect.effect is not None for row in rows):
        return nothing(
            key, title, "Nothing to compare yet: it takes a complete baseline run and a complete run with one change."
        )
    reach = _reach([row.effect for row in rows])
    made = rows_figure("nats better than the baseline", [row.label for row in rows])
    one, all_ = found.baseline.half_width(), found.baseline.half_width(looks=found.family)
    if one is not None and all_ is not None:
        bands = [(f"noise, all {found.family} together", all_, BAND), ("noise, one run (95 %)", one, INNER_BAND)]
        for name, half, colour in bands:
            made.add_vrect(x0=-half, x1=half, fillcolor=colour, line_width=0, layer="below")
            square = {"symbol": "square", "size": 12, "color": colour.replace("0.07", "0.09").replace("0.10", "0.22")}
            made.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=square, name=name, legendrank=3000))
    made.add_vline(x=0, line={"color": BLACK, "width": 1})
    for word, (colour, symbol) in _MARKS.items():
        those = [(i, row.effect.effect) for i, row in enumerate(rows) if row.effect.word is word]
        known = [(i, effect) for i, effect in those if effect is not None]
        if known:
            beyond = [abs(effect) > reach for _, effect in known]
            made.add_trace(
                go.Scatter(
                    x=[math.copysign(min(abs(effect), reach), effect) for _, effect in known],
                    y=[i for i, _ in known],
                    mode="markers+text",
                    marker={"color": colour, "symbol": symbol, "size": 11, "line": {"width": 2, "color": colour}},
                    text=[f" {signed(effect)} " if far else "" for (_, effect), far in zip(known, beyond, strict=True)],
                    textposition=["middle right" if effect < 0 else "middle left" for _, effect in known],
                    name=word.value,
                    customdata=[
                        f"{hover(rows[i].effect.run)}<br>effect {_with_interval(rows[i].effect)}" for i, _ in known
                    ],
                    hovertemplate="%{customdata}<extra></extra>",
                )
            )
    for i, row in enumerate(rows):
        if row.effect.effect is None:
            made.add_annotation(x=0, y=i, text=plain(row.effect.run.outcome), showarrow=False, bgcolor="white")
    made.update_xaxes(range=[-1.12 * reach, 1.12 * reach])
    return Picture(
        key=key,
        title=title,
        summary=_effects_summary(rows, found.baseline.seeds),
        reading="Each mark is one run with one change, on the search's seed (min_lr and warm-up keep their ratios, "
        "heads their size). The bands say how far one more run of the baseline itself might land (95 %): the dark one "
        "for a single look, the light one for all of them together, which is what the words go by. Effects that are "
        "far larger than the rest stand at the edge, with their number.",
        figures=(made,),
    )


def _reach(effects: Sequence[Effect]) -> float:
    """How far the picture reaches to both sides: the noise, and Tukey's upper fence of the effects' sizes."""
    sizes = [abs(effect.effect) for effect in effects if effect.effect is not None]
    noise = max(effect.family_half_width or 0.0 for effect in effects)
    return max(1.2 * noise, min(max(sizes), tukey_fence(sizes))) or 1.0


def _effects_summary(rows: Sequence[EffectRow], seeds: int) -> str:
    lower = [row for row in rows if row.effect.word is ScreenWord.LOWERS]
    higher = sum(row.effect.word is ScreenWord.RAISES for row in rows)
    if any(row.effect.word is ScreenWord.UNKNOWN for row in rows):
        return "The noise of seeds isn't known, so none of these effects can be told from luck."
    if not lower and not higher:
        return f"None of the {count(len(rows), 'change')} is outside the noise of {count(seeds, 'baseline seed')}."
    lower.sort(key=lambda row: -(row.effect.effect or 0.0))
    words = joined(f"{row.label} ({signed(row.effect.effect or 0.0)} nats)" for row in lower)
    return (
        f"Of {count(len(rows), 'change')}, {len(lower)} lower the loss beyond the noise"
        f"{f': {words}' if lower else ''}; {higher} raise it."
    )


def _with_interval(effect: Effect) -> str:
    assert effect.effect is not None
    if effect.half_width is None or effect.family_half_width is None:
        return f"{signed(effect.effect)} nats, noise unknown"
    return (
        f"{signed(effect.effect)} ± {effect.half_width:.3f} nats (95 %)"
        f"<br>± {effect.family_half_width:.3f} for all comparisons together"
    )
