"""Sampling of the tokens that a step trains on and an evaluation measures.

By default a batch depends only on (seed, step). So the data is the same for any split into micro-batches, any schedule
of evaluations and any restart, and trials with the same seed share their data order. nanoGPT draws everything from
torch's global stream instead; `NanogptFeed` does the same, for parity.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from trainer.config import TrainConfig
from trainer.data.dataset import SPLITS, Dataset
from trainer.data.lengths import shortages
from trainer.data.subset import Subset
from trainer.errors import DataError

WINDOW_SEED = 20_240_229
"""Seed of the evaluation windows. It is the same for all runs, so that their losses compare window by window."""
_PERMUTABLE = 2**24
"""Most windows that are permuted; from more windows the chosen ones are drawn one by one."""

Batch = tuple[Tensor, Tensor]


def batch_starts(seed: int, step: int, *, n_starts: int, size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Draw the first tokens of an iteration's `size` sequences, uniform over 0..n_starts-1: (size,)."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, step], dtype=np.uint64)))
    return generator.integers(0, n_starts, size=size)


def window_starts(n_tokens: int, *, block_size: int, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the first tokens of `count` fixed windows that don't overlap, or of all windows if there are fewer.

    The windows of a smaller count are a prefix of those of a larger count.
    """
    n_windows = (n_tokens - 1) // block_size
    count = min(count, n_windows)
    generator = np.random.Generator(np.random.Philox(key=np.array([WINDOW_SEED, block_size], dtype=np.uint64)))
    if n_windows <= _PERMUTABLE:
        return generator.permutation(n_windows)[:count] * block_size
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        chosen[int(generator.integers(0, n_windows))] = None
    return np.fromiter(chosen, dtype=np.int64, count=count) * block_size


class Feed(Protocol):
    """A source of batches for the loop: `batch` is the current micro-batch, `advance` draws the next."""

    batch: Batch

    def advance(self) -> None:
        """Draw the next micro-batch. Called after the forward pass, so that the copy overlaps with it."""

    def evaluation(self, split: str, *, windows: int) -> Iterator[Batch]:
        """Yield batches of evaluation sequences of "train" or "val"."""

    def state(self) -> dict[str, Any]:
        """Return the data position for a checkpoint, as plain values and tensors."""


class StepFeed:
    """Micro-batches from (seed, step), and evaluation on fixed windows."""

    def __init__(self, config: TrainConfig, data: Dataset, device: torch.device, *, step: int) -> None:
        self._reader = _Reader(config, data, device)
        self._config = config
        self._n_starts = self._reader.n_starts("train")
        self._step, self._micro = step, 0
        self._draw()

    def _draw(self) -> None:
        config = self._config
        if self._micro == 0:
            self._starts = batch_starts(
                config.seed, self._step, n_starts=self._n_starts, size=config.sequences_per_iter
            )
        first = self._micro * config.batch_size
        self.batch: Batch = self._reader.read("train", self._starts[first : first + config.batch_size])

    def advance(self) -> None:
        self._micro += 1
        if self._micro == self._config.gradient_accumulation_steps:
            self._step, self._micro = self._step + 1, 0
        self._draw()

    def evaluation(self, split: str, *, windows: int) -> Iterator[Batch]:
        n_tokens = len(self._reader.tokens[split])
        starts = window_starts(n_tokens, block_size=self._config.block_size, count=windows)
        for first in range(0, len(starts), self._config.batch_size):
            yield self._reader.read(split, starts[first : first + self._config.batch_size])

    def state(self) -> dict[str, Any]:
        return {}  # the step is enough


class NanogptFeed:
    """Micro-batches and evaluations from torch's global stream, in nanoGPT's order."""

    def __init__(
        self, config: TrainConfig, data: Dataset, device: torch.device, *, state: dict[str, Any] | None
    ) -> None:
        self._reader = _Reader(config, data, device)
        self._config = config
        self._starts: Tensor = self._random_starts("train") if state is None else state["starts"]
        self.batch: Batch = self._reader.read("train", self._starts.numpy())

    def _random_starts(self, split: str) -> Tensor:
        return torch.randint(self._reader.n_starts(split), (self._config.batch_size,))

    def advance(self) -> None:
        self._starts = self._random_starts("train")
        self.batch = self._reader.read("train", self._starts.numpy())

    def evaluation(self, split: str, *, windows: int) -> Iterator[Batch]:
        for _ in range(max(1, windows // self._config.batch_size)):
            yield self._reader.read(split, self._random_starts(split).numpy())

    def state(self) -> dict[str, Any]:
        return {"starts": self._starts}


class _Reader:
    """A reader of sequences: pairs of int64 tensors (B, T) on the device, the targets one token later.

    A `data_fraction` limits the training split for batches and evaluations alike.
    """

    def __init__(self, config: TrainConfig, data: Dataset, device: torch.device) -> None:
        self.tokens: dict[str, np.ndarray[Any, Any] | Subset] = {split: data.tokens(split) for split in SPLITS}
        if config.data_fraction < 1:
            self.tokens["train"] = Subset(data.tokens("train"), fraction=config.data_fraction, eot=data.eot)
        self._block_size, self._device = config.block_size, device
        held = {split: len(tokens) for split, tokens in self.tokens.items()}
        if problems := list(shortages(held, block_size=config.block_size, data_fraction=config.data_fraction)):
            raise DataError(f"{data.path}: {'; '.join(problems)}; lower block_size or use more text")

    def n_starts(self, split: str) -> int:
        return len(self.tokens[split]) - self._block_size

    def read(self, split: str, starts: np.ndarray[Any, np.dtype[np.int64]]) -> Batch:
        tokens = self.tokens[split]
        rows = [tokens[start : start + self._block_size + 1] for start in starts]
        inputs_and_targets = torch.from_numpy(np.stack(rows).astype(np.int64))
        if self._device.type == "cuda":
            inputs_and_targets = inputs_and_targets.pin_memory().to(self._device, non_blocking=True)
        return inputs_and_targets[:, :-1].contiguous(), inputs_and_targets[:, 1:].contiguous()
