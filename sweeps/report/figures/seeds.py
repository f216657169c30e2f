"""Slope chart of paired seeds: the baseline's final loss and the best config's, with a line per seed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from sweeps.analysis.arms import Arm
from sweeps.analysis.attribution import Attribution
from sweeps.analysis.evidence import Evidence
from sweeps.report.figures.style import (
    BLACK,
    BLUE,
    GREY,
    VERMILION,
    WHITE,
    Picture,
    new_figure,
    no_picture,
    padded_range,
)
from sweeps.text import count, short, signed

_START = {True: 0.0, False: 2.0}
"""x of the baseline, at half the horizon and at the whole of it; the best is 1 further right"""


@dataclass(frozen=True, kw_only=True)
class SeedPair:
    """Final losses of the baseline and the best at one seed, nats; None: not run, or without a loss."""

    seed: int
    half: bool
    """at half the horizon"""
    baseline: float | None
    best: float | None

    @property
    def gain(self) -> float | None:
        """How much lower the best ends, nats."""
        return None if self.baseline is None or self.best is None else self.baseline - self.best


def seed_pairs(evidence: Evidence, attribution: Attribution) -> tuple[SeedPair, ...]:
    """Return all seeds of the baseline and of the best on fresh seeds: at half the horizon, then at the whole.

    A seed whose runs are of different kinds of device is no pair, and counts for each by itself.
    """
    pairs: list[SeedPair] = []
    changed = frozenset(attribution.change)
    for half in (True, False):
        baseline = evidence.losses(Arm(half=half))
        best = evidence.losses(Arm(changed, half=half)) if changed else {}
        for seed in sorted({*baseline, *best}):
            ends = (baseline.get(seed), best.get(seed))
            paired = evidence.on_one_kind(Arm(half=half), Arm(changed, half=half), seed=seed)
            for first, last in [ends] if paired or None in ends else [(ends[0], None), (None, ends[1])]:
                pairs.append(SeedPair(seed=seed, half=half, baseline=first, best=last))
    return tuple(pairs)


def seeds_picture(pairs: Sequence[SeedPair], attribution: Attribution) -> Picture:
    """Draw every seed from the baseline to the best, at half the horizon and at the whole of it."""
    key, title = "every-seed", "Baseline and best at every seed"
    if all(pair.gain is None for pair in pairs):
        return no_picture(
            key, title, "Nothing to compare yet: no seed has a final loss of the baseline and of the best."
        )
    return Picture(
        key=key,
        title=title,
        summary=_summary(pairs, attribution),
        reading="Each line is one seed: the same initial weights and batches where both configs have the same shape. "
        "Two bundles of lines instead of one mean that some seeds break through and others stay stuck. Then the share "
        "of seeds that break through says more than the mean (thick). Runs of half the length have a schedule of their "
        "own: a gain that is no mere head start doesn't shrink by half from left to right.",
        figures=(_figure(pairs, attribution),),
    )


def _summary(pairs: Sequence[SeedPair], attribution: Attribution) -> str:
    parts = []
    for half, where in ((False, "at the horizon"), (True, "at half of it")):
        gains = [pair.gain for pair in pairs if pair.half is half and pair.gain is not None]
        if gains:
            passed = sum(gain > attribution.min_effect for gain in gains)
            spread = f"{signed(min(gains))} to {signed(max(gains))}" if len(gains) > 1 else signed(gains[0])
            parts.append(f"{where} on {passed} of {count(len(gains), 'seed')} ({spread})")
    diverged = f"; {count(attribution.diverged, 'run')} of the best diverged" if attribution.diverged else ""
    return f"The best ends more than {short(attribution.min_effect)} nats lower {' and '.join(parts)}{diverged}."


def _figure(pairs: Sequence[SeedPair], attribution: Attribution) -> go.Figure:
    figure = new_figure("", "final loss (nats per token)", height=460)
    floor = attribution.min_effect
    paired = [(pair, pair.gain) for pair in pairs if pair.gain is not None]
    passed = [pair for pair, gain in paired if gain > floor]
    failed = [pair for pair, gain in paired if not gain > floor]
    if passed:
        figure.add_trace(
            _slopes(passed, name=f"more than {short(floor)} lower", colour=BLUE, symbol="circle", dash="solid")
        )
    if failed:
        figure.add_trace(_slopes(failed, name="less than that", colour=VERMILION, symbol="diamond-open", dash="dash"))
    unpaired = [pair for pair in pairs if pair.gain is None]
    if unpaired:
        figure.add_trace(_unpaired(unpaired))
    lengths = [half for half in (True, False) if any(pair.half is half for pair in pairs)]
    for half in lengths:
        ends = [(pair.baseline or 0.0, pair.best or 0.0) for pair, _ in paired if pair.half is half]
        if len(ends) > 1:
            figure.add_trace(_mean(ends, start=_START[half], named=half is lengths[0]))
    iters = attribution.reference.max_iters
    texts = {True: f"half as long:<br>{iters // 2:,} iterations", False: f"whole length:<br>{iters:,} iterations"}
    note: dict[str, Any] = {"y": 1, "yref": "y domain", "yanchor": "top", "showarrow": False, "bgcolor": WHITE}
    for half in lengths:
        figure.add_annotation(x=_START[half] + 0.5, text=texts[half], **note)
    places = [_START[half] + step for half in lengths for step in (0, 1)]
    figure.update_xaxes(tickvals=places, ticktext=["baseline", "best"] * len(lengths), showgrid=False)
    figure.update_xaxes(range=[places[0] - 0.35, places[-1] + 0.35], title="same seed, same line")
    losses = [loss for pair in pairs for loss in (pair.baseline, pair.best) if loss is not None]
    low, high = padded_range(min(losses), max(losses))
    return figure.update_yaxes(range=[low, high + 0.2 * (high - low)])  # room for the notes


def _slopes(pairs: Sequence[SeedPair], *, name: str, colour: str, symbol: str, dash: str) -> go.Scatter:
    texts = [f"seed {pair.seed}: {signed(pair.gain or 0.0)} nats" for pair in pairs]
    return go.Scatter(
        x=[x for pair in pairs for x in (_START[pair.half], _START[pair.half] + 1, None)],
        y=[y for pair in pairs for y in (pair.baseline, pair.best, None)],
        mode="lines+markers",
        line={"color": colour, "width": 1.5, "dash": dash},
        marker={"symbol": symbol, "size": 8},
        name=name,
        text=[text for text in texts for _ in range(3)],
        hovertemplate="%{text}, loss %{y:.4f}<extra></extra>",
    )


def _unpaired(pairs: Sequence[SeedPair]) -> go.Scatter:
    return go.Scatter(
        x=[_START[pair.half] + (pair.baseline is None) for pair in pairs],
        y=[pair.best if pair.baseline is None else pair.baseline for pair in pairs],
        mode="markers",
        marker={"color": GREY, "symbol": "square-open", "size": 8, "line": {"width": 2, "color": GREY}},
        name="unpaired",
        text=[f"seed {pair.seed}" for pair in pairs],
        hovertemplate="%{text}: loss %{y:.4f}<extra></extra>",
    )


def _mean(ends: Sequence[tuple[float, float]], *, start: float, named: bool) -> go.Scatter:
    """Return the mean over seeds of (baseline, best); `named`: shown in the legend."""
    return go.Scatter(
        x=[start, start + 1],
        y=[statistics.fmean(losses) for losses in zip(*ends, strict=True)],
        mode="lines",
        line={"color": BLACK, "width": 3},
        name="their mean",
        showlegend=named,
        hovertemplate=f"mean of {count(len(ends), 'seed')}: %{{y:.4f}}<extra></extra>",
    )
