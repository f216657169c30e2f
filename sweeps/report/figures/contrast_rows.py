"""Rows of contrasts, as the forest plot and the ablation path draw them: labels, remarks, intervals and seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import plotly.graph_objects as go

from sweeps.analysis.attribution import KnobVerdict
from sweeps.analysis.contrasts import Contrast
from sweeps.report.figures.style import rows_figure, wrapped
from sweeps.text import count, short, signed

_LABEL_WIDTH, _REMARK_WIDTH = 24, 17
"""characters per line of a row's label and of its remark, which together fit on a phone"""


def rows_with_remarks(x_title: str, texts: Sequence[tuple[str, str]], *, marks: int) -> go.Figure:
    """Return a figure with a row per (label, remark) in `texts`, each with room for `marks` marks.

    The label stands above the row on the left, the remark on the right. A remark is broken at its own line ends, and
    where it would meet the label on a phone.
    """
    figure = rows_figure(x_title, ["" for _ in texts])
    side = {"x": 0.994, "xanchor": "right", "align": "right"}
    notes, lines = [], 1
    for note, (label, remark) in zip(figure.layout.annotations, texts, strict=True):
        # without spaces around its arrow, a change stays on one line
        left = wrapped(label.replace(" → ", "→"), width=_LABEL_WIDTH).replace("→", " → ")
        right = "<br>".join(wrapped(part, width=_REMARK_WIDTH) for part in remark.splitlines())
        shared = note.to_plotly_json()
        notes += [shared | {"text": left, "align": "left"}, shared | side | {"text": f"<b>{right}</b>"}]
        lines = max(lines, *(text.count("<br>") + 1 for text in (left, right)))
    figure.layout.annotations = notes
    return figure.update_layout(height=124 + (12 + 16 * lines + 17 * marks) * len(texts))


def seed_ticks(
    values: Iterable[tuple[Mapping[int, float], float]], colour: str, *, what: str, least: float = -math.inf
) -> go.Scatter:
    """Return a trace with a tick per seed, from (value by seed, y); values below `least` are drawn at `least`.

    `what`: the values' name in the hover text.
    """
    ticks = [(seed, value, y) for by_seed, y in values for seed, value in sorted(by_seed.items())]
    return go.Scatter(
        x=[max(value, least) for _, value, _ in ticks],
        y=[y for *_, y in ticks],
        mode="markers",
        marker={"color": colour, "symbol": "line-ns", "size": 11, "line": {"width": 1.5, "color": colour}},
        opacity=0.6,
        showlegend=False,
        text=[f"seed {seed}: {what} {nats(value)} nats" for seed, value, _ in ticks],
        hovertemplate="%{text}<extra></extra>",
    )


def interval_bars(intervals: Iterable[tuple[float | None, float | None, float]], colour: str) -> go.Scatter:
    """Return a trace with a bar per known interval, from (low, high, y)."""
    known = [(low, high, y) for low, high, y in intervals if low is not None and high is not None]
    return go.Scatter(
        x=[x for low, high, _ in known for x in (low, high, None)],
        y=[place for *_, y in known for place in (y, y, None)],
        mode="lines",
        line={"color": colour, "width": 2.5},
        showlegend=False,
        hoverinfo="skip",
    )


def knob_change(knob: KnobVerdict) -> str:
    """Return the knob's change from the baseline to the best: learning_rate 0.001 → 0.003."""
    return f"{knob.knob} {short(knob.was)} → {short(knob.new)}"


def interval_words(effect: Contrast) -> str:
    """Return the 95 % interval as "low to high", negated for a negative mean; empty if it isn't known."""
    ends = [end if effect.mean >= 0 else -end for end in (effect.low, effect.high) if end is not None]
    return " to ".join(nats(end) for end in sorted(ends))


def contrast_words(effect: Contrast) -> str:
    """Return a contrast as hover text: its mean, interval and number of seeds."""
    known = effect.low is not None and effect.high is not None
    interval = f"{signed(effect.low or 0.0)} to {signed(effect.high or 0.0)}, 95 %" if known else "interval not known"
    return f"{signed(effect.mean)} nats ({interval}), {count(effect.n, 'seed')}"


def nats(value: float) -> str:
    """Return a loss or a difference to three decimals, with a true minus."""
    return f"{value:.3f}".replace("-", "−")
