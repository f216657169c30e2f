"""Tables of runs whose truth is known: what people bring to `sweep judge`, in all the ways that noise comes.

A table has a baseline and 1, 3, 8 or 19 changes on 2, 3, 5 or 8 seeds. A loss is 3.5 less the change's gain, plus the
seed's luck (standard deviation 0.06, shared by arms of one width where a kind has it), plus the run's own noise
(0.015). The truths: no change gains anything (null); every change gains or loses exactly `MIN_EFFECT`, so that any
claim is false (edge); a third of the changes gain 1, 2 or 4 times `MIN_EFFECT`, and the rest nothing (real).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sweeps.tables.rows import Cell, Table

MIN_EFFECT = 0.02
LUCK_SD, OWN_SD = 0.06, 0.015
OWN_SD_RANGE = (0.004, 0.05)
STUCK_GAP = 0.3
"""nats by which a stuck run of a bimodal arm ends higher"""
CHANGES, SEEDS = (1, 3, 8, 19), (2, 3, 5, 8)
TRUTHS = ("null", "edge", "real")
STEPS = (100, 200, 300)
BASELINE = "baseline"
LEVEL = 1000.0
"""the first level of a log of keeps, in standard deviations of a run: no log gets down to 0, which is a crash"""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of table."""

    name: str
    seeds: str = "shared"
    """shared, own (each arm has other seeds), none (no column), some (each arm has some of them)"""
    noise: str = "normal"
    """of a run, beside the luck of its seed: normal, uneven (a size an arm), heavy, skewed, bimodal"""
    curves: bool = False
    """a row a step"""
    diverging: bool = False
    """one run of the last change is nan"""
    padded: bool = False
    """with as many arms of another width again, whose runs hardly differ"""

    @property
    def is_paired(self) -> bool:
        """Whether runs of a seed share its luck."""
        return self.seeds in ("shared", "some")


KINDS = (
    Kind(name="paired"),
    Kind(name="seeds of their own", seeds="own"),
    Kind(name="no seeds", seeds="none"),
    Kind(name="some seeds each", seeds="some"),
    Kind(name="uneven", noise="uneven"),
    Kind(name="uneven, no seeds", noise="uneven", seeds="none"),
    Kind(name="heavy tails", noise="heavy"),
    Kind(name="skewed", noise="skewed"),
    Kind(name="skewed, no seeds", noise="skewed", seeds="none"),
    Kind(name="bimodal", noise="bimodal"),
    Kind(name="curves", curves=True),
    Kind(name="a diverging run", diverging=True),
    Kind(name="calm arms of another width", padded=True),
)


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A table and its truth."""

    table: Table
    gains: dict[str, float]
    """true gain over the baseline, by change"""
    means: dict[str, float]
    """true mean loss, by arm, without those of another width"""
    seeds: int
    diverging: str | None
    """the change of which a run diverged"""


def simulated(kind: Kind, truth: str, *, index: int, rng: np.random.Generator) -> Simulated:
    """Draw a table. `index` goes through the numbers of changes and seeds."""
    changes, seeds = CHANGES[index % 4], SEEDS[index // 4 % 4]
    gains = {f"change {number}": gain for number, gain in enumerate(_gains(truth, changes, rng), 1)}
    luck, wide_luck = rng.normal(0, LUCK_SD, (2, seeds)) * kind.is_paired
    rows: list[dict[str, Cell]] = []
    means = {}
    for number, (arm, gain) in enumerate({BASELINE: 0.0, **gains}.items()):
        noise, mean = _noise(kind, seeds, rng)
        means[arm] = 3.5 - gain + mean
        losses = (3.5 - gain + luck + noise).tolist()
        if kind.diverging and number == changes:
            losses[-1] = math.nan
        kept = rng.choice(seeds, size=rng.integers(2, seeds + 1) if kind.seeds == "some" else seeds, replace=False)
        for place in sorted(kept.tolist()):
            seed = None if kind.seeds == "none" else place + 100 * number * (kind.seeds == "own")
            rows += _rows(kind, arm, seed, losses[place], rng, width=384)
    for number in range(changes + 1) if kind.padded else ():
        for place, loss in enumerate((3.3 + wide_luck + rng.normal(0, 0.001, seeds)).tolist()):
            rows += _rows(kind, f"wide {number}", place, loss, rng, width=768)
    gains |= {f"wide {number}": 0.2 for number in range(changes + 1)} if kind.padded else {}
    return Simulated(
        table=Table(path=Path("runs.csv"), columns=tuple(rows[0]), rows=tuple(rows)),
        gains=gains,
        means=means,
        seeds=seeds,
        diverging=f"change {changes}" if kind.diverging else None,
    )


def _gains(truth: str, changes: int, rng: np.random.Generator) -> list[float]:
    match truth:
        case "null":
            return [0.0] * changes
        case "edge":
            return (MIN_EFFECT * rng.choice([-1, 1], changes)).tolist()
        case _:
            real = math.ceil(changes / 3)
            return (MIN_EFFECT * np.array([*rng.choice([1, 2, 4], real), *[0] * (changes - real)])).tolist()


def _noise(kind: Kind, seeds: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """Return an arm's noise by seed, and its mean."""
    sd = OWN_SD
    match kind.noise:
        case "uneven":
            sd = float(np.exp(rng.uniform(*np.log(OWN_SD_RANGE))))
        case "heavy":
            return sd / math.sqrt(3) * rng.standard_t(3, seeds), 0.0  # t of 3 degrees has the variance 3
        case "skewed":
            return sd * (rng.exponential(1, seeds) - 1), 0.0
        case "bimodal":
            stuck = rng.random(seeds) < 0.5
            return rng.normal(0, sd, seeds) + STUCK_GAP * stuck, STUCK_GAP / 2
    return rng.normal(0, sd, seeds), 0.0


def _rows(
    kind: Kind, arm: str, seed: int | None, loss: float, rng: np.random.Generator, *, width: int
) -> Iterator[dict[str, Cell]]:
    """Yield the rows of a run: one, or one a step, of which the last has the loss."""
    row: dict[str, Cell] = {"arm": arm}
    if seed is not None:
        row["seed"] = seed
    if kind.padded:
        row["n_embd"] = width
    for step in STEPS if kind.curves else STEPS[-1:]:
        early = 0.0 if step == STEPS[-1] else (STEPS[-1] - step) / 1000 + rng.normal(0, 0.01)
        yield {**row, **({"step": step} if kind.curves else {}), "val_loss": loss + early}


def written(table: Table, path: Path) -> None:
    """Write a table as CSV, as a trainer does."""
    lines = [",".join(table.columns), *(",".join(str(cell) for cell in row.values()) for row in table.rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def simulated_keeps(
    rng: np.random.Generator, *, repeats: int, gain: float, noise: str, experiments: int = 40, share: float = 0.1
) -> tuple[Table, dict[int, float]]:
    """Draw a log of keeps, in units of the noise's sd, and the true gain of every kept row over the last one kept.

    The baseline has `repeats` further runs. A share of the changes gains `gain`; the others do nothing.
    """

    def run() -> float:
        return float(rng.standard_t(3) / math.sqrt(3) if noise == "heavy" else rng.normal())

    level, before = LEVEL, LEVEL + run()
    rows: list[dict[str, Cell]] = [{"commit": "0", "val_bpb": before, "status": "keep"}]
    rows += [{"commit": "0", "val_bpb": level + run(), "status": "discard"} for _ in range(repeats)]
    kept = {}
    for number in range(1, experiments + 1):
        change = gain if rng.random() < share else 0.0
        loss = level - change + run()
        rows.append({"commit": str(number), "val_bpb": loss, "status": "keep" if loss < before else "discard"})
        if loss < before:
            kept[len(rows)] = change
            level, before = level - change, loss
    return Table(path=Path("results.tsv"), columns=tuple(rows[0]), rows=tuple(rows)), kept
