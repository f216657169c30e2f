"""Logs that no rule of a diagnosis was tuned on: other text, other sizes, and runs of real nanoGPT.

    python -m benchmarks.diagnose.unseen_logs --text FILE.parquet --nanogpt DIR --out DIR [--only NAME,NAME]

The text is tokenized by characters and by byte pairs. Eighteen runs are trained by nanoGPT's own train.py in DIR, a
checkout of it, and four by `python -m trainer`. They have 3 or 4 layers, width 8 to 128, mostly 960 tokens per update
and 900 iterations. nanoGPT's logs stand alone, as their settings are printed at their heads; the others have their
config beside them. `benchmarks.diagnose.logs` reads the folder. About 15 minutes on one core.
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
from benchmarks.diagnose.unseen_plants import BASE, MILDER, NANOGPT, OURS
from trainer.data.parquet import ParquetDocuments
from trainer.data.tokenizer import bpe, train_bpe

_NANOGPT: Mapping[str, Any] = {"dtype": "float32", "compile": False}
_VOCABULARY = 768
_SMALL, _SIXTY = 15_000, 60_000
"""characters of training splits, of which the first is soon known by heart"""


def write_data(folder: Path, text: Path) -> None:
    """Write the data sets: chars, pairs (byte pairs), sixty and small (few training characters).

    Every tenth document of the text is for validation.
    """
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
        ("sixty", {**chars, "train": chars["train"][:_SIXTY]}, len(letters)),
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
    plants = {**NANOGPT, **OURS, **MILDER}
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
        if name in OURS:
            train_ours(name, OURS[name], folder)
        else:
            train_nanogpt(name, plants[name], folder, checkout=options.nanogpt.absolute())
        print(f"{name}.log", file=sys.stderr)


if __name__ == "__main__":
    main()
