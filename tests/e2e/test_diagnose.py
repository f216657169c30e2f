"""From a log to a better run: diagnosed, its study run as it was written, exported, and resumed as nanoGPT would.

The trainer stands in for nanoGPT, whose log lines and checkpoint it writes; `Resumed` is nanoGPT on the way back.
docs/experiments/diagnose.md tells the same of nanoGPT itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.e2e.test_sweep import Call, call  # noqa: F401  # `call` is a fixture
from tests.helpers.data_folders import random_walk_folder
from tests.helpers.exports import nanogpt_configurator
from tests.helpers.nanogpt_resume import Batch, Resumed
from trainer.data.dataset import Dataset

ROOT = Path(__file__).parents[2]
STUCK: dict[str, Any] = {
    "dataset": "walk", "out_dir": "out", "n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "batch_size": 8,
    "gradient_accumulation_steps": 1, "dropout": 0.0, "learning_rate": 3e-3, "min_lr": 3e-6, "warmup_iters": 10,
    "lr_decay_iters": 80, "max_iters": 500, "beta2": 0.99, "eval_interval": 20, "eval_iters": 32, "log_interval": 10,
    "device": "cpu", "dtype": "float32", "compile": False,
}  # fmt: skip
"""a run whose rate has fallen to a thousandth of its peak after a sixth of it"""


def windows(data: Dataset, count: int) -> list[Batch]:
    """Return as many windows of the validation split, spread evenly."""
    tokens, length = data.tokens("val"), int(STUCK["block_size"])
    starts = np.linspace(0, len(tokens) - length - 1, count).astype(int)
    rows = torch.from_numpy(np.stack([tokens[s : s + length + 1] for s in starts]).astype(np.int64))
    return [(rows[:, :-1], rows[:, 1:])]


def batches(data: Dataset, count: int) -> list[list[Batch]]:
    """Return random batches of the training split, one per iteration."""
    random, tokens, length = np.random.default_rng(1), data.tokens("train"), int(STUCK["block_size"])
    found = []
    for _ in range(count):
        starts = random.integers(0, len(tokens) - length - 1, size=int(STUCK["batch_size"]))
        rows = torch.from_numpy(np.stack([tokens[s : s + length + 1] for s in starts]).astype(np.int64))
        found.append([(rows[:, :-1], rows[:, 1:])])
    return found


@pytest.mark.usefixtures("one_thread")
def test_a_stuck_run_goes_on_in_nanogpt(tmp_path: Path, call: Call) -> None:  # noqa: F811
    data = random_walk_folder(tmp_path / "data" / "walk", tokens=40_000)
    config = tmp_path / "train_stuck.py"
    config.write_text("".join(f"{key} = {value!r}\n" for key, value in STUCK.items()), encoding="utf-8")
    trained = subprocess.run(
        [sys.executable, "-m", "trainer", str(config), "--data", str(data.path), "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    (tmp_path / "train.log").write_text(trained.stdout, encoding="utf-8")

    options = ["--config", "train_stuck.py", "--ckpt", "out/ckpt.pt", "--data", "data/walk", "--study", "next.yaml"]
    found = json.loads(call(tmp_path, "diagnose", "train.log", *options, "--json").stdout)
    assert "lr_decayed_early" in [finding["code"] for finding in found["findings"][:2]]

    said = call(tmp_path, "run", "next.yaml", "--set", "trials=5").stdout
    said = " ".join(said[said.index("complete") :].split())
    assert "Learning rate 3e-6 → " in said
    assert "learning_rate 3e-6 → " in said.partition("what it does")[2]

    call(tmp_path, "export", "next", "--checkpoint", "out-next", "-o", "better.py")
    settings = nanogpt_configurator((tmp_path / "better.py").read_text(encoding="utf-8"))
    before, after = Resumed(settings | {"learning_rate": 0.0, "min_lr": 0.0}), Resumed(settings)
    held_out = windows(data, 256)
    length = int(settings["max_iters"])
    before.updates(batches(data, length))
    stuck = before.loss_on(held_out)
    assert after.loss_on(held_out) == pytest.approx(stuck, abs=1e-6)  # nothing has been lost on the way
    after.updates(batches(data, length))
    assert after.loss_on(held_out) < stuck - 0.02
