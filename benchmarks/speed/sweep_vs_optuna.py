"""The same budget of seconds for `sweep run`, for Optuna as people use it today, and for Ray Tune if it is installed.

    python -m benchmarks.speed.sweep_vs_optuna --work DIR [--budget 150] [--seeds 3] [--systems plateau,median] [--json]

All systems search the space of benchmarks/speed/sweep_vs_optuna.yaml on the same tokens, two trials at a time with one
thread each. Iterations, schedule, distribution of initial weights, and the number and size of evaluations are equal.

- plateau: the command `sweep run` without confirming runs, interrupted when the budget is over.
- median, hyperband: TPESampler() with MedianPruner() or HyperbandPruner() at their defaults, study.optimize(n_jobs=2)
  over SQLite. For each trial a training script in nanoGPT's manner (benchmarks/speed/plain_train.py) is started and its
  stdout read.
- asha: Ray Tune's ASHAScheduler with its random search, the same training in Ray's own processes; needs `ray[tune]`.

The budget begins when the command starts; tokens are prepared before. Trials without a final loss when the budget is
over don't count. A report is written after it. Each seed is scored separately. `full` is the loss of a system's best
configuration, with its last weights, on all validation windows by one evaluator. Then come the seconds until this
project had a trial with a final loss as low as the peer's best of the whole budget, and the reverse (`none`: not within
the budget). Final losses are those that each system reported: this project's on fixed windows, the peers' on as many
random ones.

Ended sweeps lie in DIR, a file per system and seed, and aren't run again. Three seeds of three systems with 150 s each
take 25 minutes on an idle machine.
"""

from __future__ import annotations

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

from benchmarks.commands import ROOT, add_names, at_least, parser_of, positive, set_options
from benchmarks.speed.plain_gpt import PlainGPT
from benchmarks.speed.plain_sweep import TRIALS_AT_ONCE, TRIALS_FILE
from benchmarks.speed.plain_trial import CHECKPOINT, config_in
from benchmarks.speed.ray_sweep import missing_ray
from sweeps.paths import StudyPaths
from trainer.atomic import write_text
from trainer.config import TrainConfig
from trainer.model.gpt import GPT
from trainer.run import checkpoint

STUDY = Path(__file__).with_suffix(".yaml")
THIS_PROJECT = "plateau"
SYSTEMS = (THIS_PROJECT, "median", "hyperband", "asha")
FIRST_SEED = 1337
"""seed of the first round; each further round adds one"""
TRIAL_SECONDS = 5.0
"""lower bound on the mean time of this project's trials, pruned ones included; its study has trials for the budget"""
BATCH = 64
"""windows per batch of the evaluator"""


@dataclass(frozen=True, kw_only=True)
class TimedTrial:
    """A trial that has a final loss."""

    seconds: float
    """from the start of the budget"""
    loss: float
    """nats per token, as the system reported it"""


@dataclass(frozen=True, kw_only=True)
class EndedSweep:
    """One system's sweep on one seed."""

    system: str
    seed: int
    budget: float
    trials: tuple[TimedTrial, ...]
    """complete trials within the budget, in the order they ended"""
    started: int
    pruned: int
    full: float
    """loss of the best trial on all validation windows, nats per token"""

    @property
    def best(self) -> float:
        """The lowest final loss, as reported."""
        return min((trial.loss for trial in self.trials), default=math.inf)

    def seconds_to(self, loss: float) -> float | None:
        """Return when a final loss as low was first reached; None: not within the budget."""
        return min((trial.seconds for trial in self.trials if trial.loss <= loss), default=None)


# this project


def run_sweep(seed: int, data: Path, out: Path, *, budget: float) -> EndedSweep:
    """Run the command `sweep`, interrupted when the budget is over."""
    trials = math.ceil(TRIALS_AT_ONCE * budget / TRIAL_SECONDS)
    devices = ", ".join(["cpu"] * TRIALS_AT_ONCE)
    settings = (f"seed={seed}", f"trials={trials}", f"workers.devices=[{devices}]")
    command = [sys.executable, "-m", "sweeps", "run", str(STUDY), *set_options(settings)]
    command += ["--data", str(data), "--out", str(out), "--json"]
    began = time.time()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:  # noqa: S603  # our own
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
        (run, TimedTrial(seconds=datetime.fromisoformat(finished).timestamp() - began, loss=loss))
        for run, outcome, loss, finished in rows
        if outcome == "complete"
    ]
    within = [(run, trial) for run, trial in complete if trial.seconds <= budget + 1]  # the store has whole seconds
    full = math.inf
    if complete:
        best_run, _ = min(complete, key=lambda run_and_trial: run_and_trial[1].loss)
        full = loss_of_run(paths, best_run, data)
    return EndedSweep(
        system=THIS_PROJECT,
        seed=seed,
        budget=budget,
        trials=tuple(trial for _, trial in within),
        started=len(rows),
        pruned=sum(outcome == "pruned" for _, outcome, _, _ in rows),
        full=full,
    )


def loss_of_run(paths: StudyPaths, run: int, data: Path) -> float:
    """Return the full loss of a run of this project. The sweep keeps the checkpoint of its best run."""
    stored = checkpoint.load(paths.run(run))
    assert stored is not None
    assert stored.state is not None
    config = TrainConfig.from_mapping(stored.state["settings"])
    model = GPT(config)
    model.load_state_dict(stored.model)
    return full_loss(model, data, config)


# the peers


def run_peer(system: str, seed: int, data: Path, out: Path, *, budget: float) -> EndedSweep:
    """Run a peer's sweep in a process of its own."""
    module = "benchmarks.speed.ray_sweep" if system == "asha" else "benchmarks.speed.plain_sweep"
    options = ["--pruner", system] if system != "asha" else []
    sizes = ["--seed", str(seed), "--budget", str(budget), "--began", str(time.time())]
    command = [sys.executable, "-m", module, str(STUDY), str(data), str(out), *options, *sizes]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # our own
    endings = json.loads((out / TRIALS_FILE).read_text(encoding="utf-8"))
    complete = sorted((trial for trial in endings if trial["state"] == "complete"), key=lambda trial: trial["seconds"])
    trials = tuple(TimedTrial(seconds=trial["seconds"], loss=trial["loss"]) for trial in complete)
    full = math.inf
    if complete:
        folder = out / str(min(complete, key=lambda trial: trial["loss"])["number"])
        config = config_in(folder)
        model = PlainGPT(config)
        model.load_state_dict(torch.load(folder / CHECKPOINT, weights_only=True))
        full = full_loss(model, data, config)
    return EndedSweep(
        system=system,
        seed=seed,
        budget=budget,
        trials=trials,
        started=len(endings),
        pruned=sum(trial["state"] == "pruned" for trial in endings),
        full=full,
    )


# scoring


@torch.no_grad()
def full_loss(model: torch.nn.Module, data: Path, config: TrainConfig) -> float:
    """Return the mean loss on all whole windows of the validation split, one after the other, nats per token."""
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


def compare_systems(sweeps: Sequence[EndedSweep]) -> list[dict[str, Any]]:
    """Return a row per peer, over the seeds that both systems have. Differences are this project less the peer."""
    own_sweeps = {sweep.seed: sweep for sweep in sweeps if sweep.system == THIS_PROJECT}
    rows = []
    for system in dict.fromkeys(sweep.system for sweep in sweeps if sweep.system != THIS_PROJECT):
        pairs = [
            (own_sweeps[sweep.seed], sweep) for sweep in sweeps if sweep.system == system and sweep.seed in own_sweeps
        ]
        if not pairs:
            continue
        differences = [own.full - peer.full for own, peer in pairs]
        rows.append(
            {
                "peer": system,
                "seeds": [own.seed for own, _ in pairs],
                "ours_full": [own.full for own, _ in pairs],
                "peer_full": [peer.full for _, peer in pairs],
                "difference": differences,
                "mean_difference": statistics.fmean(differences),
                "ours_to_peers_best": [own.seconds_to(peer.best) for own, peer in pairs],
                "peer_to_its_best": [peer.seconds_to(peer.best) for _, peer in pairs],
                "peer_to_ours_best": [peer.seconds_to(own.best) for own, peer in pairs],
                "ours_to_its_best": [own.seconds_to(own.best) for own, _ in pairs],
            }
        )
    return rows


def table(sweeps: Sequence[EndedSweep], skipped: Mapping[str, str]) -> str:
    """Return the sweeps and the comparison as text."""
    heads = f"{'system':>10} {'seed':>5} {'budget':>7} {'started':>8} {'pruned':>7} {'complete':>9}"
    lines = [f"{heads} {'reported':>8} {'full':>7}"]
    lines += [
        f"{sweep.system:>10} {sweep.seed:>5} {sweep.budget:>5.0f} s {sweep.started:>8} {sweep.pruned:>7} "
        f"{len(sweep.trials):>9} {sweep.best:>8.4f} {sweep.full:>7.4f}"
        for sweep in sweeps
    ]
    for row in compare_systems(sweeps):
        lines.append(f"{THIS_PROJECT} and {row['peer']}: full loss differs by {row['mean_difference']:+.4f} on average")
        for at, seed in enumerate(row["seeds"]):
            lines.append(
                f"  seed {seed}: {row['difference'][at]:+.4f}; the peer's best after "
                f"{_seconds_text(row['peer_to_its_best'][at])}, this project as low after "
                f"{_seconds_text(row['ours_to_peers_best'][at])}; this project's best after "
                f"{_seconds_text(row['ours_to_its_best'][at])}, the peer as low after "
                f"{_seconds_text(row['peer_to_ours_best'][at])}"
            )
    lines += [f"{system}: skipped, {why}" for system, why in skipped.items()]
    return "\n".join(lines)


def _seconds_text(seconds: float | None) -> str:
    return "none" if seconds is None else f"{seconds:.0f} s"


# all systems, in turns


def missing(system: str) -> str:
    """Return why a system can't be run here, or "" if it can."""
    return missing_ray() if system == "asha" else ""


def rounds(
    systems: Sequence[str],
    seeds: Sequence[int],
    work: Path,
    run: Callable[[str, int, Path], EndedSweep],
) -> list[EndedSweep]:
    """Run each system on each seed, in turns, and return the sweeps. One that has a file in `work` is read from it."""
    sweeps = []
    tasks = [(seed, system) for seed in seeds for system in systems]
    for number, (seed, system) in enumerate(tasks, start=1):
        file = work / f"{system}-{seed}.json"
        if not file.exists():
            print(f"{number} of {len(tasks)}: {system}, seed {seed}", file=sys.stderr, flush=True)
            out = work / f"{system}-{seed}"
            shutil.rmtree(out, ignore_errors=True)  # an interrupted sweep has used part of its budget
            write_text(file, json.dumps(asdict(run(system, seed, out))))
        fields = json.loads(file.read_text(encoding="utf-8"))
        sweeps.append(EndedSweep(**{**fields, "trials": tuple(TimedTrial(**trial) for trial in fields["trials"])}))
    return sweeps


def prepare_tokens(work: Path) -> Path:
    """Prepare the tokens; return their folder."""
    command = [sys.executable, "-m", "sweeps", "prepare", str(STUDY), "--out", str(work / "data"), "--json"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603  # our own
    return Path(json.loads(process.stdout)["path"])


def main() -> None:
    """Run what has no file yet, and print the comparison."""
    parser = parser_of(__doc__)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder of the sweeps")
    parser.add_argument(
        "--budget", type=positive, default=150.0, metavar="SECONDS", help="budget per sweep (default 150)"
    )
    parser.add_argument("--seeds", type=at_least(1), default=3, metavar="N", help="seeds per system (default 3)")
    add_names(parser, "--systems", SYSTEMS)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args()
    skipped = {system: why for system in options.systems if (why := missing(system))}
    for system, why in skipped.items():
        print(f"{system}: skipped, {why}", file=sys.stderr, flush=True)
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    data = prepare_tokens(work)

    def run(system: str, seed: int, out: Path) -> EndedSweep:
        if system == THIS_PROJECT:
            return run_sweep(seed, data, out, budget=options.budget)
        return run_peer(system, seed, data, out, budget=options.budget)

    systems = [system for system in options.systems if system not in skipped]
    sweeps = rounds(systems, range(FIRST_SEED, FIRST_SEED + options.seeds), work, run)
    if budgets := sorted({sweep.budget for sweep in sweeps} - {options.budget}):
        parser.error(
            f"--work: {work} holds sweeps of {budgets[0]:g} seconds; "
            f"name another folder, or take --budget {budgets[0]:g}"
        )
    if options.json:
        rows = [{**asdict(sweep), "best": sweep.best} for sweep in sweeps]
        print(json.dumps({"sweeps": rows, "peers": compare_systems(sweeps), "skipped": skipped}))
    else:
        print(table(sweeps, skipped))


if __name__ == "__main__":
    main()
