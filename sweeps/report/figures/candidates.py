"""The figure of the advice: each candidate's loss less the baseline's over the course of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from sweeps.analysis.findings import Findings
from sweeps.analysis.noise import noise_of
from sweeps.report.figures.curves import _SKIPPED, _STYLES, LOSS, TOKENS, add_schedules, band, curve, drawn, zoom
from sweeps.report.figures.style import BLACK, Picture, figure, hover, nothing, padded, plain
from sweeps.store.records import Run
from sweeps.text import advised, joined, signed
from sweeps.verdict.screened import CANDIDATE_WORDS
from trainer.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One run against the baseline's seeds, evaluation by evaluation."""

    run: Run
    tokens: tuple[int, ...]
    nats: tuple[float, ...]
    """the baseline's mean - the run's loss: positive is better"""
    half_widths: tuple[float, ...]
    """95 % interval of one more baseline run at each evaluation (pointwise); empty: noise unknown"""


def difference(run: Run, baseline: Sequence[Run]) -> Difference | None:
    """A run against the baseline's seeds at its own evaluations, between which theirs are interpolated.

    None: one of them has no evaluations.
    """
    mine, seeds = curve(run), [curve(one) for one in baseline]
    if not mine.tokens or not seeds or not all(one.tokens for one in seeds):
        return None
    last = min(one.tokens[-1] for one in seeds)
    kept = [(tokens, loss) for tokens, loss in zip(mine.tokens, mine.losses, strict=True) if tokens <= last]
    at = [tokens for tokens, _ in kept]
    theirs = np.array([np.interp(at, one.tokens, one.losses) for one in seeds])
    noises = [noise_of(column) for column in theirs.T.tolist()]
    widths = [noise.half_width() for noise in noises]
    return Difference(
        run=run,
        tokens=tuple(at),
        nats=tuple(noise.mean - loss for noise, (_, loss) in zip(noises, kept, strict=True)),
        half_widths=tuple(width or 0.0 for width in widths) if any(widths) else (),
    )


def candidate_differences(findings: Findings) -> Picture:
    """How far each candidate is below or above the baseline's mean, as training goes on."""
    key, title = "candidates", "The advice against the baseline"
    effects = {effect.run.id: effect for effect in findings.screening.advice}
    baseline = findings.results.baseline_runs
    found = [difference(effect.run, baseline) for effect in effects.values()]
    shown = [one for one in found if one is not None and one.tokens]
    if not effects:
        return nothing(key, title, "The study names no candidates, or none has started.")
    if not shown:
        return nothing(key, title, "Nothing to compare yet: the baseline or the candidates have no complete curve.")
    seeds = [curve(run, kind="baseline") for run in baseline]
    lines = [curve(one.run) for one in shown]
    losses = figure(TOKENS, LOSS)
    for index, seed in enumerate(seeds):
        losses.add_trace(drawn(seed, named=not index))
    schedules: list[tuple[str, TrainConfig, dict[str, Any]]] = [
        ("baseline", seeds[0].run.config, {"color": BLACK, "width": 3})
    ]
    differences = figure(TOKENS, "baseline − run (nats; above 0 is better)")
    widest = max(shown, key=lambda one: len(one.half_widths))
    if widest.half_widths:
        low = [-width for width in widest.half_widths]
        differences.add_trace(band(widest.tokens, low, widest.half_widths, name="one more baseline run, 95 %"))
    differences.add_hline(y=0, line={"color": BLACK, "width": 1})
    for index, (one, line) in enumerate(zip(shown, lines, strict=True)):
        colour, dash = _STYLES[index % len(_STYLES)]
        style = {"color": colour, "width": 2, "dash": dash}
        shared = {"line": style, "name": plain(advised(one.run.label)), "mode": "lines"}
        schedules.append((advised(one.run.label), one.run.config, style))
        at = "%{x:.4s} tokens<extra></extra>"
        losses.add_trace(
            go.Scatter(
                x=line.tokens, y=line.losses, hovertemplate=f"{hover(one.run)}<br>loss %{{y:.4f}} at {at}", **shared
            )
        )
        template = f"{hover(one.run)}<br>%{{y:+.4f}} nats at {at}"
        differences.add_trace(go.Scatter(x=one.tokens, y=one.nats, hovertemplate=template, **shared))
    losses.update_layout(yaxis_range=zoom([*seeds, *lines]))
    add_schedules(losses, schedules)
    differences.update_yaxes(range=_zoom_differences(shown))
    words = [
        f"{advised(one.run.label)}: {CANDIDATE_WORDS[effects[one.run.id].word]}"
        + ("" if effects[one.run.id].effect is None else f" ({signed(effects[one.run.id].effect or 0.0)} nats)")
        for one in shown
    ]
    return Picture(
        key=key,
        title=title,
        summary=f"At the end, {joined(words)}." if len(words) == 1 else f"At the end: {'; '.join(words)}.",
        reading="Upper: losses, and the learning rates under them. Lower: the baseline's mean minus each run; inside "
        "the grey band a baseline run with another seed would pass as well (95 %, one evaluation at a time). Words are "
        "decided on the final loss, for all comparisons together.",
        figures=(losses, differences),
    )


def _zoom_differences(shown: Sequence[Difference]) -> tuple[float, float]:
    horizon = max(one.tokens[-1] for one in shown)
    values = [0.0]
    for one in shown:
        for index, tokens in enumerate(one.tokens):
            if tokens >= _SKIPPED * horizon:
                width = one.half_widths[index] if one.half_widths else 0.0
                values += [one.nats[index], -width, width]
    return padded(min(values), max(values))
