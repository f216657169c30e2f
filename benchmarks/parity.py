"""Parity with a recorded run of nanoGPT.

    python -m benchmarks.parity --reference DIR [--json]

DIR holds config.py, train.bin, val.bin, reference.json (losses and evaluations; the vocabulary has 256 tokens) and
ckpt.pt. The output is the largest difference over all losses and over all evaluations, and whether training continues
from the recorded checkpoint. The exit code is 1 if a difference is above 1e-5 nats. Seconds on one core.

Sums depend on the instruction set of the recording's machine. On a processor with AVX-512, a recording made with AVX2
differs by 2e-4 nats. It is repeated exactly with ATEN_CPU_CAPABILITY=avx2, MKL_ENABLE_INSTRUCTIONS=AVX2 and
ONEDNN_MAX_CPU_ISA=AVX2 in the environment.
"""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.commands import parser_of
from trainer.config import TrainConfig
from trainer.data.dataset import open_dataset
from trainer.points import Answer, Point
from trainer.run.loop import train

LIMIT = 1e-5
"""nats"""
FILES = ("config.py", "train.bin", "val.bin", "reference.json", "ckpt.pt")


def main() -> int:
    """Run the comparison; return 1 above the limit."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--reference", type=reference_folder, required=True, metavar="DIR", help="folder of the recorded run"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as recorded
    with tempfile.TemporaryDirectory() as folder:
        differences = worst_differences(options.reference, Path(folder))
    if options.json:
        print(json.dumps(differences))
    else:
        for name, value in differences.items():
            print(f"{name:>24}: {value}")
    return int(max(differences["worst_loss"], differences["worst_evaluation"]) > LIMIT)


def reference_folder(text: str) -> Path:
    """Convert an argument to a folder that holds a recorded run."""
    if missing := [name for name in FILES if not (Path(text) / name).is_file()]:
        raise argparse.ArgumentTypeError(f"{text} holds no {', '.join(missing)}")
    return Path(text)


def worst_differences(reference: Path, folder: Path) -> dict[str, float]:
    """Train as recorded, then on from the recorded checkpoint; return the largest absolute differences in nats."""
    recorded = json.loads((reference / "reference.json").read_text())
    for name in ("train.bin", "val.bin"):
        shutil.copy(reference / name, folder / name)
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 256}))
    data = open_dataset(folder)
    config = TrainConfig.from_nanogpt(reference / "config.py", sampling="nanogpt", device="cpu")
    losses: dict[int, float] = {}
    points: list[Point] = []

    def report(point: Point) -> Answer:
        points.append(point)
        return Answer.GO

    train(config, data, report, on_iter=losses.__setitem__)
    evaluations = [
        abs(loss - recorded["evals"][str(point.step)][split])
        for point in points
        for split, loss in (("train", point.train_loss), ("val", point.val_loss))
    ]
    shutil.copy(reference / "ckpt.pt", folder / "ckpt.pt")
    (folder / "ckpt.pt").chmod(0o644)
    resumed_losses: dict[int, float] = {}
    longer = config.replace(init_from="resume", max_iters=120, lr_decay_iters=120)
    train(longer, data, lambda _: Answer.GO, out=folder, on_iter=resumed_losses.__setitem__)
    return {
        "losses": len(losses),
        "worst_loss": max(abs(loss - recorded["losses"][step]) for step, loss in losses.items()),
        "evaluations": len(points),
        "worst_evaluation": max(evaluations),
        "resumed_at": min(resumed_losses),
        "first_resumed_loss": resumed_losses[min(resumed_losses)],
    }


if __name__ == "__main__":
    sys.exit(main())
