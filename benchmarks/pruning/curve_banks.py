"""Banks: many unpruned loss curves of one study space, read from a parquet or simulated.

A run that diverged before the last step keeps its short curve, and its final loss counts as infinite.
"""

from __future__ import annotations

import argparse
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trainer.errors import UserError

if TYPE_CHECKING:
    from sweeps.pruning.law import Schedule


Floats = NDArray[np.float64]

SCHEDULE = ("learning_rate", "min_lr_ratio", "warmup_fraction")
"""knobs that determine a run's learning rates"""
NOISE = 0.005
"""standard deviation of a simulated evaluation, nats per token"""
_POINT = ("trial", "seed", "step", "train_loss", "val_loss", "val_se")
_LOG_FROM = 10.0
"""a knob is scaled by its logarithm if its greatest value is more than this many times its least"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """N configs, one run each, with evaluations 0..E."""

    name: str
    losses: Floats
    """(N, E+1) validation loss, nats per token; NaN where missing, not finite, or after the run's end"""
    ends: NDArray[np.int64]
    """(N,) last evaluation of each run: E, or an earlier one if it diverged"""
    settings: dict[str, Floats]
    """(N,) values of each knob, as recorded"""
    knobs: Floats
    """(N, d) the same values scaled to 0..1 by their range, or by its logarithm where the range is wide"""
    rates: Floats | None
    """(N, E+1) learning rate at each evaluation; None where the bank lacks a knob of the schedule"""

    def __len__(self) -> int:
        return len(self.losses)

    @property
    def evaluations(self) -> int:
        """E, the number of evaluations after the start."""
        return self.losses.shape[1] - 1

    @functools.cached_property
    def schedules(self) -> list[Schedule]:
        """(N,) schedule of each run; a constant rate where the bank doesn't record it."""
        from sweeps.pruning.law import Schedule

        if self.rates is None:
            return [Schedule.constant(self.evaluations)] * len(self)
        return [Schedule.of(rates) for rates in self.rates]

    @property
    def finals(self) -> Floats:
        """(N,) final loss, nats per token; infinite for a run without one."""
        return np.where(np.isnan(self.losses[:, -1]), np.inf, self.losses[:, -1])

    def ranked(self) -> NDArray[np.int64]:
        """Return the trials (N,), the lowest final loss first."""
        return np.argsort(self.finals, kind="stable")

    def top_tenth(self) -> NDArray[np.int64]:
        """Return the trials of the best tenth, rounded up."""
        return self.ranked()[: -(-len(self) // 10)]

    def only(self, trials: NDArray[np.int64]) -> Bank:
        """Return the bank of these trials, in this order. Knobs keep their scale."""
        return Bank(
            name=self.name,
            losses=self.losses[trials],
            ends=self.ends[trials],
            settings={name: values[trials] for name, values in self.settings.items()},
            knobs=self.knobs[trials],
            rates=None if self.rates is None else self.rates[trials],
        )

    def agreement(self, share: float) -> float:
        """Return Spearman's correlation of the loss at a share of the run with the final loss, over runs with both."""
        early = self.losses[:, round(share * self.evaluations)]
        has_both = np.isfinite(early) & np.isfinite(self.finals)
        ranks = (values[has_both].argsort().argsort() for values in (early, self.finals))
        return float(np.corrcoef(*ranks)[0, 1])


def read(path: Path) -> Bank:
    """Read the bank of a parquet with a row per evaluation.

    The columns are trial, seed, step, train_loss, val_loss, val_se, then the knobs. Columns that aren't numeric are no
    knobs. Each distinct config counts once, by the run of the seed that comes first. Evaluations are the steps of the
    runs that reached the last step. Learning rates are known if all of `SCHEDULE` are recorded. Raises UserError for
    any other file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such bank; python -m benchmarks.pruning.record_bank --out {path} records one")
    try:
        columns = pq.read_table(path).to_pydict()
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: not a parquet, so this is no bank") from error
    if missing := [name for name in _POINT if name not in columns]:
        raise UserError(f"{path}: no column {', '.join(missing)}, so this is no bank")
    knobs = [
        name
        for name in columns
        if name not in _POINT and all(isinstance(value, int | float) for value in columns[name])
    ]
    runs = _losses_by_config(columns, knobs)
    last = max(step for run in runs.values() for step in run)
    steps = sorted({step for run in runs.values() if last in run for step in run})
    losses = np.array([[run.get(step, np.nan) for step in steps] for run in runs.values()], dtype=float)
    losses[~np.isfinite(losses)] = np.nan
    last_steps = [max(run) for run in runs.values()]
    settings = dict(zip(knobs, np.array(list(runs), dtype=float).reshape(len(runs), -1).T, strict=True))
    return Bank(
        name=str(path),
        losses=losses,
        ends=np.array([np.searchsorted(steps, step, side="right") - 1 for step in last_steps]),
        settings=settings,
        knobs=scaled(settings),
        rates=cosine(settings, np.array(steps)) if set(SCHEDULE) <= settings.keys() else None,
    )


def _losses_by_config(columns: dict[str, list[Any]], knobs: list[str]) -> dict[tuple[float, ...], dict[int, float]]:
    """Return the loss by step of the first run of each distinct config."""
    first_runs: dict[tuple[float, ...], tuple[int, int]] = {}
    losses: dict[tuple[float, ...], dict[int, float]] = {}
    for row in range(len(columns["step"])):
        config = tuple(float(columns[name][row]) for name in knobs)
        run = (columns["trial"][row], columns["seed"][row])
        if first_runs.setdefault(config, run) == run:
            losses.setdefault(config, {})[columns["step"][row]] = columns["val_loss"][row]
    return losses


def scaled(settings: dict[str, Floats]) -> Floats:
    """Scale each knob to 0..1 by the range of its values (N, d).

    Positive values that span more than a factor of 10 are scaled by their logarithm.
    """
    columns = []
    for values in settings.values():
        is_wide = values.min() > 0 and values.max() > _LOG_FROM * values.min()
        positions = np.log(values) if is_wide else values
        columns.append((positions - positions.min()) / (np.ptp(positions) or 1.0))
    return np.stack(columns, axis=1)


def cosine(settings: dict[str, Floats], steps: NDArray[np.int64]) -> Floats:
    """Return the learning rates (N, steps) of nanoGPT's schedule: linear warm-up, then a cosine to the last step.

    Warm-up takes `max(1, round(warmup_fraction * last))` iterations, or none where the fraction is 0.
    """
    peak, ratio, fraction = (settings[name][:, None] for name in SCHEDULE)
    last = int(steps[-1])
    warm = np.where(fraction > 0, np.maximum(1, np.round(fraction * last)), 0)
    progress = (steps - warm) / np.maximum(1, last - warm)
    falling = peak * (ratio + (1 - ratio) * 0.5 * (1 + np.cos(np.pi * np.clip(progress, 0, 1))))
    return np.where(steps < warm, peak * (steps + 1) / (warm + 1), falling)


def simulated_bank(kind: str, *, trials: int = 60, seed: int = 0) -> Bank:
    """Simulate a bank by the law `F + A*(x**-.5 - 1) + C*(z(1) - z(x))` under cosine schedules, with noise `NOISE`.

    `F` is the final loss, lowest at a high learning rate and a large width; x is progress in summed learning rates and
    z the annealing term (Tissue et al. 2024, arXiv 2408.11029). 400 iterations, an evaluation every 10, loss at most
    ln(1024).

    - cross-late: A and C grow with the learning rate, so a high rate falls slowly at first and fast in the annealing.
      Among the good configs early ranks are wrong.
    - settles-early: A and C are the same for all configs, and final losses lie far apart. Ranks settle by a quarter of
      the run.
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
    progress, annealing = _progress_and_annealing(cosine(settings, steps))
    if kind == "cross-late":
        final = 4.2 + (rate - 0.95) ** 2 + 0.04 * (1 - width) + 0.03 * dropout + 0.05 * ratio
        falling, annealed = 0.25 + 0.1 * rate, 0.1 + 0.8 * rate
    elif kind == "settles-early":
        final = 4.2 + 1.6 * (rate - 0.75) ** 2 + 0.5 * (1 - width) + 0.3 * dropout + 0.1 * ratio
        falling, annealed = np.full(trials, 0.25), np.full(trials, 0.3)
    else:
        raise ValueError(f"kind={kind} is neither cross-late nor settles-early")
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


def _progress_and_annealing(rates: Floats) -> tuple[Floats, Floats]:
    """Return progress x and annealing z (N, T+1) at each iteration of these learning rates."""
    done = np.cumsum(np.pad(rates[:, :-1], ((0, 0), (1, 0))), axis=1)
    whole, peak = done[:, -1:], rates.max(axis=1, keepdims=True)
    annealing = np.zeros_like(rates)
    for step in range(1, rates.shape[1]):
        fall = np.maximum(0, rates[:, step - 1] - rates[:, step])[:, None] / peak
        annealing[:, step:] += fall * (1 - np.exp(-(done[:, step:] - done[:, step : step + 1]) / (0.05 * whole)))
    return done / whole, annealing


def add_bank_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --bank FILE and --simulated KIND, one of which is required."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--bank", type=Path, metavar="FILE", help="parquet of python -m benchmarks.pruning.record_bank")
    source.add_argument("--simulated", choices=["cross-late", "settles-early"], help="60 simulated trials instead")


def chosen_bank(options: argparse.Namespace) -> Bank:
    """Return the bank that the arguments name. Raises UserError for a file that is no bank."""
    return read(options.bank) if options.bank else simulated_bank(options.simulated)
