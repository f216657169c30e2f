"""Forest plot inside a table: an interval per row as inline SVG, all rows of a table on one scale.

It needs no script. Places are per cent of the cell's width, so a narrow screen narrows the plot and not its marks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.report.figures.style import tukey_fence
from sweeps.report.markup import escaped
from sweeps.text import nats
from sweeps.verdict.answer import Row

_ROOM = 0.06
"""empty at both ends, as a share of the range"""
_FARTHEST = (1.5, 2.0)
"""how far the scale may go below and above 0, as multiples of the largest usual effect; an arrow stands for the rest"""


@dataclass(frozen=True)
class Scale:
    """Nats that a table's plots show; 0 is always among them."""

    low: float
    high: float

    def place(self, nats: float) -> float:
        """Return where a value lies, per cent of the width; one outside lies at the end."""
        return 100 * min(1.0, max(0.0, (nats - self.low) / (self.high - self.low)))

    def holds(self, nats: float) -> bool:
        """Whether a value lies on the scale."""
        return self.low <= nats <= self.high

    @property
    def ticks(self) -> tuple[float, ...]:
        """Two or three round values on the scale, 0 among them."""
        span = self.high - self.low
        few = self._multiples(_round_up(span / 3))
        return few if len(few) > 1 else self._multiples(_round_up(span / 6))

    def _multiples(self, step: float) -> tuple[float, ...]:
        inside = range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
        return tuple(round(number * step, 12) for number in inside)


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, 50, 100 and so on."""
    magnitude = 10.0 ** math.floor(math.log10(value))
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= value)


def scale_of(rows: Sequence[Row]) -> Scale | None:
    """Return the scale that rows of one protocol share. None: no row has an effect.

    All gains are on it. A loss beyond Tukey's fence of the effects' sizes is not, since it would squeeze the rest.
    """
    effects = [row.effect for row in rows if row.effect is not None]
    if not effects:
        return None
    sizes = [abs(effect) for effect in effects]
    usual = [size for size in sizes if size <= tukey_fence(sizes)]
    reach = max([*usual, *(effect for effect in effects if effect > 0)]) or 0.001
    ends = [end for row in rows if row.effect is not None for end in (row.effect, row.low, row.high) if end is not None]
    below, above = (share * reach for share in _FARTHEST)
    low, high = max(min([0.0, *ends]), -below), min(max([0.0, *ends]), above)
    room = _ROOM * ((high - low) or reach)
    return Scale(low - room, high + room)


def interval_plot(row: Row, scale: Scale) -> str:
    """Return a row's interval, its mean and the line of no effect as an accessible SVG; empty without an effect."""
    if row.effect is None:
        return ""
    zero, mean = scale.place(0.0), scale.place(row.effect)
    parts = [f'<line class="zero" x1="{zero:.2f}%" x2="{zero:.2f}%" y1="0" y2="100%"/>']
    if row.low is not None and row.high is not None:
        ends = scale.place(row.low), scale.place(row.high)
        parts.append(f'<line class="bar" x1="{ends[0]:.2f}%" x2="{ends[1]:.2f}%" y1="50%" y2="50%"/>')
        outside = [end for end, value in zip(ends, (row.low, row.high), strict=True) if not scale.holds(value)]
        parts += [_arrow(end) for end in outside if scale.holds(row.effect)]
    if scale.holds(row.effect):
        parts.append(_mark(row, mean))
    else:
        parts.append(_arrow(mean))
    kind = "open" if not row.shown else "gain" if row.effect > 0 else "loss"
    name = escaped(in_words(row))
    return (
        f'<svg class="interval {kind}" role="img" aria-label="{name}" width="100%" height="22">{"".join(parts)}</svg>'
    )


def in_words(row: Row) -> str:
    """Return an effect for a screen reader: gains 0.11 nats, 95 % interval +0.07 to +0.15."""
    if row.effect is None:
        return "not measured"
    verb = "gains" if row.effect >= 0 else "loses"
    if row.measured == "without it":
        verb = "the best config without it loses" if row.effect >= 0 else "the best config without it gains"
    interval = "interval not known"
    if row.low is not None and row.high is not None:
        low, high = (nats(end, row.digits, sign=True) for end in (row.low, row.high))
        interval = f"95 % interval {low} to {high}"
    return f"{verb} {nats(abs(row.effect), row.digits)} nats, {interval}"


def axis_plot(scale: Scale) -> str:
    """Return the scale under the rows."""
    parts = []
    for tick in scale.ticks:
        place = scale.place(tick)
        parts.append(f'<line x1="{place:.2f}%" x2="{place:.2f}%" y1="0" y2="4"/>')
        text = "0" if tick == 0 else f"{tick:+g}".replace("-", "−")
        parts.append(f'<text x="{place:.2f}%" y="17" text-anchor="middle">{text}</text>')
    return f'<svg class="axis" aria-hidden="true" width="100%" height="20">{"".join(parts)}</svg>'


def _mark(row: Row, x: float) -> str:
    """Return the mean: a disc for a gain, a square for a loss, each hollow where nothing is shown."""
    if row.effect is not None and row.effect < 0:
        return f'<svg class="at" x="{x:.2f}%" y="50%"><rect class="mean" x="-4.5" y="-4.5" width="9" height="9"/></svg>'
    return f'<circle class="mean" cx="{x:.2f}%" cy="50%" r="5"/>'


def _arrow(x: float) -> str:
    """Return an arrow at the end of the scale, which points out of it."""
    points = "0,-5 -7,0 0,5" if x < 50 else "0,-5 7,0 0,5"
    shift = 8 if x < 50 else -8
    path = f'<path class="arrow" d="M {points} Z" transform="translate({shift})"/>'
    return f'<svg class="at" x="{x:.2f}%" y="50%">{path}</svg>'
