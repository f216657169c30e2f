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
class Pruning:
    """Why a trial was stopped early, or would have been had it not been a sentinel.

    Losses are nats a token. What has a default is not for every rule: Optuna's pruners predict nothing, neither does
    plateau of a trial that diverged, and only Optuna's compare losses at one evaluation.
    """

    rule: str
    """plateau, median or hyperband"""
    reason: str
    """plateau's: diverged, dominated or plateau-and-dominated; of Optuna's pruners the rule's name"""
    evaluation: int
    """the one it was decided at, counted from 0 at the start"""
    step: int
    """updates done by then"""
    val_loss: float
    """at that evaluation, on the small set of validation windows"""
    sentinel: bool
    """it went on, to show what pruning costs"""
    completed: int
    """trials that it was judged by"""
    best: float | None
    """lowest final loss by then"""
    predicted: float | None = None
    """mean of the predicted final loss, whose distribution is Student's t"""
    scale: float | None = None
    degrees: float | None = None
    low: float | None = None
    """the final loss is lower than this with probability epsilon"""
    high: float | None = None
    """the final loss is higher than this with probability epsilon"""
    chance: float | None = None
    """of ending among the best"""
    epsilon: float | None = None
    """the largest chance at which a trial is stopped"""
    schedule_known: bool = True
    """False: the learning rate was taken for constant"""
    best_so_far: float | None = None
    """this run's lowest loss by then"""
    peers_median: float | None = None
    """of the others' losses at that evaluation; None also where there were no others"""
    peers_best: float | None = None


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
    """baseline, search or confirm"""
    origin: str
    """baseline, candidate, star, combined, sampler or confirm: who asked for it"""
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
    pruning: Pruning | None = None
    """of trials that were pruned, and of sentinels"""


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
