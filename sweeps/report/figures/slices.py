"""Isolation plots: over each knob's range, the best final loss that the search found with all other knobs free.

After the Deep Learning Tuning Playbook (Godbole et al. 2023), "isolation plots".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from sweeps.analysis.finals import Final, without_final
from sweeps.analysis.findings import Findings
from sweeps.pruning.law import Floats
from sweeps.report.figures.style import (
    BAND,
    BLACK,
    BLUE,
    GREY,
    INK,
    SYMBOLS,
    VERMILION,
    Picture,
    axis_name,
    figure,
    hover,
    nothing,
    padded,
    tukey_fence,
)
from sweeps.store.records import Results, Run
from sweeps.study.knobs import PARAM, ChoicesKnob, RangeKnob
from sweeps.text import count, joined, short

BUCKETS = 5
"""equal parts of a knob's range, on its own scale"""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A part of a knob's range, or one of its choices."""

    low: float
    """in the knob's units; a choice reaches half a place to both sides of its own"""
    high: float
    finals: tuple[Final, ...]
    """of the search's trials in it, those that diverged too"""

    @property
    def best(self) -> Final | None:
        """The trial with the lowest final loss; None where there is none, or all diverged."""
        best = min(self.finals, key=lambda final: final.loss, default=None)
        return None if best is None or best.diverged else best


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One knob's values against the final losses of the search's trials."""

    knob: str
    param: str
    """its Optuna parameter"""
    log: bool
    choices: tuple[float | int, ...]
    """a knob of unordered values: all of them, the first at place 0; empty for a range"""
    buckets: tuple[Bucket, ...]
    """from the low end of its range to the high one; one a choice"""
    without: tuple[Run, ...]
    """trials that ended without anything that could stand for a final loss"""
    baseline: float | int
    """the baseline's value"""

    @property
    def finals(self) -> tuple[Final, ...]:
        """All buckets'."""
        return tuple(final for bucket in self.buckets for final in bucket.finals)

    @property
    def gap(self) -> float:
        """What the worst bucket's best is above the best one's, nats; 0 where fewer than two have one."""
        losses = [bucket.best.loss for bucket in self.buckets if bucket.best is not None]
        return max(losses) - min(losses) if losses else 0.0

    def at(self, run: Run) -> float:
        """Where a trial lies on the axis."""
        return _at(self.choices, run.params[self.param])


def slice_data(findings: Findings) -> tuple[Slice, ...]:
    """One slice a knob, in the study's order."""
    results, known = findings.results, findings.finals
    without = without_final(results, known)
    return tuple(_slice(name, knob, known, without, results) for name, knob in results.study.sampled.items())


def _slice(
    name: str, knob: RangeKnob | ChoicesKnob, known: Sequence[Final], without: Sequence[Run], results: Results
) -> Slice:
    param = PARAM.get(name, name)
    choices = knob.choices if isinstance(knob, ChoicesKnob) else ()
    edges = _edges(knob)
    held: list[list[Final]] = [[] for _ in edges[1:]]
    for final in known:
        if param in final.run.params:
            value = _at(choices, final.run.params[param])
            held[int(np.searchsorted(edges[1:-1], value, side="right"))].append(final)
    return Slice(
        knob=name,
        param=param,
        log=isinstance(knob, RangeKnob) and knob.log,
        choices=choices,
        buckets=tuple(
            Bucket(low=float(low), high=float(high), finals=tuple(inside))
            for low, high, inside in zip(edges[:-1], edges[1:], held, strict=True)
        ),
        without=tuple(run for run in without if param in run.params),
        baseline=results.study.knob_value(name),
    )


def _edges(knob: RangeKnob | ChoicesKnob) -> Floats:
    """The buckets' ends, ascending."""
    if isinstance(knob, ChoicesKnob):
        return np.linspace(-0.5, len(knob.choices) - 0.5, len(knob.choices) + 1)
    between = np.geomspace if knob.log else np.linspace
    return between(float(knob.low), float(knob.high), BUCKETS + 1)


def _at(choices: Sequence[float | int], value: float | int | str) -> float:
    """A value's place on the axis: itself, of unordered ones the number in their order."""
    return float(choices.index(value)) if choices else float(value)


def slices(findings: Findings) -> Picture:
    """One panel a knob: the best final loss in each fifth of its range."""
    key, title = "slices", "How low each knob lets the loss go"
    data = slice_data(findings)
    known = [final for final in data[0].finals if not final.diverged]
    if not known:
        return nothing(key, title, "Nothing to draw yet: no trial of the search has a final loss.")
    widest, seeds = max(data, key=lambda one: one.gap), len(findings.results.baseline_runs)
    return Picture(
        key=key,
        title=title,
        summary=f"Over its range, {axis_name(widest.knob)} changes the best loss the most: its worst part lets it fall "
        f"to {widest.gap:.3f} nats above the best part's ({_counted(data[0])}).",
        reading="Blue bars: the lowest loss of the trials in a fifth of the knob's range (of unordered values: with "
        "each), whatever the other knobs were; under them how many trials that were, for many find a lower loss than "
        "few. Open marks were stopped early and stand where they were predicted to end; crosses diverged, triangles "
        "did not fit or failed, and losses far above the rest stand at the top edge too. Star: the best. Dashed, on "
        f"grey: the baseline's mean and the range of its {count(seeds, 'seed')}; dotted: its value of the knob.",
        figures=tuple(_panel(one, findings) for one in data),
    )


def _counted(one: Slice) -> str:
    """How many trials there are of each kind."""
    imputed, diverged = (sum(getattr(final, kind) for final in one.finals) for kind in ("imputed", "diverged"))
    parts = [count(len(one.finals) - imputed - diverged, "complete trial")]
    parts += [f"{n} {what}" for n, what in ((imputed, "stopped early"), (diverged, "diverged")) if n]
    return joined([*parts, *([f"{len(one.without)} without a loss"] if one.without else [])])


def _panel(one: Slice, findings: Findings) -> go.Figure:
    results, noise = findings.results, findings.screening.baseline
    seen = [final for final in one.finals if not final.diverged]
    seeds = [run.val_loss for run in results.baseline_runs if run.val_loss is not None]
    low, top = fenced([*(final.loss for final in seen), *seeds])
    made = figure(axis_name(one.knob), "final loss (nats)", height=310, showlegend=False)
    if noise is not None:
        made.add_hrect(y0=min(seeds), y1=max(seeds), fillcolor=BAND, line_width=0, layer="below")
        made.add_hline(y=noise.mean, line={"color": BLACK, "width": 1, "dash": "dash"})
    made.add_vline(x=_at(one.choices, one.baseline), line={"color": GREY, "width": 1, "dash": "dot"})
    complete, imputed = ([final for final in seen if final.imputed is word] for word in (False, True))
    bests = [(bucket, best) for bucket in one.buckets if (best := bucket.best) is not None]
    bars = go.Scatter(
        x=[x for bucket, _ in bests for x in (bucket.low, bucket.high, None)],
        y=[y for _, best in bests for y in (min(best.loss, top), min(best.loss, top), None)],
        mode="lines",
        line={"color": BLUE, "width": 3},
        hoverinfo="skip",
    )
    numbers = go.Scatter(
        x=[_middle(bucket, log=one.log) for bucket in one.buckets],
        y=[low - 0.07 * (top - low)] * len(one.buckets),
        mode="text",
        text=[str(len(bucket.finals)) for bucket in one.buckets],
        textfont={"size": 11, "color": INK},
        hoverinfo="skip",
    )

    def ended(finals: Iterable[Final]) -> list[tuple[float, float, str]]:
        return [(one.at(final.run), min(final.loss, top), said(final)) for final in finals]

    opened, star = {"symbol": "circle-open"}, {"symbol": SYMBOLS["best"], "color": VERMILION, "size": 14}
    cross = {"symbol": "x-thin", "line": {"width": 1.5, "color": GREY}}
    winner = results.best
    made.add_traces(
        [
            _marks(ended(complete), opacity=0.5),
            _marks(ended(imputed), **opened),
            _marks(ended(final for final in one.finals if final.diverged), **cross),
            _marks([(one.at(run), top, hover(run)) for run in one.without], symbol="triangle-down-open"),
            bars,
            _marks(ended(best for _, best in bests if not best.imputed), color=BLUE),
            _marks(ended(best for _, best in bests if best.imputed), color=BLUE, **opened),
            _marks(ended(final for final in complete if final.run is winner), **star),
            numbers,
        ]
    )
    made.update_yaxes(range=(low - 0.14 * (top - low), top))
    return made.update_xaxes(**_axis(one))


def _marks(marks: Sequence[tuple[float, float, str]], **marker: Any) -> go.Scatter:
    """Marks at (x, y) with their hover text."""
    return go.Scatter(
        x=[x for x, _, _ in marks],
        y=[y for _, y, _ in marks],
        mode="markers",
        marker={"color": GREY, "size": 7, **marker},
        text=[text for _, _, text in marks],
        hovertemplate="%{text}<extra></extra>",
        cliponaxis=False,
    )


def said(final: Final) -> str:
    """A trial's hover text, with the loss predicted for one that was stopped early."""
    predicted = f"<br>predicted final loss {final.loss:.4f}" if final.imputed else ""
    return f"{hover(final.run)}{predicted}"


def fenced(losses: Sequence[float]) -> tuple[float, float]:
    """A range from the lowest loss to Tukey's upper fence, or to the highest if below it."""
    low, high = min(losses), max(losses)
    return padded(low, min(high, tukey_fence(losses) or high))


def _middle(bucket: Bucket, *, log: bool) -> float:
    return math.sqrt(bucket.low * bucket.high) if log else (bucket.low + bucket.high) / 2


def _axis(one: Slice) -> dict[str, Any]:
    low, high = one.buckets[0].low, one.buckets[-1].high
    if one.choices:
        places, names = list(range(len(one.choices))), [short(value) for value in one.choices]
        return {"range": (low, high), "tickvals": places, "ticktext": names}
    return axis_of(low, high, log=one.log)


def axis_of(low: float, high: float, *, log: bool) -> dict[str, Any]:
    """Settings of an axis over a knob's whole range."""
    if not log:
        return {"range": padded(low, high)}
    ends = math.log10(low), math.log10(high)
    ticks = "D2" if ends[1] - ends[0] < 2 else 1
    return {"type": "log", "range": padded(*ends), "dtick": ticks, "exponentformat": "power"}
