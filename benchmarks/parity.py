"""Parity with a recorded run of real nanoGPT: `python -m benchmarks.parity --reference DIR [--json]`.

DIR holds config.py, train.bin, val.bin, reference.json (losses, evals, vocabulary 256) and ckpt.pt. Prints the worst
differences over every loss and evaluation, and whether the recorded checkpoint trains on. Fails above 1e-5.
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

from trainer.config import TrainConfig
from trainer.data.dataset import open_dataset
from trainer.points import Answer, Point
from trainer.run.loop import train

LIMIT = 1e-5


def main() -> int:
    """Run the comparison; exit code 1 above the limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--reference", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as recorded
    with tempfile.TemporaryDirectory() as folder:
        found = compare(options.reference, Path(folder))
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:>24}: {value}")
    return int(max(found["worst_loss"], found["worst_evaluation"]) > LIMIT)


def compare(reference: Path, folder: Path) -> dict[str, float]:
    """Worst absolute differences, nats."""
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
        abs(ours - recorded["evals"][str(point.step)][split])
        for point in points
        for split, ours in (("train", point.train_loss), ("val", point.val_loss))
    ]
    shutil.copy(reference / "ckpt.pt", folder / "ckpt.pt")
    (folder / "ckpt.pt").chmod(0o644)
    going_on: dict[int, float] = {}
    longer = config.replace(init_from="resume", max_iters=120, lr_decay_iters=120)
    train(longer, data, lambda _: Answer.GO, out=folder, on_iter=going_on.__setitem__)
    return {
        "losses": len(losses),
        "worst_loss": max(abs(loss - recorded["losses"][step]) for step, loss in losses.items()),
        "evaluations": len(points),
        "worst_evaluation": max(evaluations),
        "resumed_at": min(going_on),
        "first_resumed_loss": going_on[min(going_on)],
    }


if __name__ == "__main__":
    sys.exit(main())
