"""A log of changes that an agent kept or discarded one after the other: which keeps stand up, given the noise.

Such a log (`results.tsv`) has a row an experiment, one run each, and a status: keep, discard or crash. A change was
kept because its single run ended below the last one kept. Whether that is more than luck depends on how far repeats of
one and the same code differ, which such a log only knows if something in it was run twice: rows of one commit, or of
one description. Then a keep stands up if its gain exceeds what two runs differ by, by Student's t with the repeats'
degrees of freedom, corrected by Holm's method over all experiments: each had the chance to be kept by luck.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.special import stdtr

from sweeps.analysis.contrasts import LEVEL
from sweeps.analysis.noise import pooled_sd
from sweeps.analysis.significance import holm
from sweeps.tables.layout import ROLES, column_of, measured, without_loss
from sweeps.tables.rows import Cell, Table, TableError, read_table
from trainer.errors import UserError

_STATUS = ("status", "decision", "verdict", "outcome")
_KEPT = {"keep", "kept", "accept", "accepted"}
_NOT_KEPT = {"discard", "discarded", "reject", "rejected", "revert", "reverted", "crash", "crashed", "fail", "failed"}
LARGEST_LOG = 16 << 20
"""bytes; an agent writes a line per experiment"""
_LABELS = ("description", "change", "name", "commit")
_IDENTITY = ("commit", "sha", "hash", "description", "change", "name")


@dataclass(frozen=True, kw_only=True)
class Keep:
    """A change that was kept."""

    row: int
    """its row in the table, from 1"""
    label: str
    loss: float
    before: float
    """loss of the last run that was kept"""
    p: float | None
    """one-sided, by Holm's method over all experiments; None: the noise is unknown"""

    @property
    def gain(self) -> float:
        """Return how much lower than the last kept it ended."""
        return self.before - self.loss

    @property
    def stands(self) -> bool:
        """Whether the gain is more than luck."""
        return self.p is not None and self.p <= LEVEL


@dataclass(frozen=True, kw_only=True)
class KeepLog:
    """A log of keeps and discards."""

    metric: str
    keeps: tuple[Keep, ...]
    experiments: int
    """runs with a loss that were compared with the last one kept"""
    crashed: int
    sd: float | None
    """standard deviation of repeats; None: nothing was run twice"""
    degrees: int
    last: float
    """loss of the last run that was kept"""
    first: float
    """loss of the first run, the baseline"""

    @property
    def standing(self) -> tuple[Keep, ...]:
        """The keeps that stand up."""
        return tuple(keep for keep in self.keeps if keep.stands)


def is_keep_log(table: Table) -> bool:
    """Whether a table says of its rows that they were kept or discarded."""
    column = column_of(table, _STATUS)
    if column is None:
        return False
    words = {str(row[column]).strip().lower() for row in table.rows}
    return bool(words & _KEPT) and len(words - _KEPT - _NOT_KEPT) <= 1


def is_keep_log_file(path: str | Path) -> bool:
    """Whether a file is such a log. One that can't be read as a table is none, nor one of more than LARGEST_LOG."""
    try:
        return is_keep_log(read_table(path, most=LARGEST_LOG))
    except UserError:
        return False


def keep_log(table: Table) -> KeepLog:
    """Return what a log of keeps and discards shows. Raises TableError where it has no loss or nothing was kept."""
    status, loss = column_of(table, _STATUS), column_of(table, ROLES["loss"])
    assert status is not None
    if loss is None:
        raise without_loss(table)
    rows = [(index, row, _loss(row[loss])) for index, row in enumerate(table.rows, 1)]
    ended = [(index, row, value) for index, row, value in rows if value is not None]
    if not ended:
        raise TableError(f"{table.path}: no row has a loss in column {loss!r}")
    sd, degrees = _noise(table, ended)
    label = column_of(table, _LABELS)
    before, kept, ps = ended[0][2], [], []
    for index, row, value in ended[1:]:
        ps.append(_p(before - value, sd, degrees))
        if str(row[status]).strip().lower() in _KEPT:
            kept.append((len(ps) - 1, index, row, value, before))
            before = value
    adjusted = holm(ps)
    keeps = tuple(
        Keep(
            row=index,
            label=f"row {index}" if label is None or row[label] is None else str(row[label]),
            loss=value,
            before=earlier,
            p=adjusted[place],
        )
        for place, index, row, value, earlier in kept
    )
    return KeepLog(
        metric=loss,
        keeps=keeps,
        experiments=len(ps),
        crashed=len(rows) - len(ended),
        sd=sd,
        degrees=degrees,
        last=before,
        first=ended[0][2],
    )


def _loss(cell: Cell) -> float | None:
    """Return a row's loss. None: it crashed, which such logs write as 0, nan or nothing."""
    value = measured(cell)
    return value if value is not None and value > 0 else None


def _noise(table: Table, ended: Sequence[tuple[int, dict[str, Cell], float]]) -> tuple[float | None, int]:
    """Return the standard deviation over repeats, pooled, and its degrees of freedom.

    Repeats are rows of one commit, or else of one description.
    """
    for name in _IDENTITY:
        column = column_of(table, (name,))
        if column is None:
            continue
        groups: dict[Cell, list[float]] = defaultdict(list)
        for _, row, value in ended:
            if row[column] is not None:
                groups[row[column]].append(value)
        sd, degrees = pooled_sd(groups.values())
        if sd is not None:
            return sd, degrees
    return None, 0


def _p(gain: float, sd: float | None, degrees: int) -> float | None:
    """Return the one-sided p of no gain, of a difference of two single runs whose sd is known from repeats."""
    if sd is None:
        return None
    if not sd:
        return float(gain <= 0)
    return float(stdtr(degrees, -gain / (sd * math.sqrt(2))))
