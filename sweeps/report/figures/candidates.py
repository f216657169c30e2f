"""Candidates against the baseline: their losses, and their differences from the baseline's seeds, along training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from sweeps.analysis.findings import Findings
from sweeps.analysis.noise import noise_of
from sweeps.analysis.screening import Effect
from sweeps.report.figures.curves import (
    LINE_STYLES,
    LOSS,
    SKIPPED_SHARE,
    TOKENS,
    add_schedules,
    band_trace,
    curve_trace,
    loss_curve,
    zoom,
)
from sweeps.report.figures.style import BLACK, Picture, hover, literal, new_figure, no_picture, padded_range
from sweeps.store.records import Run
from sweeps.text import advised, joined, signed
from sweeps.verdict.screened import CANDIDATE_WORDS
from trainer.config import TrainConfig

_AT = "%{x:.4s} tokens<extra></extra>"
"""end of a hover text"""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One run against the baseline's seeds, by evaluation."""

    run: Run
    tokens: tuple[int, ...]
    nats: tuple[float, ...]
    """the baseline's mean - the run's loss; above 0 is better"""
    half_widths: tuple[float, ...]
    """pointwise 95 % interval of a further baseline run, nats to either side; empty: noise unknown"""


def against_baseline(run: Run, baseline: Sequence[Run]) -> Difference | None:
    """Return a run against the baseline's seeds, whose losses are interpolated at the run's evaluations.

    None: the run or a seed has no evaluations, or there are no seeds.
    """
    curve, seeds = loss_curve(run), [loss_curve(seed) for seed in baseline]
    if not curve.tokens or not seeds or not all(seed.tokens for seed in seeds):
        return None
    last = min(seed.tokens[-1] for seed in seeds)
    shared = [(tokens, loss) for tokens, loss in zip(curve.tokens, curve.losses, strict=True) if tokens <= last]
    positions = tuple(tokens for tokens, _ in shared)
    seed_losses = np.array([np.interp(positions, seed.tokens, seed.losses) for seed in seeds])
    noises = [noise_of(losses) for losses in seed_losses.T.tolist()]
    widths = [noise.half_width() for noise in noises]
    return Difference(
        run=run,
        tokens=positions,
        nats=tuple(noise.mean - loss for noise, (_, loss) in zip(noises, shared, strict=True)),
        half_widths=tuple(width or 0.0 for width in widths) if any(widths) else (),
    )


def candidates_picture(findings: Findings) -> Picture:
    """Draw each candidate's loss, and how far it is from the baseline's mean, along training."""
    key, title = "candidates", "Loss curves of the advice and the baseline"
    effects, baseline = findings.screening.candidates, findings.results.baseline_runs
    if not effects:
        return no_picture(key, title, "The study names no candidates, or none has started.")
    compared = [(effect, against_baseline(effect.run, baseline)) for effect in effects]
    shown = [(effect, line) for effect, line in compared if line is not None and line.tokens]
    if not shown:
        return no_picture(key, title, "Nothing to compare yet: the baseline or the candidates have no complete curve.")
    differences = [line for _, line in shown]
    return Picture(
        key=key,
        title=title,
        summary=_summary([effect for effect, _ in shown]),
        reading="Upper figure: losses, and the learning rates under them. Lower figure: the baseline's mean minus each "
        "run. The grey band holds a further baseline run with another seed (95 %, at one evaluation at a time). The "
        "words are decided on the final loss, for all comparisons together.",
        figures=(_losses_figure(differences, baseline), _differences_figure(differences)),
    )


def _summary(effects: Sequence[Effect]) -> str:
    words = [
        f"{advised(effect.run.label)}: {CANDIDATE_WORDS[effect.word]}"
        + ("" if effect.effect is None else f" ({signed(effect.effect)} nats)")
        for effect in effects
    ]
    return f"At the end, {joined(words)}." if len(words) == 1 else f"At the end: {'; '.join(words)}."


def _losses_figure(differences: Sequence[Difference], baseline: Sequence[Run]) -> go.Figure:
    figure = new_figure(TOKENS, LOSS)
    seeds = [loss_curve(run, kind="baseline") for run in baseline]
    curves = [loss_curve(difference.run) for difference in differences]
    for number, seed in enumerate(seeds):
        figure.add_trace(curve_trace(seed, named=number == 0))
    schedules: list[tuple[str, TrainConfig, dict[str, Any]]] = [
        ("baseline", baseline[0].config, {"color": BLACK, "width": 3})
    ]
    for number, curve in enumerate(curves):
        style = _style(number, curve.run)
        template = f"{hover(curve.run)}<br>loss %{{y:.4f}} at {_AT}"
        figure.add_trace(go.Scatter(x=curve.tokens, y=curve.losses, hovertemplate=template, **style))
        schedules.append((advised(curve.run.label), curve.run.config, style["line"]))
    figure.update_layout(yaxis_range=zoom([*seeds, *curves]))
    return add_schedules(figure, schedules)


def _differences_figure(differences: Sequence[Difference]) -> go.Figure:
    figure = new_figure(TOKENS, "baseline − run (nats; above 0 is better)")
    longest = max(differences, key=lambda difference: len(difference.half_widths))
    if longest.half_widths:
        low = [-width for width in longest.half_widths]
        figure.add_trace(band_trace(longest.tokens, low, longest.half_widths, name="one more baseline run, 95 %"))
    figure.add_hline(y=0, line={"color": BLACK, "width": 1})
    for number, difference in enumerate(differences):
        template = f"{hover(difference.run)}<br>%{{y:+.4f}} nats at {_AT}"
        style = _style(number, difference.run)
        figure.add_trace(go.Scatter(x=difference.tokens, y=difference.nats, hovertemplate=template, **style))
    return figure.update_yaxes(range=_zoom_differences(differences))


def _style(number: int, run: Run) -> dict[str, Any]:
    colour, dash = LINE_STYLES[number % len(LINE_STYLES)]
    line = {"color": colour, "width": 2, "dash": dash}
    return {"line": line, "name": literal(advised(run.label)), "mode": "lines"}


def _zoom_differences(differences: Sequence[Difference]) -> tuple[float, float]:
    """Return the range of what comes after the first tenth: 0, the differences, and the noise around 0."""
    horizon = max(difference.tokens[-1] for difference in differences)
    values = [0.0]
    for difference in differences:
        for index, tokens in enumerate(difference.tokens):
            if tokens >= SKIPPED_SHARE * horizon:
                width = difference.half_widths[index] if difference.half_widths else 0.0
                values += [difference.nats[index], -width, width]
    return padded_range(min(values), max(values))
