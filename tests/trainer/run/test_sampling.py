"""Sampling: batches from (seed, step), and fixed, nested evaluation windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.data_folders import random_walk_folder
from trainer.config import TrainConfig
from trainer.errors import DataError
from trainer.run.sampling import StepFeed, batch_starts, window_starts

CPU = torch.device("cpu")


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**9))
def test_starts_depend_on_seed_and_step_alone(seed: int, step: int) -> None:
    first = batch_starts(seed, step, n_starts=1000, size=8)
    assert (first == batch_starts(seed, step, n_starts=1000, size=8)).all()
    assert (first != batch_starts(seed, step + 1, n_starts=1000, size=8)).any()


def test_starts_are_uniform_over_every_position() -> None:
    starts = np.concatenate([batch_starts(0, step, n_starts=50, size=200) for step in range(100)])
    counts = np.bincount(starts, minlength=50)
    expected = 20_000 / 50
    assert counts.sum() == 20_000
    # chi-square with 49 degrees of freedom is above 85 for one seed in a thousand
    assert ((counts - expected) ** 2 / expected).sum() < 85


@given(st.integers(2, 5000), st.integers(1, 64), st.integers(0, 300), st.integers(0, 300))
def test_windows_are_nested_disjoint_and_inside(n_tokens: int, block_size: int, some: int, more: int) -> None:
    small = window_starts(n_tokens, block_size=block_size, count=min(some, more))
    large = window_starts(n_tokens, block_size=block_size, count=max(some, more))
    assert (large[: len(small)] == small).all()
    assert len(large) == min(max(some, more), (n_tokens - 1) // block_size)
    assert len(set(large.tolist())) == len(large)
    if len(large):
        assert (large % block_size == 0).all()
        assert large.min() >= 0
        assert large.max() + block_size + 1 <= n_tokens


def test_windows_of_a_split_too_large_to_permute() -> None:
    n_tokens = 2**25 + 1
    large = window_starts(n_tokens, block_size=1, count=500)
    assert len(set(large.tolist())) == 500
    assert (window_starts(n_tokens, block_size=1, count=20) == large[:20]).all()


def test_any_split_into_micro_batches_sees_the_same_tokens(tmp_path: Path) -> None:
    data = random_walk_folder(tmp_path)
    whole = TrainConfig(batch_size=12, gradient_accumulation_steps=1, block_size=16)
    tokens = {}
    for batch_size in (12, 4, 1):
        config = whole.replace(batch_size=batch_size, gradient_accumulation_steps=12 // batch_size)
        feed, parts = StepFeed(config, data, CPU, step=5), []
        for _ in range(2 * 12 // batch_size):
            parts.append(feed.batch[0])
            feed.advance()
        tokens[batch_size] = torch.cat(parts)
    assert torch.equal(tokens[12], tokens[4])
    assert torch.equal(tokens[12], tokens[1])


def test_targets_are_the_next_tokens(tmp_path: Path) -> None:
    data = random_walk_folder(tmp_path)
    x_BT, y_BT = StepFeed(TrainConfig(block_size=16), data, CPU, step=0).batch
    assert torch.equal(x_BT[:, 1:], y_BT[:, :-1])


def test_a_split_shorter_than_the_context(tmp_path: Path) -> None:
    data = random_walk_folder(tmp_path, tokens=100)
    with pytest.raises(DataError, match=r"the validation split holds 25 tokens.*lower block_size or use more text"):
        StepFeed(TrainConfig(block_size=64), data, CPU, step=0)
