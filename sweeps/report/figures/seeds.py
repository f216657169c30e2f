"""The figure of paired seeds: the baseline's loss and the best config's, a line per seed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from sweeps.analysis.arms import Arm
from sweeps.analysis.attribution import Attribution
from sweeps.analysis.evidence import Evidence
from sweeps.report.figures.style import BLACK, BLUE, GREY, VERMILION, Picture, figure, nothing, padded
from sweeps.text import count, short, signed


@dataclass(frozen=True, kw_only=True)
class SeedPair:
    """Final losses of the baseline and the best at one seed, nats; None: it has none."""

    seed: int
    half: bool
    """at half the horizon"""
    baseline: float | None
    best: float | None

    @property
    def gain(self) -> float | None:
        """How much lower the best ends."""
        return None if self.baseline is None or self.best is None else self.baseline - self.best


def seed_pairs(evidence: Evidence, found: Attribution) -> tuple[SeedPair, ...]:
    """Every seed of the baseline and of the best on fresh seeds: at half the horizon, then at the whole of it."""
    made: list[SeedPair] = []
    winner = Arm(frozenset(found.change))
    for half in (True, False):
        baseline = evidence.losses(Arm(half=half))
        best = evidence.losses(Arm(winner.knobs, half=half)) if winner.knobs else {}
        made += [
            SeedPair(seed=seed, half=half, baseline=baseline.get(seed), best=best.get(seed))
            for seed in sorted({*baseline, *best})
        ]
    return tuple(made)


def seeds(pairs: Sequence[SeedPair], found: Attribution) -> Picture:
    """Slope chart of the seeds: baseline to best, at half the horizon and at all of it."""
    key, title = "every-seed", "Every seed, from the baseline to the best"
    paired = [pair for pair in pairs if pair.gain is not None]
    if not paired:
        return nothing(key, title, "Nothing to compare yet: no seed has a final loss of the baseline and of the best.")
    made = figure("", "final loss (nats a token)", height=460)
    floor = found.min_effect
    for name, colour, symbol, dash, passes in (
        (f"more than {short(floor)} lower", BLUE, "circle", "solid", True),
        ("not so", VERMILION, "diamond-open", "dash", False),
    ):
        those = [pair for pair in paired if ((pair.gain or 0.0) > floor) is passes]
        if those:
            made.add_trace(_slopes(those, name=name, colour=colour, symbol=symbol, dash=dash))
    alone = [pair for pair in pairs if pair.gain is None]
    if alone:
        made.add_trace(
            go.Scatter(
                x=[_place(pair, best=pair.baseline is None) for pair in alone],
                y=[pair.best if pair.baseline is None else pair.baseline for pair in alone],
                mode="markers",
                marker={"color": GREY, "symbol": "square-open", "size": 8, "line": {"width": 2, "color": GREY}},
                name="unpaired",
                text=[f"seed {pair.seed}" for pair in alone],
                hovertemplate="%{text}: loss %{y:.4f}<extra></extra>",
            )
        )
    lengths = [half for half in (True, False) if any(pair.half is half for pair in pairs)]
    for half in lengths:
        those = [pair for pair in paired if pair.half is half]
        if len(those) > 1:
            made.add_trace(_mean(those, named=half is lengths[0]))
    iters = found.reference.max_iters
    texts = {True: f"half as long:<br>{iters // 2:,} iterations", False: f"whole length:<br>{iters:,} iterations"}
    note: dict[str, Any] = {"y": 1, "yref": "y domain", "yanchor": "top", "showarrow": False, "bgcolor": "white"}
    for half in lengths:
        made.add_annotation(x=_START[half] + 0.5, text=texts[half], **note)
    places = [_START[half] + step for half in lengths for step in (0, 1)]
    made.update_xaxes(tickvals=places, ticktext=["baseline", "best"] * len(lengths), showgrid=False)
    made.update_xaxes(range=[places[0] - 0.35, places[-1] + 0.35], title="same seed, same line")
    seen = [loss for pair in pairs for loss in (pair.baseline, pair.best) if loss is not None]
    low, high = padded(min(seen), max(seen))
    made.update_yaxes(range=[low, high + 0.2 * (high - low)])
    return Picture(
        key=key,
        title=title,
        summary=_seeds_summary(pairs, found),
        reading="Each line is one seed: the same initial weights and batches where both configs have the same shape. "
        "Two bundles of lines instead of one mean that some seeds break through and others stay stuck; then the share "
        "that does tells more than the mean (black). Runs of half the length are annealed on their own: a gain that "
        "is no mere head start doesn't shrink by half from left to right.",
        figures=(made,),
    )


_START = {True: 0.0, False: 2.0}
"""where the baseline of each length stands; the best is 1 further"""


def _place(pair: SeedPair, *, best: bool) -> float:
    return _START[pair.half] + best


def _slopes(pairs: Sequence[SeedPair], *, name: str, colour: str, symbol: str, dash: str) -> go.Scatter:
    texts = [f"seed {pair.seed}: {signed(pair.gain or 0.0)} nats" for pair in pairs]
    return go.Scatter(
        x=[x for pair in pairs for x in (_place(pair, best=False), _place(pair, best=True), None)],
        y=[y for pair in pairs for y in (pair.baseline, pair.best, None)],
        mode="lines+markers",
        line={"color": colour, "width": 1.5, "dash": dash},
        marker={"symbol": symbol, "size": 8},
        name=name,
        text=[text for text in texts for _ in range(3)],
        hovertemplate="%{text}, loss %{y:.4f}<extra></extra>",
    )


def _mean(pairs: Sequence[SeedPair], *, named: bool) -> go.Scatter:
    ends = [(pair.baseline or 0.0, pair.best or 0.0) for pair in pairs]
    return go.Scatter(
        x=[_place(pairs[0], best=False), _place(pairs[0], best=True)],
        y=[statistics.fmean(each) for each in zip(*ends, strict=True)],
        mode="lines",
        line={"color": BLACK, "width": 3},
        name="their mean",
        showlegend=named,
        hovertemplate=f"mean of {count(len(pairs), 'seed')}: %{{y:.4f}}<extra></extra>",
    )


def _seeds_summary(pairs: Sequence[SeedPair], found: Attribution) -> str:
    parts = []
    for half, where in ((False, "at the horizon"), (True, "at half of it")):
        gains = [pair.gain for pair in pairs if pair.half is half and pair.gain is not None]
        if gains:
            passed = sum(gain > found.min_effect for gain in gains)
            spread = f"{signed(min(gains))} to {signed(max(gains))}" if len(gains) > 1 else signed(gains[0])
            parts.append(f"{where} on {passed} of {count(len(gains), 'seed')} ({spread})")
    lost = f"; {count(found.diverged, 'run')} of the best diverged" if found.diverged else ""
    return f"The best ends more than {short(found.min_effect)} nats lower {' and '.join(parts)}{lost}."
