"""Forest plot of the confirmed effects: each knob alone and what is lost without it, with intervals and every seed.

Data first, then the figure. All is drawn from the attribution, so that pictures and words can't differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from sweeps.analysis.attribution import Advice, AdviceWord, Attribution, BestWord, KnobVerdict, KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.report.figures.style import (
    BAND,
    BLACK,
    BLUE,
    PURPLE,
    Picture,
    nothing,
    padded,
    rows_figure,
    tukey_fence,
    wrapped,
)
from sweeps.text import count, joined, short, signed
from sweeps.verdict.confirmed import why

_STYLES = {
    "all together": (BLACK, "square"),
    "the knob alone": (BLUE, "circle"),
    "lost when it is reset": (PURPLE, "diamond"),
    "the advice": (BLUE, "diamond"),
}
"""colour and symbol of each kind of effect"""
_WHOLE = {BestWord.BREAKS: "breaks the plateau", BestWord.IMPROVES: "improves", BestWord.NONE: "not shown"}
_LEFT, _RIGHT = 24, 17
"""characters a line of a row's label and of its remark: together they fit on a phone"""
_SECOND = 0.27
"""of a row: how far below its first effect the second stands"""


@dataclass(frozen=True, kw_only=True)
class RowEffect:
    """One mark of a row."""

    kind: str
    """as in the legend"""
    effect: Contrast
    test: tuple[str, Contrast] | None
    """a further comparison that the row's word rests on, and what it is"""


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One change, or all of them, with its effects in nats: above 0 is better."""

    label: str
    word: str
    effects: tuple[RowEffect, ...]
    more_seeds: int | None
    """further seeds that would decide an open word"""


def knob_rows(found: Attribution) -> tuple[ForestRow, ...]:
    """The whole change from the baseline to the best, then each knob of it, in the verdict's order."""
    number = len(found.knobs)
    first = ForestRow(
        label=f"all {number} changes together" if number > 1 else "the whole change",
        word=_WHOLE[BestWord.NONE if found.by_one else found.word],
        effects=_known(("all together", found.whole, "no mere head start", found.whole_lasting)),
        more_seeds=None,
    )
    return (first, *(_knob_row(knob, found) for knob in found.knobs))


def _knob_row(knob: KnobVerdict, found: Attribution) -> ForestRow:
    return ForestRow(
        label=changed(knob),
        word=_knob_word(knob, found),
        effects=_known(
            ("the knob alone", knob.alone, "no mere head start", knob.lasting),
            ("lost when it is reset", knob.reset, "more than half of the whole gain", knob.needed),
        ),
        more_seeds=knob.more_seeds,
    )


def _known(*given: tuple[str, Contrast | None, str, Contrast | None]) -> tuple[RowEffect, ...]:
    return tuple(
        RowEffect(kind=kind, effect=effect, test=None if test is None else (name, test))
        for kind, effect, name, test in given
        if effect is not None
    )


def changed(knob: KnobVerdict) -> str:
    """The knob's change from the baseline to the best."""
    return f"{knob.knob} {short(knob.was)} → {short(knob.new)}"


def _knob_word(knob: KnobVerdict, found: Attribution) -> str:
    if knob.word is KnobWord.JOINT:
        return f"{knob.word} with {knob.partner}"
    if knob.word is not KnobWord.ALONE:
        return knob.word.value
    alone = "improves alone" if found.word is BestWord.IMPROVES else knob.word.value
    return f"{alone}, necessary" if knob.necessary else alone


def advice_rows(found: Attribution) -> tuple[ForestRow, ...]:
    """The candidates, in the study's order."""
    return tuple(
        ForestRow(
            label=advice.label,
            word=_advice_word(advice),
            effects=_known(("the advice", advice.effect, "", None)),
            more_seeds=advice.more_seeds,
        )
        for advice in found.advice
    )


def _advice_word(advice: Advice) -> str:
    return f"{advice.word}, {count(advice.diverged, 'run')} diverged" if advice.diverged else advice.word.value


def effects(found: Attribution) -> Picture:
    """Forest plot: each knob alone and what is lost without it, every seed; the advice below."""
    key, title = "confirmed-effects", "What each knob does, on fresh seeds"
    panels = [rows for rows in (knob_rows(found), advice_rows(found)) if any(row.effects for row in rows)]
    if not panels:
        return nothing(key, title, f"Nothing to compare: {why(found)}.")
    reading = (
        "Mark and bar: the mean over seeds, with its 95 % interval; ticks: each seed by itself. Grey: less than "
        f"{short(found.min_effect)} nats, too little to count (min_effect). A knob does it alone if its own gain is "
        "beyond the grey and lasts as runs get longer; it is necessary if the best loses more than half of its gain "
        "when only that knob is set back to the baseline's value. Words hold for all knobs together (Holm). Losses "
        "far larger than the rest stand at the edge, with their number."
    )
    if len(panels) > 1:
        reading += " Lower picture: the advice as it stands."
    return Picture(
        key=key,
        title=title,
        summary=_effects_summary(found),
        reading=reading,
        figures=tuple(_forest(rows, found.min_effect) for rows in panels),
    )


def _effects_summary(found: Attribution) -> str:
    effect = found.whole
    if effect is None:
        start = why(found)[:1].upper() + why(found)[1:]
    else:
        size = f"{nats(abs(effect.mean))} nats {'lower' if effect.mean >= 0 else 'higher'}"
        sure = f"95 %: {interval(effect)}" if interval(effect) else "interval not known"
        start = f"The best config ends {size} on {count(effect.n, 'fresh seed')} ({sure})"
        if found.why or found.by_one:
            start += f", not shown: {why(found)}" if found.why else ", not shown to be better"
    by_word: dict[str, list[str]] = {}
    for knob in found.knobs:
        by_word.setdefault(_knob_word(knob, found), []).append(knob.knob)
    parts = [start, *(f"{joined(names)}: {word}" for word, names in by_word.items())]
    advice = [f"{number} {word}" for word in AdviceWord if (number := sum(each.word is word for each in found.advice))]
    if advice:
        parts.append(f"of {count(len(found.advice), 'piece')} of advice: {joined(advice)}")
    return f"{'; '.join(parts)}."


def interval(effect: Contrast) -> str:
    """The 95 % interval, seen in the mean's direction; empty where it isn't known."""
    ends = [end if effect.mean >= 0 else -end for end in (effect.low, effect.high) if end is not None]
    return " to ".join(nats(end) for end in sorted(ends))


def nats(value: float) -> str:
    """A loss, or a difference whose sign isn't told."""
    return f"{value:.3f}".replace("-", "−")


def _forest(rows: Sequence[ForestRow], floor: float) -> go.Figure:
    marks = max(len(row.effects) for row in rows)
    made = rows_with_remarks(
        "effect of the change (nats; right is better)", [(row.label, row.word) for row in rows], marks=marks
    )
    made.add_vrect(x0=-floor, x1=floor, fillcolor=BAND, line_width=0, layer="below")
    made.add_vline(x=0, line={"color": BLACK, "width": 1})
    placed = [
        (one, row, index + _SECOND * place) for index, row in enumerate(rows) for place, one in enumerate(row.effects)
    ]
    low, high = reach([one.effect for one, _, _ in placed], floor)
    for kind, (colour, symbol) in _STYLES.items():
        those = [(one.effect, _told(one, row), y) for one, row, y in placed if one.kind == kind]
        if not those:
            continue
        made.add_trace(ticks([(effect.differences, y) for effect, _, y in those], colour, least=low, what="gain"))
        made.add_trace(bars([(effect.low, effect.high, y) for effect, _, y in those], colour))
        made.add_trace(
            go.Scatter(
                x=[max(effect.mean, low) for effect, _, _ in those],
                y=[y for *_, y in those],
                mode="markers+text",
                marker={"color": colour, "symbol": symbol, "size": 10},
                text=[f"  {signed(effect.mean)}" if effect.mean < low else "" for effect, _, _ in those],
                textposition="middle right",
                name=kind,
                customdata=[told for _, told, _ in those],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    for index, row in enumerate(rows):
        if not row.effects:
            made.add_annotation(x=0, y=index, text="no final loss to compare", showarrow=False, bgcolor="white")
    return made.update_xaxes(range=padded(low, high, share=0.04))


def reach(found: Sequence[Contrast], floor: float) -> tuple[float, float]:
    """The nats to be seen: every gain, and losses as far as gains, or up to Tukey's fence of the effects' sizes.

    Seeds and means count; intervals may widen it by half on both sides, and else lead out.
    """
    values = [0.0, floor, -floor, *(value for one in found for value in (one.mean, *one.differences.values()))]
    high = max(values)
    low = max(min(values), -max(high, tukey_fence([abs(one.mean) for one in found])))
    room = (high - low) / 2
    lows, highs = [one.low for one in found if one.low is not None], [one.high for one in found if one.high is not None]
    return max(min([low, *lows]), low - room), min(max([high, *highs]), high + room)


def _told(one: RowEffect, row: ForestRow) -> str:
    """The hover text of a mark."""
    effect = one.effect
    lines = [f"<b>{wrapped(row.label, width=44)}</b>", f"{one.kind}: {measured(effect)}"]
    if effect.p is not None:
        holm = "Holm's p" if one.kind in ("the knob alone", "the advice") else "p"
        lines.append(f"{holm} {_p(effect.p)} against {short(effect.threshold)} nats ({effect.method})")
    if one.test is not None:
        lines.append(f"{one.test[0]}: {measured(one.test[1])}")
    if row.more_seeds is not None:
        lines.append(f"about {count(row.more_seeds, 'more seed')} would decide")
    return "<br>".join([*lines, wrapped(row.word, width=44)])


def measured(effect: Contrast) -> str:
    """A contrast with its interval and seeds."""
    known = effect.low is not None and effect.high is not None
    sure = f"{signed(effect.low or 0.0)} to {signed(effect.high or 0.0)}, 95 %" if known else "interval not known"
    return f"{signed(effect.mean)} nats ({sure}), {count(effect.n, 'seed')}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def rows_with_remarks(x_title: str, texts: Sequence[tuple[str, str]], *, marks: int) -> go.Figure:
    """A figure of rows with room for `marks` marks, above each a label on the left and a remark on the right.

    Lines of a remark end where it has them end, and where they'd meet the label on a phone.
    """
    made = rows_figure(x_title, ["" for _ in texts])
    side = {"x": 0.994, "xanchor": "right", "align": "right"}
    notes, lines = [], 1
    for note, (label, remark) in zip(made.layout.annotations, texts, strict=True):
        left = wrapped(label.replace(" → ", "→"), width=_LEFT).replace("→", " → ")  # a change stays on one line
        right = "<br>".join(wrapped(part, width=_RIGHT) for part in remark.splitlines())
        shared = note.to_plotly_json()
        notes += [shared | {"text": left, "align": "left"}, shared | side | {"text": f"<b>{right}</b>"}]
        lines = max(lines, *(text.count("<br>") + 1 for text in (left, right)))
    made.layout.annotations = notes
    return made.update_layout(height=124 + (12 + 16 * lines + 17 * marks) * len(texts))


def ticks(
    found: Iterable[tuple[Mapping[int, float], float]], colour: str, *, what: str, least: float = -math.inf
) -> go.Scatter:
    """A tick a seed at the heights given, those below `least` at the edge."""
    those = [(seed, value, y) for values, y in found for seed, value in sorted(values.items())]
    return go.Scatter(
        x=[max(value, least) for _, value, _ in those],
        y=[y for *_, y in those],
        mode="markers",
        marker={"color": colour, "symbol": "line-ns", "size": 11, "line": {"width": 1.5, "color": colour}},
        opacity=0.6,
        showlegend=False,
        text=[f"seed {seed}: {what} {nats(value)} nats" for seed, value, _ in those],
        hovertemplate="%{text}<extra></extra>",
    )


def bars(intervals: Iterable[tuple[float | None, float | None, float]], colour: str) -> go.Scatter:
    """Intervals at the heights given."""
    known = [(low, high, y) for low, high, y in intervals if low is not None and high is not None]
    return go.Scatter(
        x=[x for low, high, _ in known for x in (low, high, None)],
        y=[place for *_, y in known for place in (y, y, None)],
        mode="lines",
        line={"color": colour, "width": 2.5},
        showlegend=False,
        hoverinfo="skip",
    )
