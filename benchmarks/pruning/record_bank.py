"""A bank of unpruned loss curves, recorded for replaying pruning rules.

    python -m benchmarks.pruning.record_bank --out bank.parquet [--study benchmarks/pruning/record_bank.yaml]
            [--configs 128] [--seeds 3 --of 16]

The configs are scrambled Sobol points of the study's space, trained on one seed. The first `--of` of them are trained
on further seeds too. Every run goes to the horizon. A second call continues where the first was interrupted: ended runs
lie in OUT.runs/, and runs in flight continue from their checkpoints.

The parquet has a row per evaluation: trial, seed, step, train_loss, val_loss and val_se (nats per token, fixed windows,
dropout off), then the knobs by Optuna's names. The default's 160 runs of 43 core-seconds take 57 minutes on two cores.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from optuna.distributions import FloatDistribution, IntDistribution
from scipy.stats import qmc

from benchmarks.commands import argument_errors, at_least, existing_file, parser_of
from benchmarks.verdict.train_directly import DirectRun, Task, train_missing
from sweeps.engine.session import prepare_data
from sweeps.paths import StudyPaths
from sweeps.study import proposals, space
from sweeps.study.load import load
from sweeps.study.study import Study
from trainer.errors import UserError
from trainer.machine.device import cuda_devices
from trainer.points import Result

WINDOWS = 64
"""fixed windows of each evaluation"""
POINT_COLUMNS = ("step", "train_loss", "val_loss", "val_se")


@dataclass(frozen=True)
class BankRun:
    """A run of the bank."""

    trial: int
    seed: int
    params: dict[str, Any]

    @property
    def name(self) -> str:
        """A name that no other run of the bank has."""
        return f"{self.trial}-{self.seed}"


def main() -> None:
    """Record the bank and write its parquet."""
    parser = parser_of(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="parquet to write")
    parser.add_argument(
        "--study",
        type=existing_file,
        default=Path(__file__).with_suffix(".yaml"),
        help="study whose space is recorded (default record_bank.yaml)",
    )
    parser.add_argument("--configs", type=at_least(1), default=128, help="number of Sobol points (default 128)")
    parser.add_argument("--seeds", type=at_least(1), default=3, help="seeds of the repeated configs (default 3)")
    parser.add_argument("--of", type=at_least(0), default=16, help="configs repeated on all seeds (default 16)")
    options = parser.parse_args()
    with argument_errors(parser):
        study = load(options.study, devices_have_cuda=cuda_devices() > 0)
        runs = plan(study, configs=options.configs, seeds=options.seeds, repeated=options.of)
    folder = options.out.with_name(options.out.name + ".runs")
    record(study, runs, folder)
    write(runs, folder, options.out)
    print(f"{options.out}: {len(runs)} runs, {options.out.stat().st_size:,} bytes")


def plan(study: Study, *, configs: int, seeds: int, repeated: int) -> list[BankRun]:
    """Return the runs of the bank: every config on the study's seed, then the first ones on further seeds."""
    distributions = space.distributions(study)
    points = qmc.Sobol(len(distributions), scramble=True, rng=study.seed).random(2 ** math.ceil(math.log2(configs)))
    params_by_trial = [
        {name: value_at(knob, float(share)) for (name, knob), share in zip(distributions.items(), point, strict=True)}
        for point in points[:configs]
    ]
    first = [BankRun(trial, study.seed, params) for trial, params in enumerate(params_by_trial)]
    further = [
        BankRun(run.trial, study.seed + seed, run.params) for seed in range(1, seeds) for run in first[:repeated]
    ]
    return first + further


def value_at(distribution: Any, share: float) -> float | int:
    """Return the value at a share of a numeric distribution's range. Raises UserError for any other."""
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise UserError(f"{distribution} isn't numeric; a bank takes numeric knobs only")
    low, high = distribution.low, distribution.high
    if distribution.step:
        count = round((high - low) / distribution.step) + 1
        value = low + distribution.step * min(int(share * count), count - 1)
    elif distribution.log:
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        value = low + share * (high - low)
    return int(value) if isinstance(distribution, IntDistribution) else float(value)


def record(study: Study, bank_runs: list[BankRun], folder: Path) -> None:
    """Train every run that has no file yet."""
    paths = StudyPaths(folder)
    dataset = prepare_data(study, paths, progress=lambda _: None)
    direct_runs = []
    for number, run in enumerate(bank_runs):
        config = proposals.config_of(study, run.params, seed=run.seed, vocab_size=dataset.vocab_size)
        direct_runs.append(
            DirectRun(
                task=Task(config=config.replace(eval_windows=WINDOWS, final_windows=WINDOWS)),
                out=paths.run(number),
                file=_run_file(folder, run),
                notes={"params": run.params},
            )
        )
    train_missing(direct_runs, dataset, logs=paths.logs, noun="runs", content=_points)


def _run_file(folder: Path, run: BankRun) -> Path:
    return folder / "done" / f"{run.name}.json"


def _points(result: Result) -> dict[str, Any]:
    return {"points": [[getattr(point, name) for name in POINT_COLUMNS] for point in result.points]}


def write(bank_runs: list[BankRun], folder: Path, out: Path) -> None:
    """Write all runs to one parquet. Losses are float32, a thousand times finer than their noise."""
    table: dict[str, list[Any]] = {name: [] for name in ("trial", "seed", *POINT_COLUMNS, *bank_runs[0].params)}
    for run in bank_runs:
        for point in json.loads(_run_file(folder, run).read_text())["points"]:
            named_point = dict(zip(POINT_COLUMNS, point, strict=True))
            for name, value in {"trial": run.trial, "seed": run.seed, **named_point, **run.params}.items():
                table[name].append(value)
    types = {"trial": pa.int32(), "seed": pa.int32(), "step": pa.int32()}
    types |= {name: pa.float32() for name in ("train_loss", "val_loss", "val_se")}
    arrays = {name: pa.array(values, type=types.get(name)) for name, values in table.items()}
    pq.write_table(pa.table(arrays), out, compression="zstd")


if __name__ == "__main__":
    main()
