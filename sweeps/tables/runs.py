"""Runs of a table: each with its arm, seed and final loss, whatever shape the table has.

A table in long form holds curves, a row a step. Final is then the last step that all runs have: losses at different
steps of one schedule say nothing about each other.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from sweeps.tables.layout import SPREADS, Layout, column_of, is_missing, layout_of, measured, number
from sweeps.tables.rows import Cell, Table, TableError
from sweeps.text import count, joined, short

_BASELINES = ("baseline", "control", "base", "default", "reference", "vanilla", "none", "main")
"""names by which an arm is the baseline unless another is named"""
_SHOWN = 4  # rows or arms that a message lists
_UNFINISHED = {"running", "crashed", "failed", "fail", "killed", "pruned", "waiting", "queued", "preempted"}
"""states of runs, as trackers name them, whose last loss isn't final"""


@dataclass(frozen=True, kw_only=True)
class TableRun:
    """A run of somebody's trainer."""

    arm: str
    seed: int | None
    """None: the table has no seeds"""
    loss: float | None
    """final loss in the table's unit; None: it diverged (nan, inf, 1e15 and more, or nothing where a loss should be)"""
    tokens: float | None = None
    seconds: float | None = None
    device: str | None = None
    shape: tuple[Cell, ...] = ()
    """settings of the model's shape and of the batches, where the table has them: runs of one shape and seed start from
    the same weights and see the same batches"""


@dataclass(frozen=True, kw_only=True)
class TableRuns:
    """The runs of a table."""

    runs: tuple[TableRun, ...]
    baseline: str
    metric: str
    """name of the column with the loss"""
    notes: tuple[str, ...]
    """what was assumed or left out"""

    def arms(self) -> list[str]:
        """Return the names of the arms in the table's order, the baseline first."""
        return [self.baseline, *(arm for arm in dict.fromkeys(run.arm for run in self.runs) if arm != self.baseline)]

    def of(self, arm: str) -> list[TableRun]:
        """Return an arm's runs."""
        return [run for run in self.runs if run.arm == arm]


def runs_of(table: Table, *, baseline: str | None = None) -> TableRuns:
    """Return the runs of a table. `baseline`: the arm to compare with. Raises TableError."""
    layout = layout_of(table)
    notes = [f"the loss is {layout.loss}, lower is better", *table.notes]
    if layout.settings:
        notes.append(f"arms are told apart by {joined(layout.settings)}")
    if layout.mixed:
        notes.append(f"runs of one {layout.arm} differ in {joined(layout.mixed[:_SHOWN])}, which is passed over")
    _check(table, layout)
    arms = _arms(table, layout)
    ended, more = _ended(table, layout, arms)
    notes += more
    rows, more = _finals(table, layout, arms, ended)
    notes += more
    runs, more = _without_repeats([_run(table.rows[row], layout, arms[row]) for row in rows])
    notes += more
    names = list(dict.fromkeys(run.arm for run in runs))
    chosen = _baseline(table, names, baseline)
    if baseline is None and chosen.lower() not in _BASELINES:
        notes.append(f"the baseline is {chosen!r}, which comes first; --baseline names another")
    if len(names) < 2:
        raise TableError(f"{table.path}: holds one arm, {names[0]!r}; a comparison needs a baseline and a change")
    return TableRuns(runs=tuple(runs), baseline=chosen, metric=layout.loss, notes=tuple(notes))


def _ended(table: Table, layout: Layout, arms: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the rows of runs that have ended with a loss, and notes on the others and on odd losses."""
    column = None if layout.step is not None else column_of(table, ("state", "status"))
    kept, unfinished = [], Counter[str]()
    for index, row in enumerate(table.rows):
        state = "" if column is None else str(row[column]).strip().lower()
        if state in _UNFINISHED and measured(row[layout.loss]) is not None:
            unfinished[state] += 1
        elif not is_missing(row[layout.loss]):
            kept.append(index)

    def run(index: int) -> Hashable:
        seed = layout.seed and table.rows[index][layout.seed]
        return index if layout.step is None or seed is None else (arms[index], seed)

    without = len(set(map(run, range(len(arms)))) - set(map(run, kept))) - unfinished.total()
    notes = []
    if without:
        notes.append(f"{count(without, 'run')} left out, without a {layout.loss}; write nan for a run that diverged")
    if unfinished:
        notes.append(f"{count(unfinished.total(), 'run')} left out, whose {column} is {joined(unfinished)}")
    if not kept:
        raise TableError(f"{table.path}: no run has ended with a {layout.loss}")
    losses = [value for value in (measured(table.rows[index][layout.loss]) for index in kept) if value is not None]
    if losses and max(losses) < 0:
        notes.append(f"every {layout.loss} is below 0, and lower still counts as better")
    spread = column_of(table, SPREADS)
    if spread is not None:
        notes.append(f"{spread!r} may be a spread of several runs; a row counts as one run, so give a row a run")
    return kept, notes


def _check(table: Table, layout: Layout) -> None:
    """Raise TableError for cells that are not what their column holds."""
    wrong = []
    for number_of, row in enumerate(table.rows, 1):
        for column, what in ((layout.loss, "loss"), (layout.step, "step"), (layout.seed, "whole number")):
            value = None if column is None or (column == layout.loss and is_missing(row[column])) else row[column]
            as_number = number(value)
            odd = as_number is None or (column == layout.seed and not _whole(as_number))
            if value is not None and (odd or (column == layout.step and not math.isfinite(as_number or 0.0))):
                wrong.append(f"row {number_of}: {column}={value!r} is no {what}")
        if layout.step is not None and row[layout.step] is None and not is_missing(row[layout.loss]):
            wrong.append(f"row {number_of}: has no {layout.step}")
        if layout.seed is not None and row[layout.seed] is None:
            wrong.append(f"row {number_of}: has no {layout.seed}")
        if layout.arm is not None and row[layout.arm] is None:
            wrong.append(f"row {number_of}: has no {layout.arm}")
    if wrong:
        rest = f"\n  and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        listed = "".join(f"\n  {line}" for line in wrong[:_SHOWN])
        raise TableError(
            f"{table.path}: {count(len(wrong), 'cell')} can't be used:{listed}{rest}\n"
            "  numbers are written as 1234.5, without a unit or %; a row is one run, nan is a loss that diverged"
        )


def _whole(value: float) -> bool:
    return math.isfinite(value) and value == int(value)


def _arms(table: Table, layout: Layout) -> list[str]:
    """Return the arm of each row: its name, or the settings in which it differs from the first row's."""
    if layout.arm is not None:
        return [str(row[layout.arm]) for row in table.rows]
    first = table.rows[0]
    return [
        joined(f"{name} {_shown(row[name])}" for name in layout.settings if row[name] != first[name])
        or joined(f"{name} {_shown(first[name])}" for name in layout.settings)
        for row in table.rows
    ]


def _shown(cell: Cell) -> str:
    as_number = number(cell)
    return str(cell) if as_number is None else short(int(as_number) if _whole(as_number) else as_number)


def _finals(table: Table, layout: Layout, arms: Sequence[str], ended: Sequence[int]) -> tuple[list[int], list[str]]:
    """Return those of the rows that hold final losses, and what was left out. Of a curve with nan it is that row."""
    if layout.step is None:
        return list(ended), []
    curves: dict[Hashable, dict[float, int]] = defaultdict(dict)
    for row in ended:
        cells = table.rows[row]
        step = number(cells[layout.step])
        if step is not None:
            seed = row if layout.seed is None else cells[layout.seed]
            curves[arms[row], seed][step] = row
    if all(len(curve) == 1 for curve in curves.values()):
        return _as_long(table, layout.step, ended)
    if layout.seed is None:
        raise TableError(f"{table.path}: holds curves (column {layout.step!r}) without seeds; add a column `seed`")
    diverged, whole = [], []
    for curve in curves.values():
        broken = [row for row in curve.values() if measured(table.rows[row][layout.loss]) is None]
        diverged += broken[:1]
        whole += [] if broken else [curve]
    shared = set.intersection(*map(set, whole)) if whole else set()
    if whole and not shared:
        raise TableError(f"{table.path}: no {layout.step} is in all {len(curves)} curves; evaluate at the same steps")
    last, longest = max(shared, default=0.0), max((max(curve) for curve in whole), default=0.0)
    note = f"losses are those at {layout.step} {last:g}, the last that all runs have"
    if last < longest:
        note += f"; some go on to {longest:g}"
    return [curve[last] for curve in whole] + diverged, [note]


def _as_long(table: Table, column: str, ended: Sequence[int]) -> tuple[list[int], list[str]]:
    """Return the rows of runs as long as most: a shorter run's loss says nothing beside a longer one's."""
    steps = {row: number(table.rows[row][column]) for row in ended}
    (usual, _), *others = Counter(step for step in steps.values() if step is not None).most_common()
    rows = [row for row, step in steps.items() if step == usual]
    left_out = count(len(steps) - len(rows), "run")
    return rows, [f"{left_out} left out, which did not end at {column} {usual:g} as most did"] if others else []


def _run(row: dict[str, Cell], layout: Layout, arm: str) -> TableRun:
    def value(column: str | None) -> float | None:
        return None if column is None else measured(row[column])

    seed, device = (None if column is None else row[column] for column in (layout.seed, layout.device))
    return TableRun(
        arm=arm,
        seed=None if seed is None else int(seed) if str(seed).isdecimal() else int(float(seed)),  # 2**60 + 1 stays
        loss=value(layout.loss),
        tokens=value(layout.tokens),
        seconds=value(layout.seconds),
        device=None if device is None else str(device),
        shape=tuple(row[column] for column in layout.shape),
    )


def _without_repeats(runs: Iterable[TableRun]) -> tuple[list[TableRun], list[str]]:
    """Return the runs with those of one arm and seed as one, whose loss is their mean: they are not independent."""
    groups: dict[Hashable, list[TableRun]] = defaultdict(list)
    for index, run in enumerate(runs):
        groups[(run.arm, run.seed) if run.seed is not None else index].append(run)
    merged, repeated = [], 0
    for group in groups.values():
        losses = [run.loss for run in group if run.loss is not None]
        repeated += len(group) > 1
        loss = math.fsum(losses) / len(losses) if len(losses) == len(group) else None
        merged.append(dataclasses.replace(group[0], loss=loss))
    notes = [f"{count(repeated, 'pair')} of arm and seed with more than one run: the mean counts as one"]
    return merged, notes if repeated else []


def _baseline(table: Table, names: Sequence[str], wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in names:
            some = joined(map(repr, names[:_SHOWN])) + (" and others" if len(names) > _SHOWN else "")
            raise TableError(f"--baseline {wanted}: no arm of {table.path} has this name; there are {some}")
        return wanted
    return next((name for known in _BASELINES for name in names if name.lower() == known), names[0])
