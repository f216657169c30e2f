"""Cells of our tables, checked as they are read: a damaged disk or a stranger can put anything into them.

SQLite keeps any value in any column. A damaged row is named and left out, so that the others can be shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar

import pydantic
import sqlalchemy as sa

from sweeps.errors import StoreError
from sweeps.store import tables
from sweeps.store.records import DataFacts, Pruning
from sweeps.text import count
from trainer.errors import UserError

_Record = TypeVar("_Record")

_Whole = Annotated[int, pydantic.Field(ge=-(2**63), lt=2**63)]
PARAMS: pydantic.TypeAdapter[dict[str, bool | _Whole | pydantic.FiniteFloat]] = pydantic.TypeAdapter(
    dict[str, bool | _Whole | pydantic.FiniteFloat]
)
KINDS: pydantic.TypeAdapter[tuple[str, ...]] = pydantic.TypeAdapter(tuple[str, ...])
PROVENANCE: pydantic.TypeAdapter[dict[str, str]] = pydantic.TypeAdapter(dict[str, str])
PRUNING: pydantic.TypeAdapter[Pruning] = pydantic.TypeAdapter(Pruning)
DATA: pydantic.TypeAdapter[DataFacts] = pydantic.TypeAdapter(DataFacts)
"""readers of JSON in cells. Raise ValueError for text that is no JSON, or whose values have other types."""

LARGEST = 1e15
"""a finite number that nothing measured reaches, neither nats nor seconds nor tokens per second"""
_TYPES: dict[type, tuple[type, ...]] = {sa.Integer: (int,), sa.Float: (int, float), sa.Text: (str,)}


def check_cells(row: sa.Row[Any], table: sa.Table) -> None:
    """Raise ValueError for the first cell of a row that its column can't hold."""
    for column in table.c:
        value = getattr(row, column.name)
        expected = _TYPES[type(column.type)]
        if not isinstance(value, expected) and not (value is None and column.nullable):
            raise ValueError(f"{column.name} is {value!r:.60}")


def read_cells(read: Callable[[], _Record], *, what: str, where: object) -> _Record:
    """Return what `read` returns; turn its failure into a StoreError that names `what`."""
    try:
        return read()
    except StoreError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, UserError) as error:
        raise StoreError(f"{where}: {what} can't be read ({reason(error)}); restore the store from a copy") from error


def reason(error: Exception) -> str:
    """Return why a cell can't be read, in one line."""
    if isinstance(error, pydantic.ValidationError):
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else first["msg"]
    return " ".join(str(error).split())[:160]


def damaged_points(connection: sa.Connection, study: int) -> dict[int, int]:
    """Count the points of each run of a study that hold what they can't. A server's columns hold their type only."""
    if connection.dialect.name != "sqlite":
        return {}
    wrong = sa.or_(*(_has_another_type(column) for column in tables.point.c))
    of_study = sa.select(tables.run.c.id).where(tables.run.c.study_id == study)
    query = sa.select(tables.point.c.run_id, sa.func.count()).where(tables.point.c.run_id.in_(of_study), wrong)
    return {int(run): int(number) for run, number in connection.execute(query.group_by(tables.point.c.run_id))}


def sound_points() -> sa.ColumnElement[bool]:
    """Return the condition that a point's cells hold what their columns say, in SQLite."""
    return sa.not_(sa.or_(*(_has_another_type(column) for column in tables.point.c)))


def _has_another_type(column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    kinds = ["integer"] if isinstance(column.type, sa.Integer) else ["real", "integer"]
    kinds += ["null"] if column.nullable else []
    wrong = sa.func.typeof(column).not_in(kinds)
    if isinstance(column.type, sa.Float):  # infinity is a loss that diverged
        return sa.or_(wrong, sa.func.abs(sa.func.coalesce(column, 0)).between(LARGEST, sys.float_info.max))
    return wrong


def points_in_words(damaged: dict[int, int]) -> Iterator[str]:
    """Yield a sentence per run with damaged points."""
    for run, number in damaged.items():
        yield f"run {run}: {count(number, 'point')} can't be read and {'is' if number == 1 else 'are'} left out"
