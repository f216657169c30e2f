"""Banks: many unpruned learning curves of one study space, read from a parquet or simulated.

A run that ended before the last step (it diverged) keeps its short curve and counts as infinitely bad.
"""

from __future__ import annotations

import argparse
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sweeps.pruning.law import Schedule


Floats = NDArray[np.float64]

SCHEDULE = ("learning_rate", "min_lr_ratio", "warmup_fraction")
"""the knobs that make a run's learning rates"""
NOISE = 0.005
"""of each simulated evaluation, nats"""
_POINT = ("trial", "seed", "step", "train_loss", "val_loss", "val_se")
_LOG_FROM = 10.0
"""a knob whose greatest value is more than this many times its least is scaled by its logarithm"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """N configs, one run each, evaluated at 0..E."""

    name: str
    losses: Floats
    """(N, E+1) validation loss, nats; NaN where missing, not finite, or after the run's end"""
    ends: NDArray[np.int64]
    """(N,) the last evaluation a run came to: E, or fewer if it diverged"""
    settings: dict[str, Floats]
    """(N,) values of each knob, as recorded"""
    knobs: Floats
    """(N, d) the same, each scaled to 0..1 by its range, by its logarithm where the range is wide"""
    rates: Floats | None
    """(N, E+1) learning rate at each evaluation; None where the bank doesn't record what it takes"""

    def __len__(self) -> int:
        return len(self.losses)

    @property
    def evaluations(self) -> int:
        """E, those after the start."""
        return self.losses.shape[1] - 1

    @functools.cached_property
    def schedules(self) -> list[Schedule]:
        """(N,) of each run; a constant rate where the bank doesn't record it."""
        from sweeps.pruning.law import Schedule

        if self.rates is None:
            return [Schedule.constant(self.evaluations)] * len(self)
        return [Schedule.of(rates) for rates in self.rates]

    @property
    def finals(self) -> Floats:
        """(N,) final loss, nats; infinite for a run without one."""
        return np.where(np.isnan(self.losses[:, -1]), np.inf, self.losses[:, -1])

    def ranked(self) -> NDArray[np.int64]:
        """(N,) trials, the best final first."""
        return np.argsort(self.finals, kind="stable")

    def top_tenth(self) -> NDArray[np.int64]:
        """The trials of the best tenth, rounded up."""
        return self.ranked()[: -(-len(self) // 10)]

    def only(self, trials: NDArray[np.int64]) -> Bank:
        """The bank of these trials alone, in this order; knobs keep their scale."""
        return Bank(
            name=self.name,
            losses=self.losses[trials],
            ends=self.ends[trials],
            settings={name: values[trials] for name, values in self.settings.items()},
            knobs=self.knobs[trials],
            rates=None if self.rates is None else self.rates[trials],
        )

    def agreement(self, share: float) -> float:
        """Spearman's correlation of the loss at `share` of the run with the final one, over runs that have both."""
        then = self.losses[:, round(share * self.evaluations)]
        both = np.isfinite(then) & np.isfinite(self.finals)
        ranks = (values[both].argsort().argsort() for values in (then, self.finals))
        return float(np.corrcoef(*ranks)[0, 1])


def read(path: Path) -> Bank:
    """The bank of a parquet with a row an evaluation: trial, seed, step, train_loss, val_loss, val_se, then the knobs.

    One run a distinct config, that of the seed met first. Evaluations are the steps of the runs that came to the last
    one. Columns that aren't numbers are no knobs. Learning rates are known if all of `SCHEDULE` are recorded.
    """
    if not path.is_file():
        raise SystemExit(f"{path}: no such bank; python -m benchmarks.pruning.record_bank --out {path} records one")
    columns = pq.read_table(path).to_pydict()
    if missing := [name for name in _POINT if name not in columns]:
        raise SystemExit(f"{path}: no column {', '.join(missing)}, so this is no bank")
    names = [
        name for name in columns if name not in _POINT and all(isinstance(each, int | float) for each in columns[name])
    ]
    runs = _runs(columns, names)
    last = max(step for run in runs.values() for step in run)
    steps = sorted({step for run in runs.values() if last in run for step in run})
    losses = np.array([[run.get(step, np.nan) for step in steps] for run in runs.values()], dtype=float)
    losses[~np.isfinite(losses)] = np.nan
    reached = [max(run) for run in runs.values()]
    settings = dict(zip(names, np.array(list(runs), dtype=float).reshape(len(runs), -1).T, strict=True))
    return Bank(
        name=str(path),
        losses=losses,
        ends=np.array([np.searchsorted(steps, step, side="right") - 1 for step in reached]),
        settings=settings,
        knobs=scaled(settings),
        rates=cosine(settings, np.array(steps)) if set(SCHEDULE) <= settings.keys() else None,
    )


def _runs(columns: dict[str, list[Any]], names: list[str]) -> dict[tuple[float, ...], dict[int, float]]:
    """Loss by step of the first run of each distinct config."""
    first: dict[tuple[float, ...], tuple[int, int]] = {}
    found: dict[tuple[float, ...], dict[int, float]] = {}
    for row in range(len(columns["step"])):
        config = tuple(float(columns[name][row]) for name in names)
        run = (columns["trial"][row], columns["seed"][row])
        if first.setdefault(config, run) == run:
            found.setdefault(config, {})[columns["step"][row]] = columns["val_loss"][row]
    return found


def scaled(settings: dict[str, Floats]) -> Floats:
    """(N, d) each knob on 0..1 by the range of its values; by their logarithm if they are above 0 and span over 10x."""
    made = []
    for values in settings.values():
        wide = values.min() > 0 and values.max() > _LOG_FROM * values.min()
        on = np.log(values) if wide else values
        made.append((on - on.min()) / (np.ptp(on) or 1.0))
    return np.stack(made, axis=1)


def cosine(settings: dict[str, Floats], steps: NDArray[np.int64]) -> Floats:
    """(N, steps) learning rates of nanoGPT's schedule: linear warm-up, then a cosine to the last of `steps`.

    Warm-up takes `max(1, round(warmup_fraction * last))` iterations, none where the fraction is 0.
    """
    peak, ratio, fraction = (settings[name][:, None] for name in SCHEDULE)
    last = int(steps[-1])
    warm = np.where(fraction > 0, np.maximum(1, np.round(fraction * last)), 0)
    progress = (steps - warm) / np.maximum(1, last - warm)
    falling = peak * (ratio + (1 - ratio) * 0.5 * (1 + np.cos(np.pi * np.clip(progress, 0, 1))))
    return np.where(steps < warm, peak * (steps + 1) / (warm + 1), falling)


def simulated(kind: str, *, trials: int = 60, seed: int = 0) -> Bank:
    """A bank made from the law `F + A*(x**-.5 - 1) + C*(z(1) - z(x))` under cosine schedules, with noise `NOISE`.

    `F` is the final loss, best at a high learning rate and a great width; x is progress in summed learning rates and
    z the annealing term (Tissue et al. 2408.11029). 400 iterations, an evaluation every 10, loss at most ln(1024).

    - cross-late: A and C grow with the learning rate, so that a high one falls slowly at first and fast in the
      annealing: among the good configs early ranks are wrong.
    - settles-early: A and C are common to all, and final losses lie far apart: ranks settle by a quarter of the run.
    """
    rng = np.random.default_rng(seed)
    rate, ratio, warm, dropout, decay, width = rng.random((6, trials))
    settings = {
        "learning_rate": 1e-4 * 300**rate,
        "min_lr_ratio": 0.3 * ratio,
        "warmup_fraction": 0.3 * warm,
        "dropout": 0.4 * dropout,
        "weight_decay": 1e-3 * 1000**decay,
        "n_embd": 32 + 16 * np.floor(7 * width),
    }
    steps = np.arange(401)
    progress, annealing = _clocks(cosine(settings, steps))
    if kind == "cross-late":
        final = 4.2 + (rate - 0.95) ** 2 + 0.04 * (1 - width) + 0.03 * dropout + 0.05 * ratio
        falling, annealed = 0.25 + 0.1 * rate, 0.1 + 0.8 * rate
    elif kind == "settles-early":
        final = 4.2 + 1.6 * (rate - 0.75) ** 2 + 0.5 * (1 - width) + 0.3 * dropout + 0.1 * ratio
        falling, annealed = np.full(trials, 0.25), np.full(trials, 0.3)
    else:
        raise ValueError(f"kind={kind}: cross-late or settles-early")
    law = final[:, None] + falling[:, None] * (np.maximum(progress, 1e-9) ** -0.5 - 1)
    law += annealed[:, None] * (annealing[:, -1:] - annealing)
    losses = np.minimum(law, np.log(1024))[:, ::10]
    return Bank(
        name=f"simulated {kind}",
        losses=losses + rng.normal(0, NOISE, losses.shape),
        ends=np.full(trials, losses.shape[1] - 1),
        settings=settings,
        knobs=scaled(settings),
        rates=cosine(settings, steps[::10]),
    )


def _clocks(rates: Floats) -> tuple[Floats, Floats]:
    """(N, T+1) progress x and annealing z at each iteration of these learning rates."""
    done = np.cumsum(np.pad(rates[:, :-1], ((0, 0), (1, 0))), axis=1)
    whole, peak = done[:, -1:], rates.max(axis=1, keepdims=True)
    annealing = np.zeros_like(rates)
    for step in range(1, rates.shape[1]):
        fall = np.maximum(0, rates[:, step - 1] - rates[:, step])[:, None] / peak
        annealing[:, step:] += fall * (1 - np.exp(-(done[:, step:] - done[:, step : step + 1]) / (0.05 * whole)))
    return done / whole, annealing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--bank FILE or --simulated KIND, one of which is required."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--bank", type=Path, metavar="FILE", help="a parquet of python -m benchmarks.pruning.record_bank"
    )
    source.add_argument("--simulated", choices=["cross-late", "settles-early"], help="60 made-up trials instead")


def asked_for(options: argparse.Namespace) -> Bank:
    """What these arguments name."""
    return read(options.bank) if options.bank else simulated(options.simulated)
