"""The pictures of a study's result: effects of single changes, curves, slices, importances, pruning, perplexity.

Each is data first, then a figure; `pictures` gives all of them, in the report's order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from sweeps import best_curve, confirm_plots, curves, maps, outlooks, pruning_plots, units
from sweeps.chosen import baseline_runs, best_run
from sweeps.figure import (
    BAND,
    BLACK,
    BLUE,
    GREY,
    INNER_BAND,
    KIND_COLOURS,
    SYMBOLS,
    VERMILION,
    Picture,
    hover,
    nothing,
    plain,
    rows_figure,
)
from sweeps.importance_plot import importance
from sweeps.parallel import parallel
from sweeps.results import Results, Run
from sweeps.screening import Effect, Word, screen
from sweeps.slices import slices
from sweeps.units import perplexity
from sweeps.words import advised, change, count, joined, signed

_MARKS = {
    Word.LOWERS: (BLUE, "circle"),
    Word.RAISES: (VERMILION, "square"),
    Word.NOISE: (GREY, "circle-open"),
    Word.UNKNOWN: (GREY, "circle-open"),
}


def pictures(results: Results) -> tuple[Picture, ...]:
    """Every picture of the study, most telling first."""
    return (
        *confirm_plots.pictures(results),
        effects(results),
        best_curve.best_curve(results),
        curves.candidate_differences(results),
        curves.all_curves(results),
        outlooks.stopped_curves(results),
        slices(results),
        importance(results),
        *maps.pictures(results),
        parallel(results),
        *pruning_plots.pictures(results),
        perplexities(results),
    )


@dataclass(frozen=True, kw_only=True)
class EffectRow:
    """One change, as a row of the effects picture."""

    label: str
    effect: Effect


def effect_rows(results: Results) -> tuple[EffectRow, ...]:
    """The knobs' star runs by the size of the knob's largest effect, then the candidates."""
    found = screen(results)

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


def effects(results: Results) -> Picture:
    """Every change tried alone: its effect on the final loss, over the band of seed noise."""
    key, title = "effects", "What each change does on its own"
    rows, found = effect_rows(results), screen(results)
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
    first, third = np.quantile(sizes, [0.25, 0.75])
    noise = max(effect.family_half_width or 0.0 for effect in effects)
    return max(1.2 * noise, min(max(sizes), float(third + 1.5 * (third - first)))) or 1.0


def _effects_summary(rows: Sequence[EffectRow], seeds: int) -> str:
    lower = [row for row in rows if row.effect.word is Word.LOWERS]
    higher = sum(row.effect.word is Word.RAISES for row in rows)
    if any(row.effect.word is Word.UNKNOWN for row in rows):
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


@dataclass(frozen=True, kw_only=True)
class PerplexityRow:
    """One row of final perplexities."""

    label: str
    kind: str
    runs: tuple[Run, ...]
    perplexities: tuple[float, ...]


def perplexity_rows(results: Results) -> tuple[PerplexityRow, ...]:
    """The baseline with all its seeds, the best trial, and each complete candidate."""
    best = best_run(results)
    candidates = [run for run in results.runs if run.origin == "candidate" and run.val_loss is not None]
    groups: list[tuple[str, str, tuple[Run, ...]]] = [("baseline", "baseline", baseline_runs(results))]
    if best is not None and best.origin != "baseline":
        groups.append((f"best ({advised(best.label)})", "best", (best,)))
    groups += [(f"advice: {advised(run.label)}", "candidate", (run,)) for run in candidates if run is not best]
    return tuple(
        PerplexityRow(
            label=label, kind=kind, runs=runs, perplexities=tuple(perplexity(run.val_loss or 0.0) for run in runs)
        )
        for label, kind, runs in groups
        if runs
    )


def perplexities(results: Results) -> Picture:
    """Final validation perplexity of the baseline's seeds, the best trial and the candidates."""
    key, title = "perplexity", "Final perplexity"
    rows = perplexity_rows(results)
    if not rows:
        return nothing(key, title, "Nothing to draw yet: neither the baseline nor a candidate is complete.")
    made = rows_figure("validation perplexity (lower is better)", [row.label for row in rows], showlegend=False)
    for index, row in enumerate(rows):
        made.add_trace(
            go.Scatter(
                x=row.perplexities,
                y=[index] * len(row.runs),
                mode="markers",
                marker={"color": KIND_COLOURS[row.kind], "symbol": SYMBOLS[row.kind], "size": 11, "opacity": 0.7},
                text=[
                    f"{hover(run)}<br>perplexity {value:.5g}"
                    for run, value in zip(row.runs, row.perplexities, strict=True)
                ],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    if rows[0].kind == "baseline":
        mean = units.perplexity(float(np.mean([run.val_loss for run in rows[0].runs])))
        made.add_vline(x=mean, line={"color": BLACK, "width": 1, "dash": "dash"})
    words = [f"{row.label} at {float(np.exp(np.mean(np.log(row.perplexities)))):.4g}" for row in rows]
    return Picture(
        key=key,
        title=title,
        summary=f"Final perplexity: {'; '.join(words)}.",
        reading="exp of the final loss in nats; comparable only between runs with the same tokenizer and data. Dashed "
        "line: the baseline's mean loss, as perplexity.",
        figures=(made,),
    )
