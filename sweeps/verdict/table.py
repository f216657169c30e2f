"""The table of the answer as lines of text: a line per change, its interval as a bar, its cost below it.

All bars share one axis, and a stroke marks 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.text import nats
from sweeps.verdict.answer import Cost, Row
from sweeps.verdict.rows import SAME

_GAP = "  "
_SHORTEST, _ROOMY, _LONGEST = 5, 14, 32
"""characters of a bar"""
_LABEL = 36
"""characters of the longest label that is printed"""
_RACES = "if you retrain from scratch:"


def table(rows: Sequence[Row], *, width: int, arrow: str = "→") -> list[str]:
    """Return the lines of a table of at most `width` columns; wider ones also hold the interval and bits per byte."""
    cells = [_cells(row, arrow) for row in rows]
    columns = [*_COLUMNS]
    for column in _OPTIONAL:
        fuller = sorted([*columns, column], key=_ORDER.index)
        if any(each[column] for each in cells) and _room(cells, fuller, width) >= _ROOMY:
            columns = fuller
    if _room(cells, columns, width) < _SHORTEST:
        cells = [{**each, "does": each["does"].replace("only together with", "only with")} for each in cells]
    if _room(cells, columns, width) < _SHORTEST:
        columns.remove("bar")
    bar = min(_LONGEST, max(_SHORTEST, _room(cells, columns, width)))
    axis = _Axis.of(rows, columns=bar)
    lines = [_line(_HEADERS, columns, cells, bar=" " * bar)]
    for index, (row, texts) in enumerate(zip(rows, cells, strict=True)):
        if row.protocol == "race" and index and rows[index - 1].protocol != "race":
            lines.append(_RACES)
        lines.append(_line(texts, columns, cells, bar=axis.bar(row)))
        if cost := cost_words(row.cost, digits=row.digits):
            lines.append(f"{_GAP}{cost}")
    return lines


_COLUMNS = ("knob", "change", "does", "nats", "bar", "seeds")
_OPTIONAL = ("interval", "bits")
_ORDER = ("knob", "change", "does", "nats", "interval", "bits", "bar", "seeds")
_HEADERS = {
    "knob": "knob",
    "change": "from, to",
    "does": "what it does",
    "nats": "nats",
    "interval": "95 % interval",
    "bits": "bits/byte",
    "seeds": "seeds",
}
_RIGHT = {"nats", "bits", "seeds"}


def _cells(row: Row, arrow: str) -> dict[str, str]:
    interval = ""
    if row.low is not None and row.high is not None:
        interval = f"{nats(row.low, row.digits)} to {nats(row.high, row.digits)}"
    return {
        "knob": row.knob or "",
        "change": f"{row.before} {arrow} {row.after}" if row.before else row.after if row.knob else "",
        "does": row.does,
        "nats": "" if row.effect is None else nats(row.effect, row.digits, sign=True),
        "interval": interval,
        "bits": "" if row.bits_per_byte is None else nats(row.bits_per_byte, row.digits, sign=True),
        "bar": "",
        "seeds": str(row.seeds) if row.seeds else "",
        "label": "" if row.knob else row.after or "all together",
    }


def _widths(cells: Sequence[dict[str, str]], columns: Sequence[str]) -> dict[str, int]:
    """Return the columns' widths. The first two have room for the labels of several changes, up to a limit."""
    widths = {column: max(len(_HEADERS.get(column, "")), *(len(each[column]) for each in cells)) for column in columns}
    labels = [len(each.get("label", "")) for each in cells]
    longest = max((length for length in labels if length <= _LABEL), default=0)
    widths["change"] = max(widths["change"], longest - widths["knob"] - len(_GAP))
    return widths


def _room(cells: Sequence[dict[str, str]], columns: Sequence[str], width: int) -> int:
    """Return the characters that are left for the bar."""
    return width - sum(_widths(cells, columns).values()) - len(_GAP) * (len(columns) - 1)


def _line(texts: dict[str, str], columns: Sequence[str], cells: Sequence[dict[str, str]], *, bar: str) -> str:
    widths = _widths(cells, columns)
    parts = []
    for column in columns:
        text = bar if column == "bar" else texts.get(column, "")
        parts.append(text.rjust(widths[column]) if column in _RIGHT else text.ljust(widths[column]))
    if label := texts.get("label"):  # of several changes; it takes two columns
        room = widths["knob"] + len(_GAP) + widths["change"]
        parts[:2] = [f"{label if len(label) <= room else 'several together':<{room}}"]
    return _GAP.join(parts).rstrip()


@dataclass(frozen=True)
class _Axis:
    """An axis of nats on `columns` characters, 0 included."""

    least: float
    most: float
    columns: int

    @classmethod
    def of(cls, rows: Sequence[Row], *, columns: int) -> _Axis:
        ends = [end for row in rows for end in (row.low, row.effect, row.high) if end is not None]
        return cls(min(0.0, *ends, 0.0), max(0.0, *ends, 0.0), columns)

    def bar(self, row: Row) -> str:
        """Return an interval as ──●── with │ at 0; of an effect without an interval its point alone."""
        places, zero = [" "] * self.columns, self._at(0.0)
        places[zero] = "│"
        if row.effect is not None:
            if row.low is not None and row.high is not None:
                first, last = self._at(row.low), self._at(row.high)
                places[first : last + 1] = "─" * (last - first + 1)
                places[zero] = "┼" if first <= zero <= last else "│"
            places[self._at(row.effect)] = "●"
        return "".join(places)

    def _at(self, value: float) -> int:
        span = self.most - self.least
        return round((value - self.least) / span * (self.columns - 1)) if span else 0


def cost_words(cost: Cost | None, *, digits: int) -> str:
    """Return what a change costs: parameters × 36, time × 4.1, memory × 6.9; at equal time −0.12 nats.

    Empty for a change that costs no more than the baseline.
    """
    if cost is None:
        return ""
    parts = (("parameters", cost.parameters), ("time", cost.seconds), ("memory", cost.memory))
    if not any(part is not None and part >= 1 + SAME for _, part in parts):
        return ""
    words = [f"{what} × {_times(part)}" for what, part in parts if part is not None and abs(part - 1) >= SAME]
    slower = cost.seconds is not None and cost.seconds >= 1 + SAME
    left = cost.gain_at_equal_time
    at_equal_time = f"; at equal time {nats(left, digits, sign=True)} nats" if left is not None and slower else ""
    return ", ".join(words) + at_equal_time


def _times(ratio: float) -> str:
    """Return 36, 4.1, 1.04, 0.85."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 1.1 else f"{ratio:.2f}"
