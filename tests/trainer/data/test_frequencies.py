"""The loss of token frequencies alone, against counting by hand and scipy's entropy."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from trainer.data import frequencies
from trainer.data.dataset import Dataset, open_dataset


def folder(path: Path, train: list[int], val: list[int]) -> Dataset:
    """Write a nanoGPT folder and open it."""
    for name, ids in (("train", train), ("val", val)):
        np.array(ids, dtype=np.uint16).tofile(path / f"{name}.bin")
    return open_dataset(path)


def test_it_is_the_cross_entropy_under_counts_plus_one(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    train, val = generator.geometric(0.1, 5000).tolist(), generator.geometric(0.12, 700).tolist()
    dataset = folder(tmp_path, train, val)
    counts, total = Counter(train), len(train) + dataset.vocab_size
    expected = -math.fsum(math.log((counts[token] + 1) / total) for token in val) / len(val)
    assert frequencies.unigram_loss(dataset) == pytest.approx(expected, rel=1e-12)


def test_on_much_text_of_one_kind_it_is_the_entropy(tmp_path: Path) -> None:
    ids = np.random.default_rng(1).choice(4, 2_000_000, p=[0.5, 0.25, 0.125, 0.125]).tolist()
    loss = frequencies.unigram_loss(folder(tmp_path, ids[:1_900_000], ids[1_900_000:]))
    # the 50 300 tokens that never occur take 2.6 % of the probability
    assert loss == pytest.approx(stats.entropy([0.5, 0.25, 0.125, 0.125]) + math.log(1 + 50304 / 1.9e6), abs=0.01)


def test_no_more_is_read_than_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frequencies, "TRAIN_TOKENS", 100)
    monkeypatch.setattr(frequencies, "VAL_TOKENS", 10)
    whole = folder(tmp_path, [1] * 100 + [2] * 900, [1] * 10 + [3] * 90)
    assert frequencies.unigram_loss(whole) == pytest.approx(-math.log(101 / (100 + whole.vocab_size)))
