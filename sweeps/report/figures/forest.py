"""Forest plot of the confirmed effects: each knob alone, and what the best loses without it.

Each effect has its interval and its seeds. Rows and words come from the attribution, so the figure agrees with the
verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from sweeps.analysis.attribution import Attribution, BestWord, CandidateVerdict, CandidateWord, KnobVerdict, KnobWord
from sweeps.analysis.contrasts import Contrast
from sweeps.report.figures.contrast_rows import (
    contrast_words,
    interval_bars,
    interval_words,
    knob_change,
    nats,
    rows_with_remarks,
    seed_ticks,
)
from sweeps.report.figures.style import (
    BAND,
    BLACK,
    BLUE,
    PURPLE,
    WHITE,
    Picture,
    no_picture,
    padded_range,
    tukey_fence,
    wrapped,
)
from sweeps.text import count, joined, p_value, short, signed
from sweeps.verdict.confirmed import why

_TOGETHER, _ALONE, _RESET, _CANDIDATE = "all together", "the knob alone", "lost when it is reset", "the advice"
_STYLES = {
    _TOGETHER: (BLACK, "square"),
    _ALONE: (BLUE, "circle"),
    _RESET: (PURPLE, "diamond"),
    _CANDIDATE: (BLUE, "diamond"),
}
"""colour and symbol by kind of effect"""
_BEST_WORDS = {BestWord.BREAKS: "breaks the plateau", BestWord.IMPROVES: "improves", BestWord.NONE: "not shown"}
_LASTING = "no mere head start"
_ROW_STEP = 0.27
"""distance between the effects of a row, in rows"""


@dataclass(frozen=True, kw_only=True)
class ForestMark:
    """One mark of a row."""

    kind: str
    """name in the legend"""
    effect: Contrast
    test: tuple[str, Contrast] | None
    """a further comparison that the row's word rests on: its name and result"""


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One change, or all changes together, with its effects in nats; above 0 is better."""

    label: str
    word: str
    effects: tuple[ForestMark, ...]
    more_seeds: int | None
    """further seeds that would decide an open word"""


def knob_rows(attribution: Attribution) -> tuple[ForestRow, ...]:
    """Return a row for the whole change from the baseline to the best, then one per knob, in the verdict's order."""
    number = len(attribution.knobs)
    together = ForestRow(
        label=f"all {number} changes together" if number > 1 else "the whole change",
        word=_BEST_WORDS[attribution.whole_word],
        effects=_effects((_TOGETHER, attribution.whole, _LASTING, attribution.whole_lasting)),
        more_seeds=None,
    )
    return (together, *(_knob_row(knob, attribution) for knob in attribution.knobs))


def _knob_row(knob: KnobVerdict, attribution: Attribution) -> ForestRow:
    return ForestRow(
        label=knob_change(knob),
        word=_knob_word(knob, attribution),
        effects=_effects(
            (_ALONE, knob.alone, _LASTING, knob.lasting),
            (_RESET, knob.reset, "more than half of the whole gain", knob.needed),
        ),
        more_seeds=knob.more_seeds,
    )


def _effects(*measured: tuple[str, Contrast | None, str, Contrast | None]) -> tuple[ForestMark, ...]:
    """Return the known effects of (kind, effect, test's name, test)."""
    return tuple(
        ForestMark(kind=kind, effect=effect, test=None if test is None else (name, test))
        for kind, effect, name, test in measured
        if effect is not None
    )


def _knob_word(knob: KnobVerdict, attribution: Attribution) -> str:
    if knob.word is KnobWord.JOINT:
        return f"{knob.word} with {knob.partner}"
    if knob.word not in (KnobWord.ALONE, KnobWord.GAINS):
        return knob.word.value
    improves = knob.word is KnobWord.ALONE and attribution.word is BestWord.IMPROVES
    word = "improves alone" if improves else knob.word.value
    return f"{word}, necessary" if knob.necessary else word


def advice_rows(attribution: Attribution) -> tuple[ForestRow, ...]:
    """Return a row per candidate, in the study's order."""
    return tuple(
        ForestRow(
            label=candidate.label,
            word=_candidate_words(candidate),
            effects=_effects((_CANDIDATE, candidate.effect, "", None)),
            more_seeds=candidate.more_seeds,
        )
        for candidate in attribution.candidates
    )


def _candidate_words(candidate: CandidateVerdict) -> str:
    diverged = f", {count(candidate.diverged, 'run')} diverged" if candidate.diverged else ""
    return f"{candidate.word}{diverged}"


def visible_range(effects: Sequence[Contrast], floor: float) -> tuple[float, float]:
    """Return the range of nats to draw.

    All gains are inside. Losses are inside up to the size of the largest gain, or up to Tukey's fence of the effects'
    sizes if that is larger. An interval may widen each side by half; a longer one leaves the figure.
    """
    means = [effect.mean for effect in effects]
    seeds = [difference for effect in effects for difference in effect.differences.values()]
    values = [0.0, floor, -floor, *means, *seeds]
    high = max(values)
    low = max(min(values), -max(high, tukey_fence([abs(mean) for mean in means])))
    room = (high - low) / 2
    lowest = min([low, *(effect.low for effect in effects if effect.low is not None)])
    highest = max([high, *(effect.high for effect in effects if effect.high is not None)])
    return max(lowest, low - room), min(highest, high + room)


def forest_picture(attribution: Attribution) -> Picture:
    """Draw each knob alone and what the best loses without it; the advice is a second figure."""
    key, title = "confirmed-effects", "Effect of each knob on fresh seeds"
    panels = [rows for rows in (knob_rows(attribution), advice_rows(attribution)) if any(row.effects for row in rows)]
    if not panels:
        return no_picture(key, title, f"Nothing to compare: {why(attribution)}.")
    reading = (
        "Mark and bar: the mean over seeds and its 95 % interval. Ticks: single seeds. Grey: less than "
        f"{short(attribution.min_effect)} nats, too little to count (min_effect). A knob works alone if its own gain "
        "exceeds the grey band and lasts as runs get longer; it gains if only the first is shown yet. It is necessary "
        "if the best loses more than half of its gain when only that knob is set back to the baseline's value. The "
        "words hold for all knobs together (Holm). "
        "Losses far larger than the rest are drawn at the edge, with their number."
    )
    if len(panels) > 1:
        reading += " The lower figure shows the advice as given."
    return Picture(
        key=key,
        title=title,
        summary=_summary(attribution),
        reading=reading,
        figures=tuple(_figure(rows, attribution.min_effect) for rows in panels),
    )


def _summary(attribution: Attribution) -> str:
    knobs_by_word: dict[str, list[str]] = {}
    for knob in attribution.knobs:
        knobs_by_word.setdefault(_knob_word(knob, attribution), []).append(knob.knob)
    parts = [_whole_effect(attribution), *(f"{joined(names)}: {word}" for word, names in knobs_by_word.items())]
    words = [candidate.word for candidate in attribution.candidates]
    if words:
        counts = joined(f"{words.count(word)} {word}" for word in CandidateWord if word in words)
        parts.append(f"of {count(len(words), 'piece')} of advice: {counts}")
    return f"{'; '.join(parts)}."


def _whole_effect(attribution: Attribution) -> str:
    """Return how much lower the best ends, and whether that is shown."""
    effect, reason = attribution.whole, why(attribution)
    if effect is None:
        return reason[:1].upper() + reason[1:]
    size = f"{nats(abs(effect.mean))} nats {'lower' if effect.mean >= 0 else 'higher'}"
    interval = interval_words(effect)
    known = f"95 %: {interval}" if interval else "interval not known"
    words = f"The best config ends {size} on {count(effect.n, 'fresh seed')} ({known})"
    if reason:
        return f"{words}, not shown: {reason}"
    return f"{words}, not shown to be better" if attribution.whole_word is BestWord.NONE else words


def _figure(rows: Sequence[ForestRow], floor: float) -> go.Figure:
    figure = rows_with_remarks(
        "effect of the change (nats; right is better)",
        [(row.label, row.word) for row in rows],
        marks=max(len(row.effects) for row in rows),
    )
    figure.add_vrect(x0=-floor, x1=floor, fillcolor=BAND, line_width=0, layer="below")
    figure.add_vline(x=0, line={"color": BLACK, "width": 1})
    low, high = visible_range([mark.effect for row in rows for mark in row.effects], floor)
    for kind in _STYLES:
        figure.add_traces(list(_kind_traces(kind, rows, least=low)))
    for y, row in enumerate(rows):
        if not row.effects:
            figure.add_annotation(x=0, y=y, text="no final loss to compare", showarrow=False, bgcolor=WHITE)
    return figure.update_xaxes(range=padded_range(low, high, share=0.04))


def _kind_traces(kind: str, rows: Sequence[ForestRow], *, least: float) -> Iterator[go.Scatter]:
    """Yield the seeds, intervals and means of one kind of effect; values below `least` are drawn at `least`."""
    marks = [
        (mark, row, index + _ROW_STEP * place)
        for index, row in enumerate(rows)
        for place, mark in enumerate(row.effects)
        if mark.kind == kind
    ]
    if not marks:
        return
    colour, symbol = _STYLES[kind]
    effects = [(mark.effect, y) for mark, _, y in marks]
    yield seed_ticks([(effect.differences, y) for effect, y in effects], colour, least=least, what="gain")
    yield interval_bars([(effect.low, effect.high, y) for effect, y in effects], colour)
    yield go.Scatter(
        x=[max(effect.mean, least) for effect, _ in effects],
        y=[y for _, y in effects],
        mode="markers+text",
        marker={"color": colour, "symbol": symbol, "size": 10},
        text=[f"  {signed(effect.mean)}" if effect.mean < least else "" for effect, _ in effects],
        textposition="middle right",
        name=kind,
        customdata=[_hover(mark, row) for mark, row, _ in marks],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _hover(mark: ForestMark, row: ForestRow) -> str:
    effect = mark.effect
    lines = [f"<b>{wrapped(row.label, width=44)}</b>", f"{mark.kind}: {contrast_words(effect)}"]
    if effect.p is not None:
        p = "Holm's p" if mark.kind in (_ALONE, _CANDIDATE) else "p"
        lines.append(f"{p} {p_value(effect.p)} against {short(effect.threshold)} nats ({effect.method})")
    if mark.test is not None:
        name, test = mark.test
        lines.append(f"{name}: {contrast_words(test)}")
    if row.more_seeds is not None:
        lines.append(f"about {count(row.more_seeds, 'more seed')} would decide")
    return "<br>".join([*lines, wrapped(row.word, width=44)])
