"""Tables of the changes that were tried: what each does, with its interval, its seeds and its cost.

Branches, trials from scratch and races answer different questions, so each has a table and a scale of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sweeps.report.intervals import Scale, axis_plot, interval_plot, scale_of
from sweeps.report.markup import breakable, cell, escaped, head, number, row, table
from sweeps.text import nats
from sweeps.verdict.answer import Cost, Row

_CAPTIONS = {
    "branch": "From the checkpoint: nats gained over the control, the branch with nothing changed",
    "trial": "From scratch: nats gained over the baseline",
    "race": "If you retrain from scratch: nats ahead of the origin's own curve at equal tokens",
}
"""caption by protocol, in the order of the tables"""


@dataclass(frozen=True)
class _Column:
    """A column of what changes cost, which is left out where no row differs from the baseline."""

    name: str
    value: Callable[[Cost], float | None]
    shown: Callable[[float, Row], str]
    same: float


_COSTS = (
    _Column("Time", lambda cost: cost.seconds, lambda times, _: f"{times:.2g}×", 1.0),
    _Column("Params", lambda cost: cost.parameters, lambda times, _: f"{times:.3g}×", 1.0),
    _Column("Memory", lambda cost: cost.memory, lambda times, _: f"{times:.2g}×", 1.0),
    _Column("Equal time", lambda cost: cost.gain_at_equal_time, lambda gain, change: _signed(gain, change), 0.0),
)
_SAME = 0.005
"""differences below it are none"""
_LONG = 20
"""characters of a name that may be broken"""


def change_tables(rows: Sequence[Row]) -> str:
    """Return a table per protocol that has rows."""
    tables = []
    for protocol, caption in _CAPTIONS.items():
        of_protocol = [change for change in rows if change.protocol == protocol]
        if of_protocol:
            tables.append(_table(caption, of_protocol))
    return "\n".join(tables)


def _table(caption: str, rows: Sequence[Row]) -> str:
    scale = scale_of(rows)
    costs = [column for column in _COSTS if any(_differs(column, change) for change in rows)]
    columns = [("Change", ""), ("What it does", "aside"), ("Nats, with the 95 % interval", "effect")]
    columns += [("Seeds", "number aside"), *((column.name, "number aside") for column in costs)]
    body = [_row(change, scale, costs) for change in rows]
    foot = "" if scale is None else _axis_row(scale, after=len(columns) - 3)
    return table(caption, head(columns), body, kind="changes", foot=foot)


def _row(change: Row, scale: Scale | None, costs: Sequence[_Column]) -> str:
    plot = "" if scale is None else interval_plot(change, scale)
    value = "" if change.effect is None else repr(change.effect)
    cells = [
        _head(change),
        cell(change.does, "words aside"),
        f'<td class="effect" data-value="{value}"><div>{plot}<span class="nats">{_nats(change)}</span></div></td>',
        number(str(change.seeds), "aside", value=change.seeds),
        *_cost_cells(change, costs),
    ]
    return row(cells, kind="" if change.shown else "open")


def _head(change: Row) -> str:
    """Return the cell that names a row. On a phone the page's style shows there what the change does, too."""
    value = escaped(f"{change.knob or ''} {change.after}")
    return f'<th scope="row" data-value="{value}" data-does="{escaped(change.does)}">{_name(change)}</th>'


def _name(change: Row) -> str:
    if change.knob is None:
        return f"<strong>{escaped(change.after) or 'all changes together'}</strong>"
    values = f"{escaped(change.before)} → {escaped(change.after)}" if change.before else escaped(change.after)
    name = breakable(change.knob) if len(change.knob) > _LONG else escaped(change.knob)
    return f'<code>{name}</code> <span class="values">{values}</span>'


def _nats(change: Row) -> str:
    if change.effect is None:
        return "–"
    if change.low is None or change.high is None:
        interval = "interval not known" if change.seeds else ""
    else:
        interval = f"{_signed(change.low, change)} to {_signed(change.high, change)}"
    what = '<small class="what">lost without it</small>' if change.measured == "without it" else ""
    return f"<strong>{_signed(change.effect, change)}</strong> <small>{interval}</small>{what}"


def _signed(value: float, change: Row) -> str:
    return nats(value, change.digits, sign=True)


def _cost_cells(change: Row, columns: Sequence[_Column]) -> Iterator[str]:
    for column in columns:
        value = None if change.cost is None else column.value(change.cost)
        yield number("–" if value is None else column.shown(value, change), "aside", value=value)


def _differs(column: _Column, change: Row) -> bool:
    value = None if change.cost is None else column.value(change.cost)
    return value is not None and abs(value - column.same) > _SAME


def _axis_row(scale: Scale, *, after: int) -> str:
    """Return the last row of a table, with the scale under the plots; `after`: columns to its right."""
    axis = f'<td class="effect"><div>{axis_plot(scale)}<span class="nats"></span></div></td>'
    return f'<tr><td class="aside"></td><td>worse ← 0 → better</td>{axis}<td colspan="{after}" class="aside"></td></tr>'
