"""The confirmed verdict in pictures: the effects (`forest`), the path from the baseline to the best, and every seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from sweeps import forest
from sweeps.arms import Arm
from sweeps.attribution import Attribution, PathStep
from sweeps.contrasts import Contrast
from sweeps.evidence import Evidence
from sweeps.figure import BLACK, BLUE, GREY, VERMILION, Picture, figure, nothing, padded, plain
from sweeps.forest import bars, changed, interval, measured, nats, rows_with_remarks, ticks
from sweeps.judgement import attribute
from sweeps.results import Results
from sweeps.words import count, joined, show, signed


def pictures(results: Results) -> tuple[Picture, ...]:
    """All of them; none before the confirm phase has begun."""
    found = attribute(results)
    if found is None:
        return ()
    return forest.effects(found), path(found), seeds(seed_pairs(results, found), found)


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


def seed_pairs(results: Results, found: Attribution) -> tuple[SeedPair, ...]:
    """Every seed of the baseline and of the best on fresh seeds: at half the horizon, then at the whole of it."""
    evidence, made = Evidence(results), []
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
        (f"more than {show(floor)} lower", BLUE, "circle", "solid", True),
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
    return f"The best ends more than {show(found.min_effect)} nats lower {' and '.join(parts)}{lost}."
