"""The overhead of a sweep: its workers' time beside training, and its driver's time with a thousand stored trials.

    python -m benchmarks.speed.overhead [--only sweep|driver] [--trials 12] [--stored 1000] [--json]

There are two measurements.

- `sweep`: the command `sweep run` on the cpu profile of studies/scratch.yaml, with --trials trials of --iters
  iterations (twenty seconds each on this machine), two workers, and the report. Worker-seconds are the seconds from the
  command's start to its end times the number of workers. The result is the share of them that were neither training
  steps nor evaluations (including the large one at a run's end). It is split into the time before the first run
  (imports, data, start of the workers), in runs (initial weights, checkpoints, files), waiting for answers, between
  runs, and at the end (one worker waits for the other, the report, the end of processes). Start and end are paid once
  per sweep, so `steady` is the share without them. A longer sweep tends to it.
- `driver`: the real loop, agenda, trials and SQLite store with --stored trials, and workers that only simulate training
  (benchmarks/speed/driver_load.py; curves from the surrogate of a bank). The result is the driver's wall and CPU
  milliseconds per trial of 20 evaluations, by what they were spent on, and how long workers wait for an answer.
  Simulated workers evaluate every --seconds, so the driver gets two reports at once about as often as in a real sweep.
  It is measured again with pruning off, because a pruned trial has fewer reports.

Targets: a share of at most 2 %, at most 100 ms of the driver per trial, a 95th percentile of waits of at most 50 ms.
Two minutes for each measurement on an idle machine.
"""

from __future__ import annotations

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

from benchmarks.commands import ROOT, argument_errors, at_least, parser_of, positive, set_options
from benchmarks.speed.timed_sweep import FOLDER_VARIABLE, Spell, spells
from sweeps.study.load import load
from sweeps.study.study import Study

BANK = ROOT / "benchmarks" / "pruning" / "bank_python.parquet"
STUDY_OPTIONS = (str(ROOT / "studies" / "scratch.yaml"), "--profile", "cpu")
SHARE_TARGET, DRIVER_MS_TARGET, WAIT_MS_TARGET = 0.02, 100.0, 50.0
SWEEP_WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class WorkerSeconds:
    """The worker-seconds of a sweep by what they were spent on. All but `wall` are sums over the workers."""

    workers: int
    runs: int
    wall: float
    """seconds from the command's start to its end"""
    steps: float
    evaluations: float
    start: float
    """before the first run"""
    inside: float
    """in runs, without steps, evaluations and waits"""
    waiting: float
    """waiting for answers"""
    between: float
    """from a run's end to the start of the next"""
    end: float
    """after each worker's last run"""

    @property
    def share(self) -> float:
        """The share of all worker-seconds that were neither steps nor evaluations."""
        return 1 - (self.steps + self.evaluations) / (self.wall * self.workers)

    @property
    def steady(self) -> float:
        """The same share without the start and the end."""
        busy = self.steps + self.evaluations
        return 1 - busy / (busy + self.inside + self.waiting + self.between)


def worker_seconds(runs: Sequence[Spell], *, began: float, ended: float, workers: int) -> WorkerSeconds:
    """Account for a sweep whose command ran from `began` to `ended`, by time.time().

    Runs are assigned to workers as in the sweep: each to the worker that has been idle longest, after every worker has
    had a run.
    """
    start = between = 0.0
    free: list[float] = []  # since when each idle worker has been idle
    for run in sorted(runs, key=lambda run: run.began):
        idle = [since for since in free if since <= run.began]
        if len(free) < workers and not idle:
            start += run.began - began
        else:
            longest_idle = min(idle)
            free.remove(longest_idle)
            between += run.began - longest_idle
        free.append(run.ended)
    start += (workers - len(free)) * (ended - began)
    busy = sum(run.steps + run.evaluations for run in runs)
    waiting = sum(sum(run.waits) for run in runs)
    return WorkerSeconds(
        workers=workers,
        runs=len(runs),
        wall=ended - began,
        steps=sum(run.steps for run in runs),
        evaluations=sum(run.evaluations for run in runs),
        start=start,
        inside=sum(run.ended - run.began for run in runs) - busy - waiting,
        waiting=waiting,
        between=between,
        end=sum(ended - since for since in free),
    )


def sweep_settings(*, trials: int, iters: int) -> tuple[str, ...]:
    """Return the settings of the real sweep. All trials have the baseline's batch, and so equally many steps."""
    few = "baseline_seeds=1", "confirm.max_trials=0", "knobs.batch_size=null"
    return f"horizon.iters={iters}", f"trials={trials}", *few


def real_sweep(folder: Path, *, settings: Sequence[str]) -> tuple[WorkerSeconds, list[float]]:
    """Run a sweep by its command; return its account, and the seconds of every wait for an answer."""
    notes = folder / "spells"
    notes.mkdir(parents=True)
    options = [*STUDY_OPTIONS, "--out", str(folder / "sweep"), *set_options(settings)]
    devices = set_options([f"workers.devices=[{', '.join(['cpu'] * SWEEP_WORKERS)}]"])
    command = [sys.executable, "-m", "benchmarks.speed.timed_sweep"]
    environment = {**os.environ, FOLDER_VARIABLE: str(notes)}
    print("preparing the data, then running a sweep", file=sys.stderr, flush=True)
    subprocess.run(  # noqa: S603  # our own
        [*command, "prepare", *options], cwd=ROOT, env=environment, check=True, stdout=sys.stderr
    )
    began = time.time()
    subprocess.run(  # noqa: S603  # our own
        [*command, "run", *options, "--json", *devices],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    runs = list(spells(notes))
    waits = [wait for run in runs for wait in run.waits]
    return worker_seconds(runs, began=began, ended=time.time(), workers=SWEEP_WORKERS), waits


def driver_loads(folder: Path, *, stored: int, trials: int, workers: int, seconds: float) -> dict[str, Any]:
    """Measure the driver with the plateau pruner and without pruning."""
    import optuna

    from benchmarks.pruning import curve_banks
    from benchmarks.pruning.surrogate import Surrogate
    from benchmarks.speed import driver_load
    from sweeps.study import space
    from sweeps.study.sections import NoPruning, PlateauPruning

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    bank_study = load(BANK.with_name("record_bank.yaml"), devices_have_cuda=False)
    surrogate = Surrogate.fit(curve_banks.read(BANK), space.distributions(bank_study))
    base: Study = bank_study.model_copy(
        update={
            "evaluations": 20,
            "sampler": bank_study.sampler.model_copy(update={"type": "tpe"}),
            "confirm": bank_study.confirm.model_copy(update={"max_trials": 0}),
        }
    )
    loads: dict[str, Any] = {}
    for pruner in (PlateauPruning(type="plateau"), NoPruning(type="none")):
        print(f"driver: {stored} trials in a store, pruner {pruner.type}", file=sys.stderr, flush=True)
        study = base.model_copy(update={"pruner": pruner})
        loads[pruner.type] = asdict(
            driver_load.measure(
                study,
                folder / pruner.type,
                driver_load.curves(study, surrogate),
                stored=stored,
                trials=trials,
                workers=workers,
                seconds=seconds,
            )
        )
    return loads


def sweep_lines(account: Mapping[str, Any]) -> list[str]:
    """Describe a sweep's worker-seconds and waits."""
    total = account["wall"] * account["workers"]
    parts = ("steps", "evaluations", "start", "inside", "waiting", "between", "end")
    lines = [
        f"a sweep of {account['runs']} runs on {account['workers']} workers, {account['wall']:.1f} s: "
        f"{account['share']:.2%} of {total:.0f} worker-seconds are neither steps nor evaluations, "
        f"{account['steady']:.2%} without start and end "
        f"({met(account['share'], SHARE_TARGET)}: at most {SHARE_TARGET:.0%})"
    ]
    lines += [f"  {name:>12} {account[name]:9.2f} s {account[name] / total:8.2%}" for name in parts]
    waits = account["answers"]
    lines.append(
        f"  an answer takes {waits['median']:.1f} ms, {waits['p95']:.1f} at the 95th percentile, "
        f"{waits['longest']:.0f} at most ({met(waits['p95'], WAIT_MS_TARGET)}: at most {WAIT_MS_TARGET:.0f})"
    )
    return lines


def driver_lines(pruner: str, load: Mapping[str, Any]) -> list[str]:
    """Describe the driver's milliseconds per trial, and the waits that it causes."""
    lines = [
        f"driver, pruner {pruner}, {load['stored']} trials stored, then {load['trials']} of "
        f"{load['reports']:.1f} reports: {load['wall']:.1f} ms per trial, {load['cpu']:.1f} of CPU time "
        f"({met(load['wall'], DRIVER_MS_TARGET)}: at most {DRIVER_MS_TARGET:.0f}); "
        f"opening the store {load['opened']:.1f} s"
    ]
    lines += [f"  {name:>15} {value:8.2f} ms" for name, value in load["parts"].items()]
    for name, waits in (("an answer", load["answers"]), ("the next run", load["jobs"])):
        figures = ", ".join(f"{value:.1f} {which}" for which, value in waits.items())
        lines.append(f"  a worker waits for {name}, ms: {figures}")
    answers_met = met(load["answers"]["p95"], WAIT_MS_TARGET)
    lines.append(f"  answers: {answers_met}: 95th percentile at most {WAIT_MS_TARGET:.0f} ms")
    return lines


def met(value: float, target: float) -> str:
    """Say whether a value is within its target."""
    return "met" if value <= target else "MISSED"


def main() -> None:
    """Run the measurements and print them."""
    parser = parser_of(__doc__)
    parser.add_argument("--only", choices=("sweep", "driver"), help="run one measurement (default both)")
    parser.add_argument("--trials", type=at_least(1), default=12, help="trials of the real sweep (default 12)")
    parser.add_argument("--iters", type=at_least(1), default=1000, help="iterations per trial of it (default 1000)")
    parser.add_argument("--stored", type=at_least(0), default=1000, help="trials in the driver's store (default 1000)")
    parser.add_argument("--more", type=at_least(1), default=40, help="trials that the driver then runs (default 40)")
    parser.add_argument(
        "--workers", type=at_least(1), default=SWEEP_WORKERS, help="workers that simulate training (default 2)"
    )
    parser.add_argument(
        "--seconds", type=positive, default=1.0, help="seconds between a worker's evaluations (default 1)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    options = parser.parse_args()
    settings = sweep_settings(trials=options.trials, iters=options.iters)
    with argument_errors(parser):  # a study that can't run is found before its data are prepared
        load(Path(STUDY_OPTIONS[0]), profile="cpu", overrides=settings, devices_have_cuda=False)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        if options.only != "driver":
            from benchmarks.speed.driver_load import spread

            account, waits = real_sweep(Path(folder) / "real", settings=settings)
            shares = {"share": account.share, "steady": account.steady}
            figures["sweep"] = {**asdict(account), **shares, "answers": spread(waits)}
        if options.only != "sweep":
            sizes = {"stored": options.stored, "trials": options.more, "workers": options.workers}
            figures["driver"] = driver_loads(Path(folder) / "driver", **sizes, seconds=options.seconds)
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    lines = sweep_lines(figures["sweep"]) if "sweep" in figures else []
    for pruner, row in figures.get("driver", {}).items():
        lines += driver_lines(pruner, row)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
