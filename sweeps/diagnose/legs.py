"""Runs of a log from its losses, in the order of the file: where a run begins, is resumed, or is printed twice.

A leg ends where the steps fall back or a new head begins. A leg that repeats the run's own lines is a copy, as from a
terminal's scrollback or a second process. A leg that falls back to a step whose loss it shares within `NEAR` goes on
from a checkpoint, and what the run had done beyond that step is lost. Any other leg is a run of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sweeps.diagnose.lines import Damaged, Event, Fact, Loss
from sweeps.diagnose.run import LoggedBits, LoggedIter, LoggedPoint

NEAR = 0.25
"""nats; the same weights evaluated twice are closer, a new run after its first steps is not"""
NEAR_ITER = 0.5
"""nats; the same for the losses of single batches"""


_PLACE = {
    "config": 0,
    "override": 0,
    "tokens": 1,
    "vocabulary": 2,
    "scratch": 2,
    "resume": 2,
    "parameters": 2,
    "total": 2,
    "batch": 2,
}
"""order in which a trainer prints the facts; an earlier one after a later one begins another run's head"""


@dataclass(kw_only=True)
class Leg:
    """Losses in the order of their steps, with the facts printed before them."""

    facts: list[Fact] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    seen: set[tuple[type, int]] = field(default_factory=set)

    @property
    def marks(self) -> set[str]:
        """The kinds of its facts."""
        return {fact.kind for fact in self.facts}

    @property
    def last(self) -> int:
        """Its last step."""
        return max(loss.record.step for loss in self.losses)

    @property
    def first_line(self) -> int:
        """Its first line."""
        return min([fact.line for fact in self.facts[:1]] + [loss.line for loss in self.losses[:1]])

    def takes(self, loss: Loss) -> bool:
        """Return whether the loss comes after all others."""
        record = loss.record
        return not self.losses or (
            record.step >= self.losses[-1].record.step and (type(record), record.step) not in self.seen
        )

    def add(self, loss: Loss) -> None:
        """Append a loss."""
        self.losses.append(loss)
        self.seen.add((type(loss.record), loss.record.step))


@dataclass(kw_only=True)
class Run:
    """One run, put together from legs."""

    facts: list[Fact]
    losses: list[Loss]
    later: list[list[Fact]] = field(default_factory=list)
    """facts of the legs by which it was resumed"""
    resumed_at: list[int] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)
    """per resumption, its step and the last step before it, where that lies beyond"""
    repeated: int = 0
    """lines that were printed again"""
    last_line: int = 0
    damaged: list[Damaged] = field(default_factory=list)


def runs(events: Iterable[Event]) -> list[Run]:
    """Return the runs of a log, each with at least one loss."""
    found: list[Run] = []
    damaged: list[Damaged] = []
    for leg in _legs(events, damaged):
        if not leg.losses:
            continue
        if found and _joins(found[-1], leg):
            _join(found[-1], leg)
        else:
            found.append(Run(facts=leg.facts, losses=leg.losses))
        found[-1].last_line = max(loss.line for loss in leg.losses)
    for line in damaged:
        before = [run for run in found if run.losses[0].line < line.line]
        for run in before[-1:] or found[:1]:
            run.damaged.append(line)
    return found


def _legs(events: Iterable[Event], damaged: list[Damaged]) -> list[Leg]:
    legs = [Leg()]
    for event in events:
        if isinstance(event, Damaged):
            damaged.append(event)
        elif isinstance(event, Fact):
            if legs[-1].losses or _begins(legs[-1].facts, event):
                legs.append(Leg())
            if not _known(legs[-1].facts, event):
                legs[-1].facts.append(event)
        else:
            if not legs[-1].takes(event):
                legs.append(Leg())
            legs[-1].add(event)
    return legs


def _known(facts: list[Fact], fact: Fact) -> bool:
    return any(fact.kind == other.kind and fact.values == other.values for other in facts)


def _begins(facts: list[Fact], fact: Fact) -> bool:
    """Return whether a fact begins another head. A second process may print the same facts again."""
    later = any(_PLACE[other.kind] > _PLACE[fact.kind] for other in facts)
    return later and (fact.kind == "config" or not _known(facts, fact))


def _conflicts(run: Run, losses: list[Loss]) -> list[Loss]:
    """Return the losses that differ from what the run has at or before its last step."""
    known = {loss.key for loss in run.losses}
    taken = {(type(loss.record), loss.record.step) for loss in run.losses}
    last = max(loss.record.step for loss in run.losses)
    return [
        loss
        for loss in losses
        if loss.key not in known and (loss.record.step < last or (type(loss.record), loss.record.step) in taken)
    ]


def _joins(run: Run, leg: Leg) -> bool:
    """Return whether a leg belongs to the run before it."""
    if "scratch" in leg.marks:
        return False
    conflicts = _conflicts(run, leg.losses)
    if not conflicts:
        return True
    first = leg.losses[0]
    if first.record.step == 0:
        return False
    off, near = _distance(run, first)
    return off <= (4 * near if "resume" in leg.marks else near)


def _distance(run: Run, loss: Loss) -> tuple[float, float]:
    """Return how far a loss lies from the run's nearest one of its kind, nats, and what counts as near."""
    value = _value(loss)
    others = [other for other in run.losses if type(other.record) is type(loss.record)]
    near = NEAR_ITER if isinstance(loss.record, LoggedIter) else NEAR
    if not others:
        return 0.0, near
    step = loss.record.step
    closest = min(others, key=lambda other: abs(other.record.step - step))
    distance = abs(_value(closest) - value)
    return (distance if math.isfinite(distance) else math.inf), near


def _value(loss: Loss) -> float:
    record = loss.record
    if isinstance(record, LoggedPoint):
        known = record.val_loss if record.val_loss is not None else record.train_loss
        return math.nan if known is None else known
    return record.val_bits if isinstance(record, LoggedBits) else record.loss


def _join(run: Run, leg: Leg) -> None:
    """Add a leg's losses to a run. What differs from the run's replaces the run's from its first step on."""
    last = max(loss.record.step for loss in run.losses)
    conflicts = _conflicts(run, leg.losses)
    if "resume" in leg.marks or conflicts:
        step = (leg.losses if "resume" in leg.marks else conflicts)[0].record.step
        run.resumed_at.append(step)
        run.later.append(leg.facts)
        if step < last:
            run.lost.append((step, last))
        run.losses = [loss for loss in run.losses if loss.record.step < step]
    known = {loss.key for loss in run.losses}
    new = [loss for loss in leg.losses if loss.key not in known]
    run.repeated += len(leg.losses) - len(new)
    run.losses += new


def ordered(losses: Sequence[Loss], kind: type) -> list[LoggedPoint | LoggedIter | LoggedBits]:
    """Return the records of a kind in the order of their steps."""
    return sorted((loss.record for loss in losses if type(loss.record) is kind), key=lambda record: record.step)
