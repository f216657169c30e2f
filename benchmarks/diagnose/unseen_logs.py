"""Logs that no rule of a diagnosis was tuned on: other text, other sizes, and runs of real nanoGPT.

    python -m benchmarks.diagnose.unseen_logs --text FILE.parquet --nanogpt DIR --out DIR [--only NAME,NAME]

The text is tokenized by characters and by byte pairs. Ten runs are trained by nanoGPT's own train.py in DIR, a checkout
of it, and four by `python -m trainer`. They have 3 or 4 layers, width 8 to 128, 960 tokens per update and 600 to 1500
iterations. nanoGPT's logs stand alone, as their settings are printed at their heads; the others have their config
beside them. `benchmarks.diagnose.logs` reads the folder. About 12 minutes on one core.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import ROOT, add_names, existing_file, parser_of
from benchmarks.diagnose.planted_logs import Plant, write_readings
from trainer.data.parquet import ParquetDocuments
from trainer.data.tokenizer import bpe, train_bpe

BASE: Mapping[str, Any] = {
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 64,
    "block_size": 48,
    "batch_size": 20,
    "gradient_accumulation_steps": 1,
    "dropout": 0.0,
    "learning_rate": 2e-3,
    "min_lr": 2e-4,
    "warmup_iters": 30,
    "max_iters": 900,
    "lr_decay_iters": 900,
    "beta2": 0.99,
    "eval_interval": 45,
    "eval_iters": 12,
    "log_interval": 15,
    "device": "cpu",
}
_NANOGPT: Mapping[str, Any] = {"dtype": "float32", "compile": False}
_VOCABULARY = 768
_SMALL = 15_000
"""characters of a training split that is soon known by heart"""
_UNSCALED = ("lossf = loss.item() * gradient_accumulation_steps", "lossf = loss.item()")
"""nanoGPT's line that undoes the division of the loss, and the same forgotten"""

NANOGPT: Mapping[str, Plant] = {
    "healthy": Plant(
        verdict="improving",
        cause="-",
        must_not_say="overfitting,plateau,capacity_limited,data_limited",
        settings={"lr_decay_iters": 1500},
        data="chars",
    ),
    "rate_of_a_fifteenth": Plant(
        verdict="slow_not_plateau",
        cause="learning rate too low",
        must_not_say="overfitting,capacity_limited,data_limited",
        settings={"learning_rate": 1e-4, "min_lr": 1e-5},
        data="pairs",
    ),
    "dropout_0.3": Plant(
        verdict="soft_plateau",
        cause="dropout on an underfit model",
        must_not_say="overfitting,data_limited",
        settings={"dropout": 0.3},
        data="chars",
    ),
    "15_000_characters": Plant(
        verdict="overfitting",
        cause="train set of 15,000 characters",
        must_not_say="capacity_limited,val_mismatch",
        settings={"n_layer": 3, "n_embd": 128},
        data="small",
    ),
    "resumed_after_the_decay": Plant(
        verdict="soft_plateau",
        cause="pinned at min_lr after a resume",
        must_not_say="overfitting,data_limited",
        settings={"max_iters": 405, "lr_decay_iters": 405, "min_lr": 2e-5},
        resumed={"max_iters": 900},
        data="pairs",
    ),
    "resumed_at_five_times_the_rate": Plant(
        verdict="soft_plateau",
        cause="spike after a resume",
        must_not_say="overfitting,data_limited,capacity_limited",
        settings={"max_iters": 450, "lr_decay_iters": 450},
        resumed={"max_iters": 900, "lr_decay_iters": 1800, "learning_rate": 1e-2, "warmup_iters": 0},
        data="chars",
    ),
    "printed_loss_not_scaled_back": Plant(
        verdict="soft_plateau",
        cause="accumulation: printed losses are a fourth",
        must_not_say="overfitting,data_limited",
        settings={"gradient_accumulation_steps": 4, "batch_size": 5, "lr_decay_iters": 1200},
        data="pairs",
        replaced=_UNSCALED,
    ),
    "48_tokens_per_update": Plant(
        verdict="soft_plateau",
        cause="batch of 48 tokens at a constant rate",
        must_not_say="overfitting,data_limited,capacity_limited",
        settings={"batch_size": 1, "decay_lr": False, "max_iters": 1500, "eval_interval": 75, "eval_iters": 150},
        data="chars",
    ),
    "one_batch_per_evaluation": Plant(
        verdict="improving",
        cause="noise of eval_iters 1",
        must_not_say="overfitting,plateau,data_limited",
        settings={"eval_iters": 1, "lr_decay_iters": 1500},
        data="pairs",
    ),
    "width_8": Plant(
        verdict="soft_plateau",
        cause="capacity: n_embd 8",
        must_not_say="overfitting,data_limited",
        settings={"n_layer": 3, "n_embd": 8, "n_head": 2, "max_iters": 1200, "lr_decay_iters": 1200},
        data="chars",
    ),
}
"""runs of real nanoGPT"""
OURS: Mapping[str, Plant] = {
    "weight_decay_1.5": Plant(
        verdict="soft_plateau",
        cause="weight decay 1.5",
        must_not_say="overfitting,data_limited",
        settings={"weight_decay": 1.5},
        data="chars",
    ),
    "decay_over_at_a_seventh": Plant(
        verdict="soft_plateau",
        cause="decay over after 135 of 900",
        must_not_say="overfitting,data_limited,capacity_limited",
        settings={"lr_decay_iters": 135, "min_lr": 2e-5},
        data="pairs",
    ),
    "warmup_of_two_fifths": Plant(
        verdict="improving",
        cause="warmup of 360 of 900",
        must_not_say="overfitting,plateau,capacity_limited",
        settings={"warmup_iters": 360, "lr_decay_iters": 1200},
        data="chars",
    ),
    "healthy_pairs": Plant(
        verdict="improving",
        cause="-",
        must_not_say="overfitting,plateau,capacity_limited,data_limited",
        settings={"lr_decay_iters": 1500},
        data="pairs",
    ),
}
"""runs of `python -m trainer`"""


def write_data(folder: Path, text: Path) -> None:
    """Write the data sets: chars, pairs (byte pairs) and small (few training characters). Every tenth document of the
    text is for validation."""
    batches = ParquetDocuments([str(text)]).read(0)
    documents = [document for batch in batches for document in batch.texts]
    parts = {
        "train": "\n\n".join(document for index, document in enumerate(documents) if index % 10 != 7),
        "val": "\n\n".join(document for index, document in enumerate(documents) if index % 10 == 7),
    }
    letters = {letter: number for number, letter in enumerate(sorted(set("".join(parts.values()))))}
    chars = {split: np.array([letters[c] for c in part], dtype=np.uint16) for split, part in parts.items()}
    pairs = bpe(train_bpe([parts["train"]], vocab_size=_VOCABULARY))
    tokens = {split: pairs.encode_to_numpy(part).astype(np.uint16) for split, part in parts.items()}
    for name, splits, vocabulary in (
        ("chars", chars, len(letters)),
        ("pairs", tokens, pairs.vocab_size),
        ("small", {**chars, "train": chars["train"][:_SMALL]}, len(letters)),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for split, values in splits.items():
            values.tofile(folder / name / f"{split}.bin")
        (folder / name / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocabulary}))


def train_ours(name: str, plant: Plant, folder: Path) -> None:
    """Train a plant by our trainer; write its log and its config."""
    config = _write_config(folder / f"{name}.config.py", {**BASE, **plant.settings})
    data, out = folder / "data" / plant.data, folder / "out" / name
    with (folder / f"{name}.log").open("wb") as log:
        _run(["-m", "trainer", str(config), "--data", str(data), "--out", str(out)], log, cwd=ROOT)


def train_nanogpt(name: str, plant: Plant, folder: Path, *, checkout: Path) -> None:
    """Train a plant by nanoGPT's train.py, with the plant's change of its source; append a resumed run to the log."""
    scratch = folder / "nanogpt"
    scratch.mkdir(exist_ok=True)
    source = (checkout / "train.py").read_text(encoding="utf-8")
    before, after = plant.replaced or ("", "")
    script = scratch / f"train_{name}.py"
    script.write_text(source.replace(before, after) if before else source, encoding="utf-8")
    settings = {**BASE, **_NANOGPT, "out_dir": str(folder / "out" / name), "dataset": str(folder / "data" / plant.data)}
    legs = [plant.settings, *([{**plant.settings, **plant.resumed, "init_from": "resume"}] if plant.resumed else [])]
    with (folder / f"{name}.log").open("wb") as log:
        for number, leg in enumerate(legs):
            config = _write_config(scratch / f"{name}_{number}.py", {**settings, **leg})
            _run([str(script), str(config)], log, cwd=checkout)


def _write_config(path: Path, settings: Mapping[str, Any]) -> Path:
    path.write_text("".join(f"{key} = {value!r}\n" for key, value in settings.items()), encoding="utf-8")
    return path


def _run(arguments: list[str], log: Any, *, cwd: Path) -> None:
    # a model this small is slower on two threads; nanoGPT's script imports its model from the folder it runs in
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(cwd)}
    subprocess.run(  # noqa: S603  (our own command)
        [sys.executable, *arguments], stdout=log, stderr=subprocess.STDOUT, cwd=cwd, env=environment, check=True
    )


def main() -> None:
    """Run the command."""
    plants = {**NANOGPT, **OURS}
    parser = parser_of(__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the logs")
    parser.add_argument("--text", type=existing_file, required=True, metavar="FILE.parquet", help="text to train on")
    parser.add_argument("--nanogpt", type=Path, required=True, metavar="DIR", help="a checkout of nanoGPT")
    add_names(parser, "--only", plants)
    options = parser.parse_args()
    if not (options.nanogpt / "train.py").is_file():
        parser.error(f"--nanogpt {options.nanogpt}: has no train.py")
    folder = options.out.absolute()
    write_data(folder / "data", Path(options.text))
    write_readings(folder, {name: plants[name] for name in options.only})
    for name in options.only:
        if name in NANOGPT:
            train_nanogpt(name, NANOGPT[name], folder, checkout=options.nanogpt.absolute())
        else:
            train_ours(name, OURS[name], folder)
        print(f"{name}.log", file=sys.stderr)


if __name__ == "__main__":
    main()
