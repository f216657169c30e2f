"""Tables of keep/discard experiments (results.tsv of nanochat's and autoresearch's loops): one run per line.

A table has the columns val_bpb and status (keep, discard or crash). Each line is a finished run of equal length, so
there is no curve to test. What can be told is how the best loss fell from one kept experiment to the next, and whether
the search has gone flat. A kept gain below the noise between seeds may be luck, and a table doesn't contain that noise.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.diagnose.content import read_text
from sweeps.diagnose.judgement import WORTH, RunState
from sweeps.diagnose.log import EXPECTED
from sweeps.errors import LogError
from sweeps.text import count

LOSS, STATUS = "val_bpb", "status"
_WINDOW = 10
"""latest experiments whose gain counts, and the fewest of a table that is judged"""
_BITS = WORTH / math.log(2) / 4.5
"""bits per byte that count: 0.02 nats per token of 4.5 bytes"""
_KEPT, _OTHERS = "keep", ("discard", "crash")
_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A line of the table."""

    line: int
    bits: float | None
    """validation loss, bits per byte; None: crashed, which the table writes as 0"""
    status: str
    description: str


@dataclass(frozen=True, kw_only=True)
class Experiments:
    """A table, in the order of its lines."""

    name: str
    rows: tuple[Experiment, ...]

    @property
    def kept(self) -> list[Experiment]:
        """The experiments that were kept, the baseline first."""
        return [row for row in self.rows if row.status == _KEPT and row.bits is not None]

    @property
    def gain(self) -> float:
        """Bits per byte by which the best loss fell over the last 10 experiments."""
        before = [row.bits for row in self.rows[:-_WINDOW] if row.status == _KEPT and row.bits is not None]
        best = [row.bits for row in self.kept if row.bits is not None]
        return min(before) - min(best) if before else math.inf

    @property
    def state(self) -> RunState:
        """The verdict on the search."""
        if len(self.rows) <= _WINDOW or not self.kept:
            return RunState.TOO_SHORT
        return RunState.PLATEAU if self.gain < _BITS else RunState.IMPROVING

    @property
    def since(self) -> int | None:
        """On a plateau, the experiment, from 1, that last lowered the best loss by what counts; else None."""
        if self.state is not RunState.PLATEAU:
            return None
        found, best = 1, math.inf
        for number, row in enumerate(self.rows, start=1):
            if row.status == _KEPT and row.bits is not None and row.bits < best - _BITS:
                found, best = number, row.bits
        return found

    def lines(self, *, width: int) -> list[str]:
        """Return the table's page."""
        crashed = sum(row.bits is None for row in self.rows)
        head = f"{self.name}: a table of {count(len(self.rows), 'experiment')}, {self.state}"
        if self.since is not None:
            head += f" since experiment {self.since}"
        text = [
            head,
            f"{len(self.kept)} kept, {len(self.rows) - len(self.kept) - crashed} discarded, {crashed} crashed.",
        ]
        best = math.inf
        steps = []
        for row in self.kept:
            bits = row.bits or math.inf
            gain = "" if math.isinf(best) else f" ({bits - best:+.4f})".replace("-", "−")
            steps.append(f"line {row.line}: {bits:.4f}{gain}  {row.description}")
            best = min(best, bits)
        hidden = len(steps) - _SHOWN
        text += steps if hidden <= 0 else [steps[0], f"{hidden} more", *steps[-_SHOWN + 1 :]]
        if math.isfinite(self.gain):
            text.append(f"The last {_WINDOW} experiments lowered the best by {self.gain:.4f}; {_BITS:.4f} count.")
        text.append(
            "Gains below the noise between seeds may be luck, and the table doesn't contain it: run the best twice."
        )
        return [line for part in text for line in textwrap.wrap(part, width, subsequent_indent="  ")]

    def as_json(self) -> dict[str, Any]:
        """Return the table as data."""
        return {
            "log": self.name,
            "kind": "experiments",
            "verdict": str(self.state),
            "since": self.since,
            "experiments": len(self.rows),
            "kept": [{"line": row.line, "val_bpb": row.bits, "description": row.description} for row in self.kept],
            "gain_of_last_10": self.gain if math.isfinite(self.gain) else None,
            "unit": "bits per byte",
        }


def read_experiments(names: Sequence[str]) -> Experiments | None:
    """Read a table; None if the only log isn't one. Raises LogError that names every line that can't be read."""
    if len(names) != 1 or not names[0].endswith((".tsv", ".csv", ".txt")):
        return None
    lines = read_text(Path(names[0]).expanduser(), expected=EXPECTED).splitlines()
    mark = "\t" if lines and "\t" in lines[0] else ","
    columns = [cell.strip().lower() for cell in lines[0].split(mark)] if lines else []
    if LOSS not in columns or STATUS not in columns:
        return None
    rows: list[Experiment] = []
    wrong: list[str] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        cells = dict(zip(columns, line.split(mark, len(columns) - 1), strict=False))
        try:
            bits, status = float(cells[LOSS]), cells[STATUS].strip().lower()
            if status not in (_KEPT, *_OTHERS):
                raise ValueError(f"status {status!r} is none of keep, discard and crash")
        except (KeyError, ValueError) as error:
            wrong.append(f"line {number}: {error}")
            continue
        ran = status != "crash" and math.isfinite(bits) and bits > 0
        description = cells.get("description", "").strip()
        rows.append(Experiment(line=number, bits=bits if ran else None, status=status, description=description))
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise LogError(f"{names[0]} has lines that can't be read: {'; '.join(wrong[:3])}{more}")
    if not rows:
        raise LogError(f"{names[0]} is a table without an experiment")
    return Experiments(name=names[0], rows=tuple(rows))
