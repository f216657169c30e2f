"""The confirmed verdict in pictures: the effects (`forest`), the path from the baseline to the best, and every seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from sweeps.analysis.attribution import Attribution, PathStep
from sweeps.analysis.contrasts import Contrast
from sweeps.analysis.findings import Findings
from sweeps.report.figures import forest
from sweeps.report.figures.forest import bars, changed, interval, measured, nats, rows_with_remarks, ticks
from sweeps.report.figures.seeds import seed_pairs, seeds
from sweeps.report.figures.style import BLACK, BLUE, GREY, VERMILION, Picture, nothing, padded, plain
from sweeps.text import count, joined


def pictures(findings: Findings) -> tuple[Picture, ...]:
    """All of them; none before the confirm phase has begun."""
    found = findings.attribution
    if found is None:
        return ()
    return forest.effects(found), path(found), seeds(seed_pairs(findings.evidence, found), found)


@dataclass(frozen=True, kw_only=True)
class Stair:
    """One step of the path, as a row of the waterfall."""

    label: str
    start: float
    """nats: the level of the step before; the baseline's own at the first"""
    level: float
    """nats: the baseline's mean less all drops so far, each over the seeds that its two steps share"""
    drop: Contrast | None
    losses: Mapping[int, float]
    """by seed"""


def stairs(found: Attribution) -> tuple[Stair, ...]:
    """The path's steps from the baseline on, as far as their drops are known."""
    labels = {knob.knob: changed(knob) for knob in found.knobs}
    made: list[Stair] = []
    for step in found.path:
        if made and step.drop is not None:
            start = made[-1].level
            level = start - step.drop.mean
        elif not made and step.losses:
            start = level = statistics.fmean(step.losses.values())
        else:
            break
        made.append(
            Stair(label=_step_label(step, labels), start=start, level=level, drop=step.drop, losses=step.losses)
        )
    return tuple(made)


def _step_label(step: PathStep, labels: Mapping[str, str]) -> str:
    if step.knob is not None:
        return labels.get(step.knob, step.knob)
    return f"the rest ({joined(step.rest)})" if step.rest else "baseline"


def path(found: Attribution) -> Picture:
    """Waterfall of the ablation path."""
    key, title = "ablation-path", "From the baseline to the best, one knob at a time"
    steps = stairs(found)
    drops = [(row, step, step.drop) for row, step in enumerate(steps) if step.drop is not None]
    if not drops:
        return nothing(key, title, "Not known yet: no step from the baseline towards the best has been measured.")
    made = rows_with_remarks("final loss (nats a token)", [(step.label, _remark(step)) for step in steps], marks=1)
    for row, step, _ in drops:
        ends = {"x0": step.start, "x1": step.start, "y0": row - 1, "y1": row}
        made.add_shape(type="line", line={"color": GREY, "width": 1, "dash": "dot"}, layer="below", **ends)
    for name, colour, falls in (("loss falls", BLUE, True), ("loss rises", VERMILION, False)):
        those = [(row, step, drop) for row, step, drop in drops if (drop.mean >= 0) is falls]
        if those:
            made.add_trace(
                go.Bar(
                    base=[step.start for _, step, _ in those],
                    x=[step.level - step.start for _, step, _ in those],
                    y=[row for row, *_ in those],
                    orientation="h",
                    width=0.2,
                    marker={"color": colour, "opacity": 0.4},
                    name=name,
                    customdata=[f"<b>{plain(step.label)}</b><br>drop {measured(drop)}" for _, step, drop in those],
                    hovertemplate="%{customdata}<extra></extra>",
                )
            )
    intervals = [
        (step.start - drop.high, step.start - drop.low, row)
        for row, step, drop in drops
        if drop.low is not None and drop.high is not None
    ]
    made.add_trace(bars(intervals, BLACK))
    made.add_trace(ticks([(step.losses, row) for row, step in enumerate(steps)], BLACK, what="loss"))
    made.add_trace(
        go.Scatter(
            x=[step.level for step in steps],
            y=list(range(len(steps))),
            mode="markers",
            marker={"color": BLACK, "symbol": "square", "size": 9},
            name="mean",
            text=[f"<b>{plain(step.label)}</b><br>loss {step.level:.4f}" for step in steps],
            hovertemplate="%{text}<extra></extra>",
        )
    )
    seen = [value for step in steps for value in (step.level, *step.losses.values())]
    made.update_xaxes(range=padded(min(seen), max(seen), share=0.15))
    return Picture(
        key=key,
        title=title,
        summary=_path_summary(found, steps),
        reading="Row by row one more knob takes the best's value: each time the one that lowers the loss most, given "
        "those changed above (the greedy ablation path, in real runs). Black square: mean loss, from which the next "
        "row goes on; ticks: each seed; black bar: 95 % interval of the drop; to the right the drop in nats. What is "
        "left when the best's loss is reached is changed together in the last row.",
        figures=(made,),
    )


def _remark(step: Stair) -> str:
    if step.drop is None:
        return nats(step.level)
    sure = interval(step.drop)
    way = "falls" if step.drop.mean >= 0 else "rises"
    return f"{way} by {nats(abs(step.drop.mean))}" + (f"\n({sure})" if sure else "")


def _path_summary(found: Attribution, steps: Sequence[Stair]) -> str:
    parts = [f"with {step.label} it {' '.join(_remark(step).splitlines())}" for step in steps[1:]]
    whole = {*(step.knob for step in found.path[1:]), *found.path[-1].rest} >= {knob.knob for knob in found.knobs}
    end = "with the best config" if whole and len(steps) == len(found.path) else "so far"
    numbers = sorted({step.drop.n for step in steps if step.drop is not None})
    spread = f"{numbers[0]} to " if len(numbers) > 1 else ""
    sure = f"95 % intervals, {spread}{count(numbers[-1], 'seed')}"
    start = f"The loss is {nats(steps[0].level)} nats at the baseline"
    return f"{start}; {'; '.join(parts)}: {nats(steps[-1].level)} {end} ({sure})."
