"""Logs of small runs with one fault each, for `benchmarks.diagnose.logs`.

    python -m benchmarks.diagnose.planted_logs --out DIR [--only NAME,NAME] [--set n_embd=48 ...]

Each run is trained by `python -m trainer` on bytes of the standard library's sources. It has 2 layers, width 32, 16
sequences of 32 bytes per update and 400 to 600 iterations, and one setting is broken, or the data. DIR gets NAME.log,
NAME.config.py and the readings. About 3 minutes on two cores.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import ROOT, parser_of
from trainer.data.corpus import EmbeddedCorpus

BASE: Mapping[str, Any] = {
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 32,
    "block_size": 32,
    "batch_size": 16,
    "gradient_accumulation_steps": 1,
    "dropout": 0.0,
    "learning_rate": 3e-3,
    "min_lr": 3e-4,
    "warmup_iters": 20,
    "max_iters": 400,
    "lr_decay_iters": 400,
    "eval_interval": 20,
    "eval_iters": 10,
    "log_interval": 10,
    "device": "cpu",
}
_BLOCK, _BLOCKS = 4096, 512
"""bytes of a block, of which every twentieth is for validation, and their number"""
_TINY, _SMALL = 6_000, 30_000
"""bytes of training splits that are soon known by heart"""


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A run with one fault, and how it should be read."""

    verdict: str
    cause: str
    must_not_say: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: str = "whole"
    resumed: Mapping[str, Any] | None = None
    """changes with which it is resumed from its checkpoint; None: it isn't"""
    replaced: tuple[str, str] | None = None
    """text of nanoGPT's train.py, and what stands in its place"""


PLANTS: Mapping[str, Plant] = {
    "healthy": Plant(
        verdict="improving", cause="-", must_not_say="overfitting,plateau", settings={"lr_decay_iters": 1200}
    ),
    "finished": Plant(verdict="soft_plateau", cause="annealed", must_not_say="overfitting"),
    "rate_too_low": Plant(
        verdict="slow_not_plateau",
        cause="learning rate too low",
        must_not_say="overfitting,capacity_limited",
        settings={"learning_rate": 6e-5, "min_lr": 6e-6},
    ),
    "rate_too_high": Plant(
        verdict="divergence",
        cause="unclipped rate, too high",
        must_not_say="overfitting,plateau",
        settings={"learning_rate": 3.0, "min_lr": 0.3, "grad_clip": 0.0, "warmup_iters": 0},
    ),
    "strong_dropout": Plant(
        verdict="soft_plateau",
        cause="dropout on an underfit model",
        must_not_say="overfitting",
        settings={"dropout": 0.5, "max_iters": 600, "lr_decay_iters": 600},
    ),
    "tiny_model": Plant(
        verdict="soft_plateau",
        cause="capacity: n_embd 4",
        must_not_say="overfitting",
        settings={"n_embd": 4, "n_layer": 1, "max_iters": 600, "lr_decay_iters": 600},
    ),
    "tiny_data": Plant(
        verdict="overfitting",
        cause="train set of 6,000 bytes",
        must_not_say="capacity_limited",
        settings={"n_embd": 64},
        data="tiny",
    ),
    "endless_warmup": Plant(
        verdict="slow_not_plateau",
        cause="warmup longer than the run",
        must_not_say="overfitting,plateau",
        settings={"warmup_iters": 4000, "lr_decay_iters": 8000},
    ),
    "strong_weight_decay": Plant(
        verdict="soft_plateau",
        cause="weight decay 8",
        must_not_say="overfitting",
        settings={"weight_decay": 8.0, "max_iters": 600, "lr_decay_iters": 600},
    ),
    "early_decay": Plant(
        verdict="soft_plateau",
        cause="decay over after 60 of 600",
        must_not_say="overfitting",
        settings={"max_iters": 600, "lr_decay_iters": 60, "min_lr": 3e-6},
    ),
    "other_validation": Plant(
        verdict="broken_val",
        cause="val.bin is shuffled",
        must_not_say="overfitting",
        data="shuffled",
    ),
    "no_update": Plant(
        verdict="plateau",
        cause="no update: a rate of 1e-12",
        must_not_say="overfitting,capacity_limited",
        settings={"learning_rate": 1e-12, "min_lr": 1e-13},
    ),
    "one_short_sequence": Plant(
        verdict="soft_plateau",
        cause="batch of one sequence of 8 bytes",
        must_not_say="overfitting,capacity_limited",
        settings={"batch_size": 1, "gradient_accumulation_steps": 1, "block_size": 8, "eval_iters": 400},
    ),
    "mild_rate": Plant(
        verdict="improving",
        cause="learning rate too low",
        must_not_say="overfitting,capacity_limited",
        settings={"learning_rate": 2e-4, "min_lr": 2e-5},
    ),
    "mild_dropout": Plant(
        verdict="soft_plateau",
        cause="dropout on an underfit model",
        must_not_say="overfitting",
        settings={"dropout": 0.2},
    ),
    "mild_weight_decay": Plant(
        verdict="soft_plateau", cause="weight decay 1", must_not_say="overfitting", settings={"weight_decay": 1.0}
    ),
    "mild_warmup": Plant(
        verdict="improving",
        cause="warmup of a third of the run",
        must_not_say="overfitting,plateau,capacity_limited",
        settings={"warmup_iters": 130, "lr_decay_iters": 500},
    ),
    "mild_decay": Plant(
        verdict="soft_plateau",
        cause="decay over at half",
        must_not_say="overfitting",
        settings={"lr_decay_iters": 200, "min_lr": 3e-5},
    ),
    "mild_data": Plant(
        verdict="overfitting",
        cause="train set of 30,000 bytes",
        must_not_say="capacity_limited,val_mismatch",
        settings={"n_embd": 96, "max_iters": 800, "lr_decay_iters": 800},
        data="small",
    ),
}


def write_data(folder: Path) -> None:
    """Write the data sets: whole, tiny and small (few training bytes), shuffled (validation bytes out of order)."""
    texts = (document for batch in EmbeddedCorpus().read(0) for document in batch.texts)
    whole = np.frombuffer("".join(texts).encode()[: _BLOCK * _BLOCKS], dtype=np.uint8).astype(np.uint16)
    blocks = whole.reshape(-1, _BLOCK)
    held_out = np.arange(len(blocks)) % 20 == 7
    train, val = blocks[~held_out].ravel(), blocks[held_out].ravel()
    mixed = np.random.default_rng(0).permutation(val)
    for name, splits in {
        "whole": (train, val),
        "tiny": (train[:_TINY], val),
        "small": (train[:_SMALL], val),
        "shuffled": (train, mixed),
    }.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for split, tokens in zip(("train", "val"), splits, strict=True):
            tokens.tofile(folder / name / f"{split}.bin")
        (folder / name / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 256}))


def write_readings(folder: Path, plants: Mapping[str, Plant]) -> None:
    """Write how the plants' logs should be read, for `benchmarks.diagnose.logs`."""
    readings = [
        {
            "file": f"{name}.log",
            "verdict": plant.verdict,
            "cause": plant.cause,
            "must_not_say": plant.must_not_say,
            "data": f"data/{plant.data}",
        }
        for name, plant in plants.items()
    ]
    (folder / "readings.json").write_text(json.dumps(readings, indent=1), encoding="utf-8")


def train(name: str, plant: Plant, folder: Path, *, changes: Mapping[str, int]) -> None:
    """Train a plant; write its log and its config."""
    settings = {**BASE, **changes, **plant.settings}
    config = folder / f"{name}.config.py"
    config.write_text("".join(f"{key} = {value!r}\n" for key, value in settings.items()), encoding="utf-8")
    data, out = folder / "data" / plant.data, folder / "out" / name
    command = [sys.executable, "-m", "trainer", str(config), "--data", str(data), "--out", str(out)]
    # a blow-up ends with exit code 3
    with (folder / f"{name}.log").open("w", encoding="utf-8") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # a model this small is slower on two
        subprocess.run(  # noqa: S603  (our own command)
            command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, check=False
        )


def main() -> None:
    """Run the command."""
    parser = parser_of(__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the logs")
    parser.add_argument("--only", default=",".join(PLANTS), metavar="NAMES", help="names of runs, with commas between")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=N", help="another base, such as n_embd=48, for other logs"
    )
    options = parser.parse_args()
    try:
        changes = {key: int(value) for key, _, value in (text.partition("=") for text in options.set)}
    except ValueError:
        parser.error("--set takes whole numbers, such as n_embd=48")
    if strange := changes.keys() - BASE.keys():
        parser.error(f"--set: {', '.join(sorted(strange))} is no setting of the base: {', '.join(BASE)}")
    names = options.only.split(",")
    if unknown := set(names) - set(PLANTS):
        parser.error(f"--only: no run is called {', '.join(sorted(unknown))}; there are {', '.join(PLANTS)}")
    write_data(options.out / "data")
    for name in names:
        train(name, PLANTS[name], options.out, changes=changes)
        print(f"{name}.log", file=sys.stderr)
    write_readings(options.out, {name: PLANTS[name] for name in names})


if __name__ == "__main__":
    main()
