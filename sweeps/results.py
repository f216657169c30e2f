"""What a study has found so far, as plain data: the store writes it down, the report reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from sweeps.study import Study
from trainer.config import TrainConfig
from trainer.data import Dataset
from trainer.points import Point


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run of the study."""

    id: int
    optuna_study: str
    """the Optuna study that holds its trial: the study's own name, or `<name>-confirm`"""
    trial: int
    """number of its trial in that Optuna study"""
    seed: int
    phase: str
    """baseline or search"""
    origin: str
    """baseline, candidate, star or sampler: who asked for it"""
    label: str
    """what it is, in a few words: 'baseline, seed 2', 'dropout at its high, 0.3'"""
    knob: str | None
    """star runs: the one knob (nanoGPT's name) that differs from the baseline"""
    params: Mapping[str, float | int | str]
    """the trial's parameters as Optuna has them"""
    config: TrainConfig
    """absolute nanoGPT values"""
    device: str
    outcome: str
    """running, complete, pruned, diverged, infeasible, truncated or failed"""
    reason: str
    """why it did not complete"""
    val_loss: float | None
    """complete runs: final validation loss on the large window set, nats a token"""
    val_se: float | None
    seconds: float
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The data that a study trained on."""

    path: str
    fingerprint: str
    vocab_size: int
    train_tokens: int
    val_tokens: int
    bytes_per_token: float | None
    """of the validation split; None where it isn't known"""

    @classmethod
    def of(cls, dataset: Dataset) -> DataFacts:
        """The facts of an opened data folder."""
        return cls(
            path=str(dataset.path),
            fingerprint=dataset.fingerprint,
            vocab_size=dataset.vocab_size,
            train_tokens=dataset.train.tokens,
            val_tokens=dataset.val.tokens,
            bytes_per_token=dataset.bytes_per_token,
        )

    def as_dict(self) -> dict[str, str | int | float | None]:
        """Names and values, as JSON takes them."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything the report, the exports and the verdict are made from."""

    study: Study
    data: DataFacts
    runs: tuple[Run, ...]
    provenance: Mapping[str, str]
    """versions, device, commit, command: what is needed to repeat it"""
    seconds: float
    """time the sweep has taken, over all its sessions"""
