"""A run's validation losses as the plateau test takes them, with the learning rates along them.

Uneven steps stay where they are: the law needs the share of the summed learning rate at each evaluation, not equal
distances. So nothing is interpolated, which would tie neighbouring noise together. The test was made for the 20 to 40
evaluations of a trial and compares 4 of them with 4, so a log with more is averaged in groups of equal size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.diagnose.run import LoggedRun
from sweeps.pruning.law import Floats, Schedule
from trainer.config import TrainConfig
from trainer.errors import ConfigError
from trainer.nanogpt import DEFAULTS, Value
from trainer.schedule import lr_at

MOST = 41
"""evaluations that are tested one by one; more are averaged in groups"""
_AHEAD = 1000
"""places at most of a schedule after the log's last evaluation"""
_SCHEDULE = ("decay_lr", "learning_rate", "min_lr", "warmup_iters", "lr_decay_iters", "max_iters")


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Evaluations of a run in the order of their steps."""

    steps: Floats
    """(N,)"""
    losses: Floats
    """(N,) finite, nats"""
    unit: str
    """nats per token, or nats per byte of a log in bits per byte"""
    averaged: int = 1
    """evaluations that each loss is the mean of"""


def curve_of(run: LoggedRun) -> Curve:
    """Return the finite validation losses of a run; its bits per byte, in nats, if it has no losses per token."""
    pairs = [(point.step, point.val_loss) for point in run.points if point.val_loss is not None]
    unit = "nats per token"
    if not pairs and run.bits:
        pairs = [(entry.step, entry.val_bits * math.log(2)) for entry in run.bits]
        unit = "nats per byte"
    finite = [(step, loss) for step, loss in pairs if math.isfinite(loss)]
    table = np.array(finite, dtype=float).reshape(-1, 2)
    return Curve(steps=table[:, 0], losses=table[:, 1], unit=unit)


def grouped(curve: Curve) -> Curve:
    """Return a curve of at most `MOST` losses: means of groups, the last of which ends at the last evaluation.

    Evaluations before the first whole group are left out.
    """
    size = max(math.ceil(len(curve.steps) / MOST), 1)
    steps, losses = means(curve.steps, curve.losses, most=MOST)
    return Curve(steps=steps, losses=losses, unit=curve.unit, averaged=size)


def means(*columns: Floats, most: int) -> list[Floats]:
    """Return the means of groups of equal size, at most `most` of them; the last group ends with the columns."""
    size = max(math.ceil(len(columns[0]) / most), 1)
    begin = len(columns[0]) % size
    return [values[begin:].reshape(-1, size).mean(axis=1) for values in columns]


def from_zero(curve: Curve) -> tuple[Floats, Floats]:
    """Return steps and losses as the law takes them: with a gap at step 0 where there is no evaluation."""
    if not len(curve.steps) or curve.steps[0] == 0:
        return curve.steps, curve.losses
    return np.concatenate([[0.0], curve.steps]), np.concatenate([[np.nan], curve.losses])


def schedule_of(
    run: LoggedRun, steps: Floats, *, settings: Mapping[str, Value] | None, end: int | None = None
) -> tuple[Schedule, str]:
    """Return the schedule with its places at `steps` and on to the run's end, and why it isn't known, or "".

    `steps` begin with 0. A known schedule goes on to `end`, by default max_iters. The schedule follows from
    `settings`, else from those printed at the log's head (with nanoGPT's defaults for the others), else from printed
    learning rates. Otherwise a constant rate is assumed.
    """
    why = "the log has neither settings nor learning rates"
    given = settings if settings is not None else run.settings if run.trainer == "nanoGPT" else {}
    if given:
        merged = {**DEFAULTS, **given}
        try:
            config = TrainConfig.from_mapping({key: merged[key] for key in _SCHEDULE})
        except ConfigError as error:
            why = f"its settings make no schedule: {error}"
        else:
            mesh = _on(steps, config.max_iters if end is None else end)
            return Schedule.of([lr_at(round(step), config) for step in mesh.tolist()], steps=mesh), ""
    printed = _printed(run)
    if len(printed) > 1:
        known_steps, known_rates = zip(*printed, strict=True)
        rates = np.interp(steps, known_steps, known_rates)
        if rates.max() > 0:
            return Schedule.of(rates, steps=steps), ""
    constant = Schedule.constant(len(steps) - 1)
    return Schedule(progress=steps / steps[-1], annealing=constant.annealing, warm=0, known=False), why


def _on(steps: Floats, end: int) -> Floats:
    """Return `steps` and more after them, at their usual distance or wider, up to `end`."""
    ahead = end - float(steps[-1])
    if ahead <= 0:
        return steps
    places = min(math.ceil(ahead / float(np.median(np.diff(steps)))), _AHEAD)
    return np.concatenate([steps, np.linspace(steps[-1], end, places + 1)[1:]])


def _printed(run: LoggedRun) -> Sequence[tuple[int, float]]:
    """Return the printed learning rates (step, rate or share of the peak) that are finite and not negative."""
    rates = {point.step: point.lr for point in run.points if point.lr is not None}
    rates |= {entry.step: entry.lr for entry in run.iters if entry.lr is not None}
    if not rates:
        rates = {entry.step: entry.lr_share for entry in run.iters if entry.lr_share is not None}
    return sorted((step, rate) for step, rate in rates.items() if 0 <= rate < math.inf)
