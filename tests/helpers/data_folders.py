"""Small data folders for the trainer's tests."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from trainer.data.dataset import Dataset, open_dataset


def random_walk_folder(folder: Path, *, vocab_size: int = 32, tokens: int = 4000, seed: int = 0) -> Dataset:
    """Write a nanoGPT data folder with a learnable stream: each token is close to the previous token."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    walk = np.cumsum(generator.integers(-2, 3, size=tokens)) % vocab_size
    held_out = tokens // 4
    walk[held_out:].astype(np.uint16).tofile(folder / "train.bin")
    walk[:held_out].astype(np.uint16).tofile(folder / "val.bin")
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocab_size}))
    return open_dataset(folder)
