"""Isolation plots: the best final loss over each knob's range, with all other knobs free.

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
from sweeps.analysis.noise import Noise
from sweeps.pruning.law import Floats
from sweeps.report.figures.sample import note_on, sample
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
    fenced_range,
    final_hover,
    hover,
    knob_axis,
    new_figure,
    no_picture,
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
    """in the knob's units; a choice reaches half a place to either side of its own place"""
    high: float
    finals: tuple[Final, ...]
    """the search's trials in it, including those that diverged"""

    @property
    def best(self) -> Final | None:
        """The trial with the lowest final loss; None: no trial, or all diverged."""
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
    """all values of a knob of unordered values, the first at place 0; empty for a range"""
    buckets: tuple[Bucket, ...]
    """from the low end of the range to the high end; one per choice"""
    without: tuple[Run, ...]
    """trials that ended without a final loss, told or predicted"""
    baseline: float | int
    """the baseline's value"""

    @property
    def finals(self) -> tuple[Final, ...]:
        """The trials of all buckets."""
        return tuple(final for bucket in self.buckets for final in bucket.finals)

    @property
    def gap(self) -> float:
        """How far the worst bucket's best loss is above the best bucket's, nats; 0 with fewer than two."""
        losses = [bucket.best.loss for bucket in self.buckets if bucket.best is not None]
        return max(losses) - min(losses) if losses else 0.0

    def at(self, run: Run) -> float:
        """Return where a trial lies on the axis."""
        return _place(self.choices, run.params[self.param])


def slice_data(findings: Findings) -> tuple[Slice, ...]:
    """Return one slice per knob, in the study's order."""
    results, finals = findings.results, findings.finals
    without = without_final(results, finals)
    return tuple(_slice(name, knob, finals, without, results) for name, knob in results.study.sampled.items())


def _slice(
    name: str, knob: RangeKnob | ChoicesKnob, finals: Sequence[Final], without: Sequence[Run], results: Results
) -> Slice:
    param = PARAM.get(name, name)
    choices = knob.choices if isinstance(knob, ChoicesKnob) else ()
    edges = _bucket_edges(knob)
    held: list[list[Final]] = [[] for _ in edges[1:]]
    for final in finals:
        if param in final.run.params:
            place = _place(choices, final.run.params[param])
            held[int(np.searchsorted(edges[1:-1], place, side="right"))].append(final)
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


def _bucket_edges(knob: RangeKnob | ChoicesKnob) -> Floats:
    """Return the ends of the buckets, ascending."""
    if isinstance(knob, ChoicesKnob):
        return np.linspace(-0.5, len(knob.choices) - 0.5, len(knob.choices) + 1)
    spaced = np.geomspace if knob.log else np.linspace
    return spaced(float(knob.low), float(knob.high), BUCKETS + 1)


def _place(choices: Sequence[float | int], value: float | int | str) -> float:
    """Return a value's place on the axis: the value itself, or a choice's number in their order."""
    return float(choices.index(value)) if choices else float(value)


def slices_picture(findings: Findings) -> Picture:
    """Draw one panel per knob: the best final loss in each fifth of its range."""
    key, title = "slices", "Lowest loss over each knob's range"
    slices, results = slice_data(findings), findings.results
    if not slices or all(final.diverged for final in slices[0].finals):
        return no_picture(key, title, "Nothing to draw yet: no trial of the search has a final loss.")
    widest = max(slices, key=lambda data: data.gap)
    return Picture(
        key=key,
        title=title,
        summary=f"Over its range, {axis_name(widest.knob)} changes the best loss the most: its worst part lets it fall "
        f"to {widest.gap:.3f} nats above the best part's ({_trial_counts(slices[0])}).",
        reading="Blue bars: the lowest loss of the trials in a fifth of the knob's range (or with each unordered "
        "value), whatever the other knobs were. The numbers under them count those trials; many trials find a lower "
        "loss than few. Open marks were stopped early and stand at their predicted loss. Crosses diverged, triangles "
        "did not fit or failed; losses far above the rest are drawn at the top edge too. Star: the best. Dashed, on "
        f"grey: the baseline's mean and the range of its {count(len(results.baseline_runs), 'seed')}. Dotted: the "
        "baseline's value of the knob." + note_on(len(slices[0].finals)),
        figures=tuple(_panel(data, results, findings.screening.baseline) for data in slices),
    )


def _trial_counts(data: Slice) -> str:
    """Return how many trials of each kind there are."""
    imputed = sum(final.imputed for final in data.finals)
    diverged = sum(final.diverged for final in data.finals)
    parts = [count(len(data.finals) - imputed - diverged, "complete trial")]
    kinds = ((imputed, "stopped early"), (diverged, "diverged"), (len(data.without), "without a loss"))
    return joined([*parts, *(f"{number} {kind}" for number, kind in kinds if number)])


def _panel(data: Slice, results: Results, noise: Noise | None) -> go.Figure:
    seeds = [run.val_loss for run in results.baseline_runs if run.val_loss is not None]
    finite = [final for final in data.finals if not final.diverged]
    low, top = fenced_range([*(final.loss for final in finite), *seeds])
    figure = new_figure(axis_name(data.knob), "final loss (nats)", height=310, showlegend=False)
    if noise is not None:
        figure.add_hrect(y0=min(seeds), y1=max(seeds), fillcolor=BAND, line_width=0, layer="below")
        figure.add_hline(y=noise.mean, line={"color": BLACK, "width": 1, "dash": "dash"})
    baseline = _place(data.choices, data.baseline)
    figure.add_vline(x=baseline, line={"color": GREY, "width": 1, "dash": "dot"})

    def places(finals: Iterable[Final]) -> list[tuple[float, float, str]]:
        drawn = sample(list(finals), lambda final: final.run)
        return [(data.at(final.run), min(final.loss, top), final_hover(final)) for final in drawn]

    complete = [final for final in finite if not final.imputed]
    imputed = [final for final in finite if final.imputed]
    diverged = [final for final in data.finals if final.diverged]
    bests = [best for bucket in data.buckets if (best := bucket.best) is not None]
    opened, star = {"symbol": "circle-open"}, {"symbol": SYMBOLS["best"], "color": VERMILION, "size": 14}
    cross = {"symbol": "x-thin", "line": {"width": 1.5, "color": GREY}}
    figure.add_traces(
        [
            _marks(places(complete), opacity=0.5),
            _marks(places(imputed), **opened),
            _marks(places(diverged), **cross),
            _marks(
                [(data.at(run), top, hover(run)) for run in sample(data.without, lambda run: run)],
                symbol="triangle-down-open",
            ),
            _best_bars(data.buckets, top=top),
            _marks(places(best for best in bests if not best.imputed), color=BLUE),
            _marks(places(best for best in bests if best.imputed), color=BLUE, **opened),
            _marks(places(final for final in complete if final.run is results.best), **star),
            _bucket_counts(data, y=low - 0.07 * (top - low)),
        ]
    )
    figure.update_yaxes(range=(low - 0.14 * (top - low), top))
    return figure.update_xaxes(**_knob_axis(data))


def _marks(marks: Sequence[tuple[float, float, str]], **marker: Any) -> go.Scatter:
    """Return marks at (x, y) with their hover text."""
    return go.Scatter(
        x=[x for x, _, _ in marks],
        y=[y for _, y, _ in marks],
        mode="markers",
        marker={"color": GREY, "size": 7, **marker},
        text=[text for _, _, text in marks],
        hovertemplate="%{text}<extra></extra>",
        cliponaxis=False,
    )


def _best_bars(buckets: Sequence[Bucket], *, top: float) -> go.Scatter:
    """Return a bar across each bucket at its best loss, at most `top`."""
    bests = [(bucket, min(best.loss, top)) for bucket in buckets if (best := bucket.best) is not None]
    return go.Scatter(
        x=[x for bucket, _ in bests for x in (bucket.low, bucket.high, None)],
        y=[y for _, loss in bests for y in (loss, loss, None)],
        mode="lines",
        line={"color": BLUE, "width": 3},
        hoverinfo="skip",
    )


def _bucket_counts(data: Slice, *, y: float) -> go.Scatter:
    """Return the number of trials under each bucket."""
    return go.Scatter(
        x=[
            math.sqrt(bucket.low * bucket.high) if data.log else (bucket.low + bucket.high) / 2
            for bucket in data.buckets
        ],
        y=[y] * len(data.buckets),
        mode="text",
        text=[str(len(bucket.finals)) for bucket in data.buckets],
        textfont={"size": 11, "color": INK},
        hoverinfo="skip",
    )


def _knob_axis(data: Slice) -> dict[str, Any]:
    low, high = data.buckets[0].low, data.buckets[-1].high
    if not data.choices:
        return knob_axis(low, high, log=data.log)
    places, names = list(range(len(data.choices))), [short(value) for value in data.choices]
    return {"range": (low, high), "tickvals": places, "ticktext": names}
