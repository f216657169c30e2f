"""Isolation plots: over each knob's range, the best final loss that the search found with all other knobs free.

After the Deep Learning Tuning Playbook (Godbole et al. 2023), "isolation plots".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from sweeps import space
from sweeps.chosen import baseline_runs, best_run, search_runs
from sweeps.figure import (
    BAND,
    BLACK,
    BLUE,
    GREY,
    VERMILION,
    Picture,
    axis_name,
    figure,
    hover,
    nothing,
    padded,
    plain,
)
from sweeps.finals import Final, finals, without_final
from sweeps.knobs import PARAM, ChoicesKnob, RangeKnob
from sweeps.pruner import places
from sweeps.results import Results, Run
from sweeps.words import count, show

BUCKETS = 5
"""equal parts of a knob's range, on its own scale"""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A part of a knob's range, or one choice."""

    low: float
    """in the knob's units; of a choice: its place in the order ∓ a half"""
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
    """One knob's values against final losses, over the search's trials."""

    knob: str
    param: str
    """its Optuna parameter"""
    low: float
    """ends of its range; of choices: of their order"""
    high: float
    log: bool
    choices: tuple[float | int, ...]
    """a knob of unordered values: all of them; empty for a range"""
    buckets: tuple[Bucket, ...]
    """from the range's low end to its high end; one a choice"""
    without: tuple[Run, ...]
    """trials that ended without anything that could stand for a final loss"""
    baseline: float
    """where the baseline's value lies"""

    @property
    def finals(self) -> tuple[Final, ...]:
        """All of the buckets'."""
        return tuple(final for bucket in self.buckets for final in bucket.finals)

    @property
    def gap(self) -> float | None:
        """What the worst bucket's best is above the best one's, nats; None: under two have one."""
        losses = [bucket.best.loss for bucket in self.buckets if bucket.best is not None]
        return max(losses) - min(losses) if len(losses) > 1 else None

    def at(self, value: float | int | str) -> float:
        """Where a value lies on the axis: its own place, of unordered ones the number in their order."""
        return float(self.choices.index(value)) if self.choices else float(value)  # type: ignore[arg-type]


def slice_data(results: Results) -> tuple[Slice, ...]:
    """One slice a knob, in the study's order."""
    known = finals(results)
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
            held[_bucket(final.run.params[param], param, choices, results)].append(final)
    made = Slice(
        knob=name,
        param=param,
        low=edges[0],
        high=edges[-1],
        log=isinstance(knob, RangeKnob) and knob.log,
        choices=choices,
        buckets=tuple(
            Bucket(low=low, high=high, finals=tuple(inside))
            for low, high, inside in zip(edges, edges[1:], held, strict=False)
        ),
        without=tuple(run for run in without if param in run.params),
        baseline=0.0,
    )
    return dataclasses.replace(made, baseline=made.at(results.study.knob_value(name)))
