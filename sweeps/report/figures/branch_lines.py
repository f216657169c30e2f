"""Lines of a study of branches on one scale: the origin's iterations, and losses on the origin's windows.

A branch counts its own steps and is evaluated on windows of its own. Before its first update it is the origin, so the
difference of the two losses at the fork is that of the windows, and moves the whole branch.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.analysis.arms import Arm
from sweeps.analysis.findings import Findings
from sweeps.report.figures.best_curve import best_seeds
from sweeps.store.records import Run
from sweeps.study import origin_runs
from sweeps.text import change, joined, short
from trainer.config import TrainConfig
from trainer.points import Point

GOING_ON, CONTROL, KNOB, BEST = "going on", "control", "knob", "best"
"""kinds of lines; a line in front comes later"""
_NAMED = 3
"""changes that are named; more are counted"""


@dataclass(frozen=True, kw_only=True)
class OriginPoint:
    """One evaluation of the origin's own run."""

    step: int
    loss: float
    """nats per token"""


@dataclass(frozen=True, kw_only=True)
class BranchLine:
    """A config's branches: mean and range over their seeds."""

    kind: str
    label: str
    """short, for the figure"""
    words: str
    """what it is, for a sentence"""
    seeds: tuple[int, ...]
    x: tuple[float, ...]
    """iterations of the origin, the first at the fork"""
    means: tuple[float, ...]
    """nats per token, on the origin's windows"""
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    shift: float
    """mean over the seeds of the nats that were added to their losses"""
    gain: float | None = None
    """final loss of the control - that of these branches, nats, over the seeds that both have; None: not known"""


@dataclass(frozen=True, kw_only=True)
class Branches:
    """The origin's curve and what branches from it."""

    origin_run: Run | None
    """None: the origin is a checkpoint that another program wrote"""
    curve: tuple[OriginPoint, ...]
    """up to the fork; empty: not known"""
    step: int
    """iterations of the origin at the fork"""
    level: float
    """its loss there, nats per token"""
    since: int | None
    """first iteration of the plateau; None: there is none, or it isn't known"""
    lines: tuple[BranchLine, ...]

    def line(self, kind: str) -> BranchLine | None:
        """Return the line of a kind. None: there is none."""
        return next((line for line in self.lines if line.kind == kind), None)


@dataclass(frozen=True, kw_only=True)
class _Group:
    """The runs of a line, each with an evaluation."""

    kind: str
    label: str
    words: str
    runs: tuple[Run, ...]
    gain: float | None = None


def branches_of(findings: Findings) -> Branches:
    """Return what there is to draw by now."""
    results = findings.results
    origin = results.study.origin
    run = next((run for run in results.runs if run.origin == origin_runs.ORIGIN), None)
    curve = tuple(
        OriginPoint(step=point.step, loss=point.val_loss)
        for point in (() if run is None else _finite(run.points))
        if origin is None or point.step <= origin.step
    )
    if origin is None:
        last = curve[-1] if curve else OriginPoint(step=0, loss=math.nan)
        return Branches(origin_run=run, curve=curve, step=last.step, level=last.loss, since=None, lines=())
    groups = [group for group in _groups(findings) if group.runs]
    level = curve[-1].loss if curve else _first_loss(groups)
    return Branches(
        origin_run=run,
        curve=curve,
        step=origin.step,
        level=level,
        since=origin.since,
        lines=tuple(_line(group, origin.config, step=origin.step, level=level) for group in groups),
    )


def _first_loss(groups: Sequence[_Group]) -> float:
    """Return the loss at the fork on the windows of the branches, or of the origin going on where there is no other."""
    return _finite(groups[-1].runs[0].points)[0].val_loss if groups else math.nan


def _groups(findings: Findings) -> Iterator[_Group]:
    """Yield the lines' runs; the control's are those on the seeds of the best config's, if there are any."""
    results, best = findings.results, findings.to_train
    going_on = [run for run in results.runs if run.origin == origin_runs.GOING_ON]
    yield _Group(kind=GOING_ON, label="going on\nas before", words="the origin going on", runs=_drawn(going_on))
    control = _drawn(results.baseline_runs)
    if best is None or best.origin == "baseline":
        yield _Group(kind=CONTROL, label="control", words="the control", runs=control)
        return
    fresh = _drawn(best_seeds(results, best)) or _drawn([best])
    seeds = {run.seed for run in fresh}
    shared = tuple(run for run in control if run.seed in seeds)
    yield _Group(kind=CONTROL, label="control", words="the control", runs=shared or control)
    yield from _single_knob(findings, control)
    label = "best so far" if findings.attribution is None else "best config"
    words = f"the {label} ({_changes(findings, best)})"
    yield _Group(kind=BEST, label=label, words=words, runs=fresh, gain=_gain(control, fresh))


def _single_knob(findings: Findings, control: Sequence[Run]) -> Iterator[_Group]:
    """Yield the knob that gains most alone on fresh seeds, where the best config changes others too."""
    attribution = findings.attribution
    if attribution is None or len(attribution.change) < 2:
        return
    gains = {knob.knob: knob.alone.mean for knob in attribution.knobs if knob.alone is not None}
    name = max(gains, key=lambda knob: gains[knob], default=None)
    if name is None or gains[name] <= 0:
        return
    runs = _drawn(findings.evidence.runs(Arm(frozenset([name]))))
    if runs:
        words = f"{change(name, runs[0].config, attribution.reference)} alone"
        value = runs[0].config.as_dict()[name]
        about = float(f"{value:.2g}") if isinstance(value, float) else value
        label = f"{name} {short(about)}\nalone"
        yield _Group(kind=KNOB, label=label, words=words, runs=runs, gain=_gain(control, runs))


def _changes(findings: Findings, best: Run) -> str:
    """Return what the best config changes, in words."""
    attribution = findings.attribution
    names = findings.evidence.arms.changed if attribution is None else attribution.change
    if 0 < len(names) <= _NAMED:
        return joined(change(name, best.config, findings.results.reference) for name in names)
    return f"{len(names)} settings changed"


def _gain(control: Sequence[Run], runs: Sequence[Run]) -> float | None:
    """Return the mean difference of the final losses over the seeds that both have."""
    losses, changed = _final_losses(control), _final_losses(runs)
    shared = losses.keys() & changed.keys()
    return statistics.fmean(losses[seed] - changed[seed] for seed in shared) if shared else None


def _final_losses(runs: Sequence[Run]) -> Mapping[int, float]:
    return {run.seed: run.val_loss for run in runs if run.val_loss is not None}


def _drawn(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return the runs with an evaluation, those without a final loss excepted unless it is the origin going on."""
    return tuple(run for run in runs if _finite(run.points) and (run.val_loss is not None or run.before_trials))


def _finite(points: Sequence[Point]) -> tuple[Point, ...]:
    return tuple(point for point in points if math.isfinite(point.val_loss))


def _line(group: _Group, origin: TrainConfig, *, step: int, level: float) -> BranchLine:
    """Return the mean and the range of the runs, interpolated at the evaluations of the first."""
    curves = []
    for run in group.runs:
        points = _finite(run.points)
        first = points[0]
        x = [step + (point.tokens - first.tokens) / origin.tokens_per_iter for point in points]
        curves.append((x, [point.val_loss + level - first.val_loss for point in points], level - first.val_loss))
    x = curves[0][0]
    losses = np.array([np.interp(x, places, values) for places, values, _ in curves])
    return BranchLine(
        kind=group.kind,
        label=group.label,
        words=group.words,
        seeds=tuple(run.seed for run in group.runs),
        x=tuple(x),
        means=tuple(losses.mean(axis=0).tolist()),
        lows=tuple(losses.min(axis=0).tolist()),
        highs=tuple(losses.max(axis=0).tolist()),
        shift=statistics.fmean(shift for *_, shift in curves),
        gain=group.gain,
    )
