"""False claims, coverage and power of `sweep judge`, on simulated tables and logs of keeps whose truth is known.

    python -m benchmarks.verdict.judge [--tables 1600] [--seed 0] [--json]

`simulated_tables.py` says which kinds of table there are, and what their truths are. Every kind gets `--tables` tables
of each truth (null, edge, real), with 1 to 19 changes on 2 to 8 seeds. Each is ruled on as the command does, from a
table in memory. Every twentieth is also written as CSV and given to the command itself, whose JSON must be the same.

Per kind:

- false claims: share of null and edge tables, and of real ones, that say better of a change that gains at most
  `MIN_EFFECT`, or worse of one that loses at most that. A change of which a run diverged may be called worse.
- coverage: share of the changes' intervals that hold the true difference, in all and by the number of seeds.
- equal: share of the changes that gain or lose `MIN_EFFECT` or more that are said to be equal.
- power: share of the changes that gain 2 and 4 times `MIN_EFFECT` that are said to be better, by the number of seeds.
  One that gains `MIN_EFFECT` exactly must not be, and stands with the false claims.
- optimism: how far the best single run of a null table lies below its arm's true mean, on average, beside what the
  command expects; and the mean gain that is told of changes shown to be better, over their true mean gain.

Then logs of 40 experiments, of which a tenth gains 2, 4 or 8 standard deviations of a run, or none does, without and
with repeats of the baseline: the share of logs with a false keep that is said to stand up, of false keeps, and of true
ones. Intervals in brackets are Wilson's. Four minutes of one core.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest
from typer.testing import CliRunner

from benchmarks.commands import at_least, parser_of
from benchmarks.progress import watched
from benchmarks.verdict.simulated_tables import (
    KINDS,
    MIN_EFFECT,
    SEEDS,
    TRUTHS,
    Kind,
    Simulated,
    simulated,
    simulated_keeps,
    written,
)
from sweeps.analysis.attribution import CandidateWord
from sweeps.cli import app
from sweeps.tables import as_json
from sweeps.tables.keeps import keep_log
from sweeps.tables.ruling import ArmRuling, Ruling, rule
from sweeps.tables.runs import runs_of

FILES = 20
"""every how many tables one is given to the command as a file"""
REPEATS, KEEP_GAINS = (0, 2, 4, 8), (0.0, 2.0, 4.0, 8.0)
ROUNDING = 1e-9


@dataclass
class Tally:
    """Events among trials."""

    hits: int = 0
    n: int = 0

    def add(self, hit: bool) -> None:
        """Count one trial."""
        self.hits += hit
        self.n += 1

    def shares(self) -> dict[str, Any] | None:
        """Return the share with Wilson's 95 % interval; None of no trials."""
        if not self.n:
            return None
        interval = binomtest(self.hits, self.n).proportion_ci(method="wilson")
        return {"share": self.hits / self.n, "ci": [interval.low, interval.high], "n": self.n}


@dataclass(kw_only=True)
class Score:
    """What is counted of one kind of table."""

    false: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """by truth"""
    wrong_direction: Tally = field(default_factory=Tally)
    """changes with a gain that are said to be worse, or with a loss that are said to be better"""
    covered: dict[int, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """by seeds"""
    unbounded: Tally = field(default_factory=Tally)
    equal: Tally = field(default_factory=Tally)
    power: dict[tuple[int, int], Tally] = field(default_factory=lambda: defaultdict(Tally))
    """by multiple of the least effect, and seeds"""
    luck: list[tuple[float, float]] = field(default_factory=list)
    """of null tables: how far the best single run lies below its arm's mean, and what was expected"""
    told: list[tuple[float, float]] = field(default_factory=list)
    """of changes that are shown: the gain that is told, and the true one"""

    def add(self, table: Simulated, ruling: Ruling, truth: str) -> None:
        """Count a table."""
        self.false[truth].add(any(is_false(arm, table) for arm in ruling.arms))
        for arm in (arm for arm in ruling.arms if arm.arm in table.means):
            gain = table.gains[arm.arm]
            if arm.effect is None or arm.effect.low is None or arm.effect.high is None:
                self.unbounded.add(True)
            else:
                self.unbounded.add(False)
                self.covered[table.seeds].add(arm.effect.low <= gain <= arm.effect.high)
            opposite = CandidateWord.WRONG if gain > 0 else CandidateWord.RIGHT
            if gain and arm.arm != table.diverging:
                self.wrong_direction.add(arm.word is opposite)
            if abs(gain) >= MIN_EFFECT - ROUNDING:
                self.equal.add(arm.word is CandidateWord.NO_EFFECT)
            multiple = round(gain / MIN_EFFECT)
            if truth == "real" and multiple in (2, 4) and arm.arm != table.diverging:
                self.power[multiple, table.seeds].add(arm.word is CandidateWord.RIGHT)
                if arm.word is CandidateWord.RIGHT and arm.effect is not None:
                    self.told.append((arm.effect.mean, gain))
        luck = ruling.luck
        if truth == "null" and luck is not None and luck.expected is not None and luck.arm in table.means:
            self.luck.append((table.means[luck.arm] - luck.loss, luck.expected))


def is_false(arm: ArmRuling, table: Simulated) -> bool:
    """Whether what is said of an arm claims an effect that isn't there."""
    gain = table.gains[arm.arm]
    if arm.word is CandidateWord.RIGHT:
        return gain <= MIN_EFFECT + ROUNDING
    return arm.word is CandidateWord.WRONG and arm.arm != table.diverging and gain >= -MIN_EFFECT - ROUNDING


def ruled(table: Simulated) -> Ruling:
    """Rule on a table as the command does."""
    return rule(runs_of(table.table), min_effect=MIN_EFFECT)


def as_file(table: Simulated, folder: Path) -> dict[str, Any]:
    """Return what the command prints of the table as a file."""
    path = folder / table.table.path.name
    written(table.table, path)
    result = CliRunner().invoke(app, ["judge", str(path), "--json", "--min-effect", str(MIN_EFFECT)])
    return dict(json.loads(result.stdout))


def measure_kind(kind: Kind, *, tables: int, seed: int, folder: Path) -> dict[str, Any]:
    """Return what is measured of one kind of table. Raises AssertionError where a file is ruled on otherwise."""
    score, files = Score(), 0
    for truth in TRUTHS:
        rng = np.random.default_rng([seed, KINDS.index(kind), TRUTHS.index(truth)])
        for index in range(tables):
            table = simulated(kind, truth, index=index, rng=rng)
            ruling = ruled(table)
            score.add(table, ruling, truth)
            if index % FILES == 0:
                files += 1
                expected = json.loads(json.dumps(as_json.of_ruling(ruling)))
                assert as_file(table, folder) == expected, f"{kind.name}, {truth}, {index}"
    return {"kind": kind.name, "files": files, **shares_of(score)}


def shares_of(score: Score) -> dict[str, Any]:
    """Return the shares of a kind's counts."""
    covered = Tally(sum(t.hits for t in score.covered.values()), sum(t.n for t in score.covered.values()))
    told, true = (math.fsum(values) for values in zip(*score.told, strict=True)) if score.told else (0.0, 0.0)
    luck = [statistics.fmean(values) for values in zip(*score.luck, strict=True)] if score.luck else [None, None]
    return {
        "false_claims": {truth: tally.shares() for truth, tally in score.false.items()},
        "wrong_direction": score.wrong_direction.shares(),
        "coverage": covered.shares(),
        "coverage_by_seeds": {n: score.covered[n].shares() for n in SEEDS},
        "unbounded": score.unbounded.shares(),
        "equal_wrongly": score.equal.shares(),
        "power": {f"{multiple}x": {n: score.power[multiple, n].shares() for n in SEEDS} for multiple in (2, 4)},
        "best_run": {"truth": luck[0], "expected": luck[1]},
        "told_over_true": told / true if true else None,
    }


def measure_keeps(*, repeats: int, gain: float, noise: str, logs: int, seed: int) -> dict[str, Any]:
    """Return what is measured of logs of keeps."""
    rng = np.random.default_rng([seed, 99, repeats, int(gain), noise == "heavy"])
    with_false, false, true = Tally(), Tally(), Tally()
    for _ in range(logs):
        table, gains = simulated_keeps(rng, repeats=repeats, gain=gain, noise=noise)
        stands = {keep.row: keep.stands for keep in keep_log(table).keeps}
        assert stands.keys() == gains.keys()
        with_false.add(any(stands[row] for row, true_gain in gains.items() if not true_gain))
        for row, true_gain in gains.items():
            (true if true_gain else false).add(stands[row])
    return {
        "repeats": repeats,
        "gain": gain,
        "noise": noise,
        "logs_with_a_false_keep_that_stands": with_false.shares(),
        "false_keeps_that_stand": false.shares(),
        "true_keeps_that_stand": true.shares(),
    }


def measure(kinds: Sequence[Kind], *, tables: int, seed: int) -> dict[str, Any]:
    """Return all that is measured."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measure_kind(kind, tables=tables, seed=seed, folder=Path(folder))
            for kind in watched(kinds, len(kinds), noun="kinds of table")
        ]
    keeps = [
        measure_keeps(repeats=repeats, gain=gain, noise=noise, logs=tables, seed=seed)
        for noise in ("normal", "heavy")
        for repeats in REPEATS
        for gain in KEEP_GAINS
    ]
    return {"tables": rows, "keeps": keeps}


def table_of(measured: dict[str, Any]) -> str:
    """Return the measures as text."""
    lines = [f"{'kind':28}{'false: null':>22}{'edge':>22}{'real':>22}{'coverage':>22}   by seeds"]
    for row in measured["tables"]:
        false = "".join(f"{_share(row['false_claims'][truth]):>22}" for truth in TRUTHS)
        by_seeds = " ".join(_share(row["coverage_by_seeds"][n], short=True) for n in SEEDS)
        lines.append(f"{row['kind']:28}{false}{_share(row['coverage']):>22}   {by_seeds}")
    lines += ["", f"{'kind':28}{'equal wrongly':>22}{'wrong direction':>22}   power at 2x, 4x on {SEEDS} seeds"]
    for row in measured["tables"]:
        power = "  ".join(
            " ".join(_share(row["power"][multiple][n], short=True) for n in SEEDS) for multiple in ("2x", "4x")
        )
        lines.append(
            f"{row['kind']:28}{_share(row['equal_wrongly']):>22}{_share(row['wrong_direction']):>22}   {power}"
        )
    lines += ["", f"{'kind':28}{'best run: too low by':>22}{'expected':>10}{'told / true gain':>20}{'unbounded':>12}"]
    for row in measured["tables"]:
        best = row["best_run"]
        numbers = [best["truth"], best["expected"], row["told_over_true"]]
        truth, expected, told = ("-" if number is None else f"{number:.3f}" for number in numbers)
        lines.append(f"{row['kind']:28}{truth:>22}{expected:>10}{told:>20}{_share(row['unbounded'], short=True):>12}")
    lines += ["", f"{'log of keeps':28}{'logs with a false one':>24}{'false keeps':>22}{'true keeps':>22}"]
    for row in measured["keeps"]:
        name = f"{row['noise']}, {row['repeats']} repeats, {row['gain']:g} sd"
        lines.append(
            f"{name:28}{_share(row['logs_with_a_false_keep_that_stands']):>24}"
            f"{_share(row['false_keeps_that_stand']):>22}{_share(row['true_keeps_that_stand']):>22}"
        )
    files = sum(row["files"] for row in measured["tables"])
    lines += ["", f"{files} tables were given to the command as files, and ruled on the same."]
    return "\n".join(lines)


def _share(shares: dict[str, Any] | None, *, short: bool = False) -> str:
    if shares is None:
        return "-"
    if short:
        return f"{shares['share']:.3f}"
    low, high = shares["ci"]
    return f"{shares['share']:.3f} [{low:.3f}, {high:.3f}]"


def main(arguments: Iterable[str] | None = None) -> None:
    """Print what is measured."""
    parser = parser_of(__doc__)
    parser.add_argument("--tables", type=at_least(1), default=1600, help="tables per kind and truth (default 1600)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the simulation (default 0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(None if arguments is None else list(arguments))
    measured = measure(KINDS, tables=options.tables, seed=options.seed)
    print(json.dumps(measured, indent=1) if options.json else table_of(measured))


if __name__ == "__main__":
    main()
