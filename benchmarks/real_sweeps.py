"""Small sweeps of real trials by the command `sweep`, with one pruner or another: what each spends and finds.

Every sweep is studies/smoke.yaml with longer trials and one worker, so that nothing depends on which trial ends first.
Its single-knob trials, and the two that combine them, are never pruned, the project's rule; they count as spent all the
same. Pruners have the project's defaults: Median looks from a quarter of the run on, one in ten trials that plateau
would stop goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.store import Reader

ROOT = Path(__file__).parents[1]
STUDY = "studies/smoke.yaml"
PRUNERS = ("none", "median", "plateau")
TRIALS = 28
"""of the search"""
SINGLE = 12
"""of them with a single knob changed, which no pruner is asked about"""
EVALUATIONS = 20
SET = (
    "horizon.iters=100",
    f"evaluations={EVALUATIONS}",
    f"trials={TRIALS}",
    "candidates=[]",
    "baseline_seeds=1",
    "confirm.max_trials=0",
    "sampler.type=tpe",
    "workers.devices=[cpu]",
)
SEED = 1337
"""of the first sweep; the next has one more"""


@dataclass(frozen=True, kw_only=True)
class Swept:
    """One sweep that has come to its end; its search alone."""

    pruner: str
    seed: int
    best: float
    """lowest final loss, nats"""
    compute: float
    """evaluations run, as a share of all"""
    seconds: float
    """of all workers"""
    pruned: int
    """trials"""


def sweeps(number: int, folder: Path, *, jobs: int) -> Iterator[Swept]:
    """Sweeps of that many seeds with each pruner, the data prepared once in `folder`; `jobs` at a time."""
    print("preparing the data of the real sweeps", file=sys.stderr, flush=True)
    data = _sweep("prepare", STUDY, "--out", str(folder / "data"))["path"]
    tasks = [(pruner, SEED + index) for index in range(number) for pruner in PRUNERS]
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda task: swept(*task, data=data, folder=folder), tasks)


def swept(pruner: str, seed: int, *, data: str, folder: Path) -> Swept:
    """Run one sweep."""
    name = f"{pruner}-{seed}"
    settings = (*SET, f"name={name}", f"seed={seed}", f"pruner={{type: {pruner}}}")
    options = [word for setting in settings for word in ("--set", setting)]
    ended = _sweep("run", STUDY, *options, "--data", data, "--out", str(folder / name))
    with Reader(f"sqlite:///{ended['store']}") as reader:
        runs = [run for run in reader.results(name).runs if run.phase == "search"]
    return Swept(
        pruner=pruner,
        seed=seed,
        best=min(run.val_loss for run in runs if run.val_loss is not None),
        compute=sum(run.points[-1].step / run.config.max_iters for run in runs) / len(runs),
        seconds=sum(run.seconds for run in runs),
        pruned=sum(run.outcome == "pruned" for run in runs),
    )


def _sweep(*arguments: str) -> dict[str, Any]:
    """What the command ends with. Raises CalledProcessError."""
    command = [sys.executable, "-m", "sweeps", *arguments, "--json"]
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603  # our own
    except subprocess.CalledProcessError as error:
        print(error.stderr[-2000:], file=sys.stderr)
        raise
    return dict(json.loads(ended.stdout))


def compare(ended: Sequence[Swept]) -> list[dict[str, Any]]:
    """A row a pruner: each seed's figures, the best's difference to none on the same seed."""
    best = {each.seed: each.best for each in ended if each.pruner == "none"}
    rows = []
    for pruner in PRUNERS:
        ours = [each for each in ended if each.pruner == pruner]
        rows.append(
            {
                "pruner": pruner,
                "seeds": [each.seed for each in ours],
                "best": [each.best for each in ours],
                "less_none": [each.best - best[each.seed] for each in ours],
                "compute": [each.compute for each in ours],
                "seconds": [each.seconds for each in ours],
                "pruned": [each.pruned for each in ours],
            }
        )
    return rows
