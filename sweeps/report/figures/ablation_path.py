"""Waterfall of the ablation path: the loss from the baseline to the best, one knob at a time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from sweeps.analysis.attribution import Attribution, PathStep
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
from sweeps.report.figures.style import BLACK, BLUE, GREY, VERMILION, Picture, literal, no_picture, padded_range
from sweeps.text import count, joined


@dataclass(frozen=True, kw_only=True)
class Stair:
    """One step of the path, as a row of the waterfall."""

    label: str
    start: float
    """nats: the level of the previous step; at the first step the baseline's own"""
    level: float
    """nats: the baseline's mean less all drops so far, each over the seeds that its two steps share"""
    drop: Contrast | None
    """None at the baseline"""
    losses: Mapping[int, float]
    """final loss by seed"""


def stairs(attribution: Attribution) -> tuple[Stair, ...]:
    """Return the path's steps, beginning with the baseline, up to the first unknown drop."""
    labels = {knob.knob: knob_change(knob) for knob in attribution.knobs}
    known: list[Stair] = []
    for step in attribution.path:
        if known and step.drop is not None:
            start = known[-1].level
            level = start - step.drop.mean
        elif not known and step.losses:
            start = level = statistics.fmean(step.losses.values())
        else:
            break
        label = _label(step, labels)
        known.append(Stair(label=label, start=start, level=level, drop=step.drop, losses=step.losses))
    return tuple(known)


def _label(step: PathStep, labels: Mapping[str, str]) -> str:
    if step.knob is not None:
        return labels.get(step.knob, step.knob)
    return f"the rest ({joined(step.rest)})" if step.rest else "baseline"


def path_picture(attribution: Attribution) -> Picture:
    """Draw the ablation path as a waterfall."""
    key, title = "ablation-path", "Ablation path from the baseline to the best"
    steps = stairs(attribution)
    if not any(step.drop is not None for step in steps):
        return no_picture(key, title, "Not known yet: no step from the baseline towards the best has been measured.")
    return Picture(
        key=key,
        title=title,
        summary=_summary(attribution, steps),
        reading="Each row gives one more knob the best's value: the knob that lowers the loss most, given those "
        "changed above (the greedy ablation path, in real runs). Square: the mean loss, from which the next row "
        "starts. Ticks: single seeds. Thin bar: 95 % interval of the drop. Right: the drop in nats. Once the best's "
        "loss is reached, the remaining knobs are changed together in the last row.",
        figures=(_figure(steps),),
    )


def _summary(attribution: Attribution, steps: Sequence[Stair]) -> str:
    parts = [f"with {step.label} it {' '.join(_remark(step).splitlines())}" for step in steps[1:]]
    on_path = {*(step.knob for step in attribution.path[1:]), *attribution.path[-1].rest}
    ends_at_best = on_path >= {knob.knob for knob in attribution.knobs} and len(steps) == len(attribution.path)
    end = "with the best config" if ends_at_best else "so far"
    numbers = sorted({step.drop.n for step in steps if step.drop is not None})
    least = f"{numbers[0]} to " if len(numbers) > 1 else ""
    intervals = f"95 % intervals, {least}{count(numbers[-1], 'seed')}"
    start = f"The loss is {nats(steps[0].level)} nats at the baseline"
    return f"{start}; {'; '.join(parts)}: {nats(steps[-1].level)} {end} ({intervals})."


def _remark(step: Stair) -> str:
    if step.drop is None:
        return nats(step.level)
    verb = "falls" if step.drop.mean >= 0 else "rises"
    size, interval = nats(abs(step.drop.mean)), interval_words(step.drop)
    return f"{verb} by {size}" + (f"\n({interval})" if interval else "")


def _figure(steps: Sequence[Stair]) -> go.Figure:
    figure = rows_with_remarks("final loss (nats per token)", [(step.label, _remark(step)) for step in steps], marks=1)
    drops = [(row, step, step.drop) for row, step in enumerate(steps) if step.drop is not None]
    for row, step, _ in drops:
        ends = {"x0": step.start, "x1": step.start, "y0": row - 1, "y1": row}
        figure.add_shape(type="line", line={"color": GREY, "width": 1, "dash": "dot"}, layer="below", **ends)
    falls = [(row, step, drop) for row, step, drop in drops if drop.mean >= 0]
    rises = [(row, step, drop) for row, step, drop in drops if not drop.mean >= 0]
    for name, colour, group in (("loss falls", BLUE, falls), ("loss rises", VERMILION, rises)):
        if group:
            figure.add_trace(_drop_bars(group, name=name, colour=colour))
    intervals = [
        (step.start - drop.high, step.start - drop.low, row)
        for row, step, drop in drops
        if drop.low is not None and drop.high is not None
    ]
    figure.add_trace(interval_bars(intervals, BLACK))
    figure.add_trace(seed_ticks([(step.losses, row) for row, step in enumerate(steps)], BLACK, what="loss"))
    figure.add_trace(
        go.Scatter(
            x=[step.level for step in steps],
            y=list(range(len(steps))),
            mode="markers",
            marker={"color": BLACK, "symbol": "square", "size": 9},
            name="mean",
            text=[f"<b>{literal(step.label)}</b><br>loss {step.level:.4f}" for step in steps],
            hovertemplate="%{text}<extra></extra>",
        )
    )
    losses = [loss for step in steps for loss in (step.level, *step.losses.values())]
    return figure.update_xaxes(range=padded_range(min(losses), max(losses), share=0.15))


def _drop_bars(drops: Sequence[tuple[int, Stair, Contrast]], *, name: str, colour: str) -> go.Bar:
    return go.Bar(
        base=[step.start for _, step, _ in drops],
        x=[step.level - step.start for _, step, _ in drops],
        y=[row for row, *_ in drops],
        orientation="h",
        width=0.2,
        marker={"color": colour, "opacity": 0.4},
        name=name,
        customdata=[f"<b>{literal(step.label)}</b><br>drop {contrast_words(drop)}" for _, step, drop in drops],
        hovertemplate="%{customdata}<extra></extra>",
    )
