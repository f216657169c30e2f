"""The curve of a diagnosis as one SVG: losses, the fitted law, the forecast's band, and the schedule under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.diagnose.diagnosis import Diagnosis
from sweeps.diagnose.outlook import FittedPath, path_of
from sweeps.pruning.law import Floats
from sweeps.text import short

_WIDTH, _LEFT, _RIGHT = 900, 70, 880
_TOP, _BOTTOM = 14, 360
_RATE_TOP, _RATE_BOTTOM = 400, 470
_HEIGHT = 505
_SETTLED = 0.05
"""share of the run after which losses set the scale"""
_TICKS = 5
_PLACES = 200
"""places at which the schedule is drawn"""


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """A linear map from a range of values to a range of pixels."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.begin + min(max(share, 0.0), 1.0) * (self.end - self.begin), 1)

    def ticks(self) -> list[float]:
        return [float(tick) for tick in np.linspace(self.low, self.high, _TICKS)]


def curve_svg(diagnosis: Diagnosis) -> str:
    """Return the figure; "" without two finite losses."""
    m = diagnosis.measured
    curve = np.column_stack([m.curve.steps, m.curve.losses])
    if len(curve) < 2:
        return ""
    training = m.pairs[:, :2] if m.reading.unit == "nats per token" and not m.of_training else np.zeros((0, 2))
    ahead = diagnosis.outlook.at_end or diagnosis.outlook.at_twice
    end = float(max(curve[-1, 0], m.step, 0 if ahead is None else ahead.step))
    path = path_of(m, ahead.step) if ahead is not None else None
    every = np.concatenate([curve, training])
    late = every[every[:, 0] >= _SETTLED * end]
    late = late if len(late) > 1 else every
    low, high = float(late[:, 1].min()), float(late[:, 1].max())
    low = low if path is None else min(low, float(path.low[-1]))
    room = 0.04 * (high - low) or 0.1
    across = _Scale(low=0.0, high=end, begin=_LEFT, end=_RIGHT)
    up = _Scale(low=low - room, high=high + room, begin=_BOTTOM, end=_TOP)
    parts = [
        *_axes(across, up, unit=m.reading.unit),
        *_since(diagnosis, across),
        *(_band(path, across, up, after=float(curve[-1, 0])) if path is not None else ()),
        *_dots(training, across, up, "training"),
        *_dots(curve, across, up, "training" if m.of_training else "validation"),
        *_schedule(diagnosis, across, end),
    ]
    label = f"losses against steps: {diagnosis.judgement.state}"
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">\n' + "\n".join(parts) + "\n</svg>"


def _axes(across: _Scale, up: _Scale, *, unit: str) -> Iterator[str]:
    for loss in up.ticks():
        y = up(loss)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text class="right" x="{_LEFT - 8}" y="{y + 4}">{loss:.3f}</text>'
    for step in across.ticks():
        yield f'<text class="middle" x="{across(step)}" y="{_RATE_BOTTOM + 18}">{step:,.0f}</text>'
    yield f'<text class="middle" x="{(_LEFT + _RIGHT) / 2}" y="{_HEIGHT - 2}">step</text>'
    yield f'<text class="turned" transform="translate(14 {(_TOP + _BOTTOM) / 2}) rotate(-90)">loss, {unit}</text>'


def _since(diagnosis: Diagnosis, across: _Scale) -> Iterator[str]:
    since = diagnosis.judgement.since
    if since is not None:
        x = across(since)
        yield f'<line class="since" x1="{x}" x2="{x}" y1="{_TOP}" y2="{_RATE_BOTTOM}"/>'
        yield f'<text x="{x + 4}" y="{_TOP + 10}">{diagnosis.judgement.state} since {since:,}</text>'


def _band(path: FittedPath, across: _Scale, up: _Scale, *, after: float) -> Iterator[str]:
    """Yield the fit up to `after`, and from there the forecast with its band."""
    fit = path.steps <= after
    ahead = path.steps >= path.steps[fit][-1] if fit.any() else path.steps >= 0
    upper = _points(path.steps[ahead], path.high[ahead], across, up)
    lower = _points(path.steps[ahead][::-1], path.low[ahead][::-1], across, up)
    yield f'<polygon class="band" points="{upper} {lower}"/>'
    yield f'<polyline class="fit" points="{_points(path.steps[fit], path.mean[fit], across, up)}"/>'
    yield f'<polyline class="ahead" points="{_points(path.steps[ahead], path.mean[ahead], across, up)}"/>'


def _points(steps: Floats, losses: Floats, across: _Scale, up: _Scale) -> str:
    return " ".join(f"{across(x)},{up(y)}" for x, y in zip(steps.tolist(), losses.tolist(), strict=True))


def _dots(points: Floats, across: _Scale, up: _Scale, kind: str) -> Iterator[str]:
    for step, loss in points.tolist():
        title = f"<title>step {step:,.0f}: {kind} loss {loss:.4f}</title>"
        yield f'<circle class="{kind}" cx="{across(step)}" cy="{up(loss)}" r="3">{title}</circle>'


def _schedule(diagnosis: Diagnosis, across: _Scale, end: float) -> Iterator[str]:
    m = diagnosis.measured
    places: Sequence[float] = np.linspace(0, end, _PLACES).tolist()
    rates = [m.rate(round(step)) for step in places]
    known = [rate for rate in rates if rate is not None]
    if len(known) < len(places) or not max(known):
        yield f'<text x="{_LEFT}" y="{_RATE_TOP + 30}">The learning rate isn\'t known.</text>'
        return
    up = _Scale(low=0.0, high=max(known), begin=_RATE_BOTTOM, end=_RATE_TOP)
    line = _points(np.array(places), np.array(known), across, up)
    yield f'<polyline class="rate" points="{line}"/>'
    yield f'<text class="right" x="{_LEFT - 8}" y="{_RATE_TOP + 4}">{short(max(known))}</text>'
    yield f'<text class="right" x="{_LEFT - 8}" y="{_RATE_BOTTOM + 4}">0</text>'
    yield f'<text x="{_LEFT}" y="{_RATE_TOP - 8}">learning rate</text>'
