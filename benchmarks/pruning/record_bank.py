"""Record a bank of unpruned learning curves, on which pruning rules are replayed.

    python -m benchmarks.pruning.record_bank --out bank.parquet [--study benchmarks/pruning/record_bank.yaml]
            [--configs 128] [--seeds 3 --of 16]

Configs are scrambled Sobol points of the study's space, on one seed; the first `--of` of them again on further seeds.
Every run goes to the horizon. Run again it goes on where it stopped: finished runs lie in OUT.runs/, one in flight
resumes from its checkpoint. The parquet has a row an evaluation: trial, seed, step, train_loss, val_loss and val_se
(nats a token, fixed windows, dropout off), then the knobs by Optuna's names. Two hours on two cores.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from optuna.distributions import FloatDistribution, IntDistribution
from scipy.stats import qmc

from benchmarks.progress import watched
from benchmarks.verdict.train_directly import trained
from sweeps.engine.session import prepare_data
from sweeps.paths import StudyPaths
from sweeps.study import proposals, space
from sweeps.study.load import load
from sweeps.study.study import Study
from trainer.atomic import write_text
from trainer.machine.device import cuda_devices
from trainer.points import Result

WINDOWS = 64
"""fixed windows of each evaluation"""


@dataclass(frozen=True)
class Row:
    """A run of the bank."""

    trial: int
    seed: int
    params: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.trial}-{self.seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the parquet to write")
    parser.add_argument("--study", type=Path, default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--configs", type=int, default=128, help="Sobol points (default 128)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the repeated configs (default 3)")
    parser.add_argument("--of", type=int, default=16, help="configs repeated on all seeds (default 16)")
    arguments = parser.parse_args()
    study = load(arguments.study, devices_have_cuda=cuda_devices() > 0)
    folder = arguments.out.with_name(arguments.out.name + ".runs")
    rows = plan(study, configs=arguments.configs, seeds=arguments.seeds, repeated=arguments.of)
    record(study, rows, folder)
    write(rows, folder, arguments.out)
    print(f"{arguments.out}: {len(rows)} runs, {arguments.out.stat().st_size:,} bytes")


def plan(study: Study, *, configs: int, seeds: int, repeated: int) -> list[Row]:
    """The runs of the bank: every config on the study's seed, then the first ones on further seeds."""
    distributions = space.distributions(study)
    points = qmc.Sobol(len(distributions), scramble=True, rng=study.seed).random(2 ** math.ceil(math.log2(configs)))
    made = [
        {name: at(each, float(share)) for (name, each), share in zip(distributions.items(), point, strict=True)}
        for point in points[:configs]
    ]
    first = [Row(trial, study.seed, params) for trial, params in enumerate(made)]
    further = [Row(row.trial, study.seed + seed, row.params) for seed in range(1, seeds) for row in first[:repeated]]
    return first + further


def at(distribution: Any, share: float) -> float | int:
    """The value at `share` of a numeric distribution."""
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise SystemExit(f"a bank takes numeric knobs, not {distribution}")
    low, high = distribution.low, distribution.high
    if distribution.step:
        count = round((high - low) / distribution.step) + 1
        value = low + distribution.step * min(int(share * count), count - 1)
    elif distribution.log:
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        value = low + share * (high - low)
    return int(value) if isinstance(distribution, IntDistribution) else float(value)


def record(study: Study, rows: list[Row], folder: Path) -> None:
    """Train every run that has no file yet."""
    paths = StudyPaths(folder)
    dataset = prepare_data(study, paths, progress=lambda _: None)
    todo = [(number, row) for number, row in enumerate(rows) if not file_of(folder, row).exists()]
    tasks = []
    for number, row in todo:
        config = proposals.config_of(study, row.params, seed=row.seed, vocab_size=dataset.vocab_size)
        tasks.append((config.replace(eval_windows=WINDOWS, final_windows=WINDOWS), paths.run(number)))
    for index, result in watched(trained(tasks, dataset, logs=paths.logs), len(tasks), noun="runs"):
        row = todo[index][1]
        keep(file_of(folder, row), row, result)


def file_of(folder: Path, row: Row) -> Path:
    return folder / "done" / f"{row.name}.json"


def keep(path: Path, row: Row, result: Result) -> None:
    found = [[p.step, p.train_loss, p.val_loss, p.val_se] for p in result.points]
    write_text(path, json.dumps({"params": row.params, "outcome": result.outcome, "points": found}))


def write(rows: list[Row], folder: Path, out: Path) -> None:
    """All runs in one parquet; losses as float32, which is a thousand times finer than their noise."""
    table: dict[str, list[Any]] = {name: [] for name in ("trial", "seed", "step", "train_loss", "val_loss", "val_se")}
    table |= {name: [] for name in rows[0].params}
    for row in rows:
        for values in json.loads(file_of(folder, row).read_text())["points"]:
            named = zip(("step", "train_loss", "val_loss", "val_se"), values, strict=True)
            for name, value in {"trial": row.trial, "seed": row.seed, **dict(named), **row.params}.items():
                table[name].append(value)
    kinds = {"trial": pa.int32(), "seed": pa.int32(), "step": pa.int32()}
    kinds |= {name: pa.float32() for name in ("train_loss", "val_loss", "val_se")}
    arrays = {name: pa.array(values, type=kinds.get(name)) for name, values in table.items()}
    pq.write_table(pa.table(arrays), out, compression="zstd")


if __name__ == "__main__":
    main()
