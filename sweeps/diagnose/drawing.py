"""A loss curve drawn in characters: validation losses, training losses, and where the plateau begins."""

from __future__ import annotations

import numpy as np

from sweeps.diagnose.diagnosis import Diagnosis
from sweeps.pruning.law import Floats

_VALIDATION, _TRAINING, _SINCE, _FORECAST = "●", "∙", "┊", "○"
_SETTLED = 0.05
"""share of the run after which losses set the scale; the steep fall before it would hide all else"""
_MARGIN = 9


def draw(diagnosis: Diagnosis, *, width: int, height: int) -> list[str]:
    """Return the curve in `height` + 1 lines of at most `width` characters; nothing without two finite losses."""
    m = diagnosis.measured
    rows = m.pairs[:, :2] if len(m.pairs) else m.iters[np.isfinite(m.iters).all(axis=1)]
    curve = np.column_stack([m.curve.steps, m.curve.losses])
    every = np.concatenate([curve, rows if m.reading.unit == "nats per token" else rows[:0]])
    if len(every) < 2:
        return []
    ahead = diagnosis.outlook.at_end
    last = max(float(every[:, 0].max()), 1.0, 0.0 if ahead is None else float(ahead.step))
    scale = every[every[:, 0] >= _SETTLED * last]
    scale = scale if len(scale) > 1 else every
    low, high = float(scale[:, 1].min()), float(scale[:, 1].max())
    low = low if ahead is None else min(low, ahead.value)
    high = high if high > low else low + 1.0
    columns = width - _MARGIN
    grid = np.full((height, columns), " ", dtype="<U1")

    def place(points: Floats, mark: str) -> None:
        for step, loss in points.tolist():
            row = round((high - min(max(loss, low), high)) / (high - low) * (height - 1))
            column = min(round(step / last * (columns - 1)), columns - 1)
            grid[row, column] = "↑" if loss > high else "↓" if loss < low else mark

    since = diagnosis.judgement.since
    if since is not None:
        grid[:, min(round(since / last * (columns - 1)), columns - 1)] = _SINCE
    place(every[len(curve) :], _TRAINING)
    place(curve, _VALIDATION)
    if ahead is not None:
        place(np.array([[ahead.step, ahead.value]]), _FORECAST)
    lines = []
    for number, row in enumerate(grid):
        value = high - (high - low) * number / (height - 1)
        label = f"{value:7.3f}" if number in (0, height // 2, height - 1) else " " * 7
        lines.append(f"{label} │{''.join(row)}".rstrip())
    end = f"{last:,.0f}"
    legend = f"{_VALIDATION} {'training' if m.of_training else 'validation'}"
    legend += f"  {_TRAINING} training" if len(every) > len(curve) and not m.of_training else ""
    legend += f"  {_SINCE} since {since:,}" if since is not None else ""
    legend += f"  {_FORECAST} forecast" if ahead is not None else ""
    space = max(columns - len(legend) - len(end) - 1, 1)
    lines.append(f"{'step 0':>7} └{legend}{' ' * space}{end}")
    return lines
