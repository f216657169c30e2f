"""The same budget of seconds: `sweep run` beside Optuna as people use it today, and Ray Tune where it is installed.

    python -m benchmarks.speed.sweep_vs_optuna --work DIR [--budget 150] [--seeds 3] [--systems plateau,median] [--json]

All search the space of benchmarks/sweep_vs_optuna.yaml on the same tokens, two trials at a time on a thread each, with
the same iterations, schedule, initial weights' distribution and evaluations (so many windows, so often).

- plateau: the command `sweep run`, no confirming runs; interrupted when the budget is over.
- median, hyperband: TPESampler() with MedianPruner() or HyperbandPruner() as they come, study.optimize(n_jobs=2) over
  SQLite, a training script in nanoGPT's manner (benchmarks/speed/plain_train.py) started for each trial, its stdout
  read.
- asha: Ray Tune's ASHAScheduler and its random search, the same training in Ray's own processes; needs `ray[tune]`.

The budget begins with the command's start; tokens are prepared before. Trials that have no final loss when it is over
don't count; a report is written after it. Scored, a seed at a time: `full`, the loss of each one's best configuration,
by its last weights, on all validation windows by one evaluator; and the seconds until ours had a trial with a final
loss as low as the peer's best one was in the end, and the other way round (`none`: not within the budget). Final losses
are as each was told: of ours on fixed windows, of the peers' on as many random ones.

What has ended lies in DIR, a file a system and seed, and isn't run again. Three seeds of three systems of 150 s take 25
minutes; nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed import plain_sweep, plain_train
from benchmarks.speed.throughput import PlainGPT
from sweeps.paths import StudyPaths
from trainer.atomic import write_text
from trainer.config import TrainConfig
from trainer.model.gpt import GPT
from trainer.run import checkpoint

ROOT = Path(__file__).parents[2]
STUDY = Path(__file__).with_suffix(".yaml")
OURS = "plateau"
SYSTEMS = (OURS, "median", "hyperband", "asha")
WORKERS = 2
SEED = 1337
"""of the first round; the next has one more"""
TRIAL_SECONDS = 5.0
"""a trial of ours takes at least, pruned ones counted: how many a study says it will have"""
BATCH = 64
"""windows at once in the evaluator"""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial that has a final loss."""

    seconds: float
    """from the start of the budget"""
    loss: float
    """nats a token, as told"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """One system's sweep on one seed."""

    system: str
    seed: int
    budget: float
    trials: tuple[Trial, ...]
    """complete ones within the budget, in the order they ended"""
    started: int
    pruned: int
    full: float
    """the best one's loss on all validation windows, nats a token"""

    @property
    def best(self) -> float:
        """The lowest final loss, as told."""
        return min((trial.loss for trial in self.trials), default=math.inf)

    def seconds_to(self, loss: float) -> float | None:
        """When it first had a final loss as low; None: not within the budget."""
        return min((trial.seconds for trial in self.trials if trial.loss <= loss), default=None)


# ours


def ours(seed: int, data: Path, out: Path, *, budget: float) -> Ended:
    """Run the command `sweep`, interrupted when the budget is over."""
    trials = math.ceil(WORKERS * budget / TRIAL_SECONDS)
    devices = ", ".join(["cpu"] * WORKERS)
    settings = (f"seed={seed}", f"trials={trials}", f"workers.devices=[{devices}]")
    options = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "sweeps", "run", str(STUDY), *options, "--data", str(data), "--out", str(out)]
    began = time.time()
    with subprocess.Popen([*command, "--json"], cwd=ROOT, stdout=subprocess.DEVNULL) as process:  # noqa: S603  # our own
        try:
            process.wait(budget)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
    if process.returncode not in (0, 130):
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    paths = StudyPaths(out)
    with sqlite3.connect(paths.store) as connection:
        rows = connection.execute("SELECT id, outcome, val_loss, finished FROM run ORDER BY finished").fetchall()
    complete = [
        (run, Trial(seconds=datetime.fromisoformat(finished).timestamp() - began, loss=loss))
        for run, outcome, loss, finished in rows
        if outcome == "complete"
    ]
    within = [(run, trial) for run, trial in complete if trial.seconds <= budget + 1]  # it is kept in whole seconds
    return Ended(
        system=OURS,
        seed=seed,
        budget=budget,
        trials=tuple(trial for _, trial in within),
        started=len(rows),
        pruned=sum(outcome == "pruned" for _, outcome, _, _ in rows),
        full=loss_of_run(paths, min(complete, key=lambda each: each[1].loss)[0], data) if complete else math.inf,
    )


def loss_of_run(paths: StudyPaths, run: int, data: Path) -> float:
    """The full loss of a run of ours, whose checkpoint the sweep keeps while it is the best."""
    found = checkpoint.load(paths.run(run))
    assert found is not None
    assert found.state is not None
    config = TrainConfig.from_mapping(found.state["settings"])
    model = GPT(config)
    model.load_state_dict(found.model)
    return full_loss(model, data, config)


# the peers


def peer(system: str, seed: int, data: Path, out: Path, *, budget: float) -> Ended:
    """Run a peer's sweep in a process of its own."""
    module = "benchmarks.speed.ray_sweep" if system == "asha" else "benchmarks.speed.plain_sweep"
    options = ["--pruner", system] if system != "asha" else []
    sizes = ["--seed", str(seed), "--budget", str(budget), "--began", str(time.time())]
    command = [sys.executable, "-m", module, str(STUDY), str(data), str(out), *options, *sizes]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # our own
    told = json.loads((out / plain_sweep.TRIALS).read_text(encoding="utf-8"))
    complete = sorted((each for each in told if each["state"] == "complete"), key=lambda each: each["seconds"])
    trials = tuple(Trial(seconds=each["seconds"], loss=each["loss"]) for each in complete)
    full = math.inf
    if complete:
        folder = out / str(min(complete, key=lambda each: each["loss"])["number"])
        config = TrainConfig.from_mapping(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        model = PlainGPT(config)
        model.load_state_dict(torch.load(folder / plain_train.CHECKPOINT, weights_only=True))
        full = full_loss(model, data, config)
    return Ended(
        system=system,
        seed=seed,
        budget=budget,
        trials=trials,
        started=len(told),
        pruned=sum(each["state"] == "pruned" for each in told),
        full=full,
    )


# scoring


@torch.no_grad()
def full_loss(model: torch.nn.Module, data: Path, config: TrainConfig) -> float:
    """Mean loss on all windows of the validation split, one after the other, nats a token; the rest is left out."""
    tokens = np.fromfile(data / "val.bin", dtype=np.uint16).astype(np.int64)
    T = config.block_size
    windows = (len(tokens) - 1) // T
    x_NT = torch.from_numpy(tokens[: windows * T].reshape(windows, T))
    y_NT = torch.from_numpy(tokens[1 : windows * T + 1].reshape(windows, T))
    model.eval()
    sums = [
        len(x_BT) * model(x_BT, y_BT).item() for x_BT, y_BT in zip(x_NT.split(BATCH), y_NT.split(BATCH), strict=True)
    ]
    return float(math.fsum(sums) / windows)


def compare(ended: Sequence[Ended]) -> list[dict[str, Any]]:
    """A row a peer, over the seeds that both have: differences are ours less the peer's, nats."""
    mine = {each.seed: each for each in ended if each.system == OURS}
    rows = []
    for system in dict.fromkeys(each.system for each in ended if each.system != OURS):
        pairs = [(mine[each.seed], each) for each in ended if each.system == system and each.seed in mine]
        if not pairs:
            continue
        differences = [one.full - other.full for one, other in pairs]
        rows.append(
            {
                "peer": system,
                "seeds": [one.seed for one, _ in pairs],
                "ours_full": [one.full for one, _ in pairs],
                "peer_full": [other.full for _, other in pairs],
                "difference": differences,
                "mean_difference": statistics.fmean(differences),
                "ours_to_peers_best": [one.seconds_to(other.best) for one, other in pairs],
                "peer_to_its_best": [other.seconds_to(other.best) for _, other in pairs],
                "peer_to_ours_best": [other.seconds_to(one.best) for one, other in pairs],
                "ours_to_its_best": [one.seconds_to(one.best) for one, _ in pairs],
            }
        )
    return rows


def table(ended: Sequence[Ended], skipped: Mapping[str, str]) -> str:
    heads = f"{'system':>10} {'seed':>5} {'budget':>7} {'started':>8} {'pruned':>7} {'complete':>9}"
    lines = [f"{heads} {'told':>7} {'full':>7}"]
    lines += [
        f"{each.system:>10} {each.seed:>5} {each.budget:>5.0f} s {each.started:>8} {each.pruned:>7} "
        f"{len(each.trials):>9} {each.best:>7.4f} {each.full:>7.4f}"
        for each in ended
    ]
    for row in compare(ended):
        lines.append(f"{OURS} and {row['peer']}: full loss differs by {row['mean_difference']:+.4f} in the mean")
        for at, seed in enumerate(row["seeds"]):
            lines.append(
                f"  seed {seed}: {row['difference'][at]:+.4f}; the peer's best after "
                f"{shown(row['peer_to_its_best'][at])}, ours as low after {shown(row['ours_to_peers_best'][at])}; "
                f"our best after {shown(row['ours_to_its_best'][at])}, the peer as low after "
                f"{shown(row['peer_to_ours_best'][at])}"
            )
    lines += [f"{system}: skipped, {why}" for system, why in skipped.items()]
    return "\n".join(lines)


def shown(seconds: float | None) -> str:
    return "none" if seconds is None else f"{seconds:.0f} s"


# all of it, in turns


def missing(system: str) -> str:
    """Why a system can't be run here; "" where it can."""
    if system == "asha" and importlib.util.find_spec("ray") is None:
        return "Ray is not installed (pip install 'ray[tune]')"
    return ""


def rounds(
    systems: Sequence[str],
    seeds: Sequence[int],
    work: Path,
    run: Callable[[str, int, Path], Ended],
) -> list[Ended]:
    """What each system ends with on each seed, taking turns; one that has a file in `work` is read from it."""
    ended = []
    tasks = [(seed, system) for seed in seeds for system in systems]
    for number, (seed, system) in enumerate(tasks, start=1):
        file = work / f"{system}-{seed}.json"
        if not file.exists():
            print(f"{number} of {len(tasks)}: {system}, seed {seed}", file=sys.stderr, flush=True)
            out = work / f"{system}-{seed}"
            shutil.rmtree(out, ignore_errors=True)  # one that was cut off had another budget
            write_text(file, json.dumps(asdict(run(system, seed, out))))
        found = json.loads(file.read_text(encoding="utf-8"))
        ended.append(Ended(**{**found, "trials": tuple(Trial(**trial) for trial in found["trials"])}))
    return ended


def prepared(work: Path) -> Path:
    """The folder of the tokens."""
    command = [sys.executable, "-m", "sweeps", "prepare", str(STUDY), "--out", str(work / "data"), "--json"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603  # our own
    return Path(json.loads(ended.stdout)["path"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where sweeps lie, and what has ended")
    parser.add_argument("--budget", type=float, default=150.0, metavar="SECONDS", help="of each sweep (default 150)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="rounds (default 3)")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help=f"of {', '.join(SYSTEMS)} (default all)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    wanted = options.systems.split(",")
    if unknown := sorted(set(wanted) - set(SYSTEMS)):
        parser.error(f"--systems: {', '.join(unknown)}: not among {', '.join(SYSTEMS)}")
    skipped = {system: why for system in wanted if (why := missing(system))}
    for system, why in skipped.items():
        print(f"{system}: skipped, {why}", file=sys.stderr, flush=True)
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    data = prepared(work)

    def run(system: str, seed: int, out: Path) -> Ended:
        if system == OURS:
            return ours(seed, data, out, budget=options.budget)
        return peer(system, seed, data, out, budget=options.budget)

    systems = [system for system in wanted if system not in skipped]
    ended = rounds(systems, range(SEED, SEED + options.seeds), work, run)
    if other := sorted({each.budget for each in ended} - {options.budget}):
        parser.error(f"--work: holds sweeps of {other[0]:g} seconds; name another folder, or --budget {other[0]:g}")
    if options.json:
        rows = [{**asdict(each), "best": each.best} for each in ended]
        print(json.dumps({"sweeps": rows, "peers": compare(ended), "skipped": skipped}))
    else:
        print(table(ended, skipped))


if __name__ == "__main__":
    main()
