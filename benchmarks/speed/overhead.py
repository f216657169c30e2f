"""What a sweep costs beside training: of its workers' time, and of its parent's with a thousand trials in the store.

    python -m benchmarks.speed.overhead [--only sweep|parent] [--trials 12] [--stored 1000] [--json]

Two measurements.

- `sweep`: the command `sweep run` on studies/plateau.yaml's cpu profile, --trials of the search of --iters iterations
  (twenty seconds each on this machine), two workers, the report written. The share of all worker-seconds, which are
  the seconds from the command's start to its end times the workers, that were neither training steps nor evaluations
  (the large one at a run's end is one). What it went to: before the first run (imports, data, the workers' start), in
  runs (initial weights, checkpoints, files), waiting for answers, between runs, at the end (one worker waits for the
  other; the report; processes that end). The ends are paid once a sweep, so `steady` is the share without them: what
  a longer sweep tends to.
- `parent`: the real loop, agenda, trials and SQLite store, with --stored trials in it, and workers that pretend to
  train (benchmarks/speed/driver_load.py; curves from the surrogate of a bank): wall and processor's milliseconds of
  the parent a
  trial of 20 evaluations, by what they went to, and how long workers wait for an answer. Simulated workers evaluate
  every --seconds, so the parent meets two reports at once as seldom or often as in a real sweep. Once more with
  pruning off, since a trial that is pruned has fewer reports.

Targets: share at most 2 %, parent at most 100 ms a trial, 95th percentile of a wait at most 50 ms. Two minutes for each
on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.timed_sweep import FOLDER, Spell, spells

ROOT = Path(__file__).parents[2]
BANK = ROOT / "benchmarks" / "pruning" / "bank_python.parquet"
SHARE, PARENT_MS, WAIT_MS = 0.02, 100.0, 50.0
"""targets"""
WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """Where the worker-seconds of a sweep went; all but `wall` are sums over the workers."""

    workers: int
    runs: int
    wall: float
    """seconds from the command's start to its end"""
    steps: float
    evaluations: float
    start: float
    """before the first run"""
    inside: float
    """in runs, beside all else"""
    waiting: float
    """for answers"""
    between: float
    """from a run's end to the next one's start"""
    end: float
    """after each worker's last run"""

    @property
    def share(self) -> float:
        """Of all worker-seconds, that which is neither steps nor evaluations."""
        return 1 - (self.steps + self.evaluations) / (self.wall * self.workers)

    @property
    def steady(self) -> float:
        """The same without the start and the end."""
        busy = self.steps + self.evaluations
        return 1 - busy / (busy + self.inside + self.waiting + self.between)


def overhead(found: Sequence[Spell], *, began: float, ended: float, workers: int) -> Overhead:
    """The account of a sweep whose command ran from `began` to `ended`, by time.time().

    Runs are given to workers as the sweep did: each to the one that has been idle longest. Every worker has had one.
    """
    start = between = 0.0
    free: list[float] = []
    for spell in sorted(found, key=lambda spell: spell.began):
        idle = [at for at in free if at <= spell.began]
        if len(free) < workers and not idle:
            start += spell.began - began
        else:
            since = min(idle)
            free.remove(since)
            between += spell.began - since
        free.append(spell.ended)
    start += (workers - len(free)) * (ended - began)
    busy = sum(spell.steps + spell.evaluations for spell in found)
    waiting = sum(sum(spell.waits) for spell in found)
    return Overhead(
        workers=workers,
        runs=len(found),
        wall=ended - began,
        steps=sum(spell.steps for spell in found),
        evaluations=sum(spell.evaluations for spell in found),
        start=start,
        inside=sum(spell.ended - spell.began for spell in found) - busy - waiting,
        waiting=waiting,
        between=between,
        end=sum(ended - at for at in free),
    )


def real_sweep(folder: Path, *, trials: int, iters: int) -> tuple[Overhead, list[float]]:
    """Run a sweep by its command; the account, and the seconds of every wait for an answer."""
    notes = folder / "spells"
    notes.mkdir(parents=True)
    settings = (f"horizon.iters={iters}", f"trials={trials}", "baseline_seeds=1", "confirm.max_trials=0")
    options = [word for setting in settings for word in ("--set", setting)]
    devices = ["--set", f"workers.devices=[{', '.join(['cpu'] * WORKERS)}]"]
    study = [str(ROOT / "studies" / "plateau.yaml"), "--profile", "cpu", "--out", str(folder / "sweep"), "--json"]
    command = [sys.executable, "-m", "benchmarks.speed.timed_sweep"]
    environment = {**os.environ, FOLDER: str(notes)}
    print("preparing the data, then a sweep", file=sys.stderr, flush=True)
    prepared = [*command, "prepare", *study[:5], *options]
    subprocess.run(prepared, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)  # noqa: S603  # our own
    began = time.time()
    subprocess.run(  # noqa: S603  # our own
        [*command, "run", *study, *options, *devices], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    found = list(spells(notes))
    waits = [wait for spell in found for wait in spell.waits]
    return overhead(found, began=began, ended=time.time(), workers=WORKERS), waits


def parents(folder: Path, *, stored: int, trials: int, workers: int, seconds: float) -> dict[str, Any]:
    """The parent's load with the study's own pruner, and with none."""
    import optuna

    from benchmarks.pruning import curve_banks
    from benchmarks.pruning.surrogate import Surrogate
    from benchmarks.speed import driver_load
    from sweeps.study import space
    from sweeps.study.load import load
    from sweeps.study.sections import NoPruning, PlateauPruning

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    bank = load(BANK.with_name("record_bank.yaml"), devices_have_cuda=False)
    surrogate = Surrogate.fit(curve_banks.read(BANK), space.distributions(bank))
    study = bank.model_copy(
        update={
            "evaluations": 20,
            "sampler": bank.sampler.model_copy(update={"type": "tpe"}),
            "confirm": bank.confirm.model_copy(update={"max_trials": 0}),
        }
    )
    found = {}
    for pruner in (PlateauPruning(type="plateau"), NoPruning(type="none")):
        print(f"parent: {stored} trials in a store, pruner {pruner.type}", file=sys.stderr, flush=True)
        settings = study.model_copy(update={"pruner": pruner})
        found[pruner.type] = driver_load.as_dict(
            driver_load.load(
                settings,
                folder / pruner.type,
                driver_load.curves(settings, surrogate),
                stored=stored,
                trials=trials,
                workers=workers,
                seconds=seconds,
            )
        )
    return found


def sweep_lines(found: Mapping[str, Any]) -> list[str]:
    total = found["wall"] * found["workers"]
    rows = ("steps", "evaluations", "start", "inside", "waiting", "between", "end")
    lines = [
        f"a sweep of {found['runs']} runs on {found['workers']} workers, {found['wall']:.1f} s: "
        f"{found['share']:.2%} of {total:.0f} worker-seconds are neither steps nor evaluations, "
        f"{found['steady']:.2%} without start and end ({met(found['share'], SHARE)}: at most {SHARE:.0%})"
    ]
    lines += [f"  {name:>12} {found[name]:9.2f} s {found[name] / total:8.2%}" for name in rows]
    waits = found["answers"]
    lines.append(
        f"  an answer takes {waits['median']:.1f} ms, {waits['p95']:.1f} at the 95th percentile, "
        f"{waits['longest']:.0f} at most ({met(waits['p95'], WAIT_MS)}: at most {WAIT_MS:.0f})"
    )
    return lines


def parent_lines(pruner: str, found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"parent, pruner {pruner}, {found['stored']} trials stored, then {found['trials']} of "
        f"{found['reports']:.1f} reports: {found['wall']:.1f} ms a trial, {found['cpu']:.1f} of the processor's "
        f"({met(found['wall'], PARENT_MS)}: at most {PARENT_MS:.0f}); taking up the store {found['opened']:.1f} s"
    ]
    lines += [f"  {name:>15} {value:8.2f} ms" for name, value in found["parts"].items()]
    for name, row in (("an answer", found["answers"]), ("the next run", found["jobs"])):
        figures = ", ".join(f"{value:.1f} {which}" for which, value in row.items())
        lines.append(f"  a worker waits for {name}, ms: {figures}")
    lines.append(f"  answers: {met(found['answers']['p95'], WAIT_MS)}: 95th percentile at most {WAIT_MS:.0f} ms")
    return lines


def met(value: float, target: float) -> str:
    return "met" if value <= target else "MISSED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("sweep", "parent"), help="one of the two measurements")
    parser.add_argument("--trials", type=int, default=12, help="of the real sweep's search (default 12)")
    parser.add_argument("--iters", type=int, default=1000, help="of each of them (default 1000)")
    parser.add_argument("--stored", type=int, default=1000, help="trials in the parent's store (default 1000)")
    parser.add_argument("--more", type=int, default=40, help="trials that the parent then runs (default 40)")
    parser.add_argument("--workers", type=int, default=WORKERS, help="that pretend to train (default 2)")
    parser.add_argument("--seconds", type=float, default=1.0, help="between their evaluations (default 1)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        if options.only != "parent":
            from benchmarks.speed.driver_load import spread

            account, waits = real_sweep(Path(folder) / "real", trials=options.trials, iters=options.iters)
            shares = {"share": account.share, "steady": account.steady}
            found["sweep"] = {**asdict(account), **shares, "answers": spread(waits)}
        if options.only != "sweep":
            sizes = {"stored": options.stored, "trials": options.more, "workers": options.workers}
            found["parent"] = parents(Path(folder) / "parent", **sizes, seconds=options.seconds)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    lines = sweep_lines(found["sweep"]) if "sweep" in found else []
    for pruner, row in found.get("parent", {}).items():
        lines += parent_lines(pruner, row)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
