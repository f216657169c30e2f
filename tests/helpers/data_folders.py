"""Small data folders for the trainer's tests."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

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


def meta_of_tokens(*, train: int, val: int) -> dict[str, Any]:
    """Return the meta.json of a prepared folder with so many tokens in its splits."""
    return {
        "format": "plateau-sweep/1",
        "dtype": "uint16",
        "vocab_size": 257,
        "fingerprint": "f" * 64,
        "tokenizer": {"name": "bytes", "eot": 256},
        "options": {"min_chars": 200},
        "left_out": {"null": 0, "undecodable": 1, "short": 3, "duplicate": 2},
        "left_out_bytes": {"short": 30, "duplicate": 900},
        "splits": {
            "train": {"tokens": train, "documents": 9, "bytes": 800, "sha256": "a" * 64},
            "val": {"tokens": val, "documents": 2, "bytes": 80, "sha256": "b" * 64},
        },
    }
