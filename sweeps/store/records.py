"""Which runs of a study are which: the baseline's, the search's, the best."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sweeps.study.study import Study
from sweeps.text import count, percent
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.points import Point


def baseline_runs(results: Results) -> tuple[Run, ...]:
    """The baseline's complete runs, one a seed, the search's seed first; those of the confirm phase are among them."""
    reference = reference_config(results)
    runs = [run for run in results.runs if run.val_loss is not None and _of_baseline(run, reference)]
    return tuple(sorted(runs, key=lambda run: (run.seed != results.study.seed, run.seed)))


def _of_baseline(run: Run, reference: TrainConfig | None) -> bool:
    if run.origin != "confirm" or reference is None:
        return run.origin == "baseline"
    return run.config == reference.replace(seed=run.seed)


def reference_config(results: Results) -> TrainConfig | None:
    """The baseline's config under the search's seed, whether or not its run is complete."""
    runs = [run for run in results.runs if run.origin == "baseline"]
    first = min(runs, key=lambda run: (run.seed != results.study.seed, run.seed), default=None)
    return None if first is None else first.config


def best_run(results: Results) -> Run | None:
    """The complete trial of the search's Optuna study with the lowest final loss; the earliest of equals."""
    return best(results.runs, search=results.study.name)


def search_runs(results: Results) -> tuple[Run, ...]:
    """The runs whose trials the sampler sees: those of the search's own Optuna study."""
    return tuple(run for run in results.runs if run.optuna_study == results.study.name)


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


MANY_EPOCHS = 4.0
"""repetitions up to which repeated tokens are about as good as fresh ones (Muennighoff et al. 2023, 2305.16264)"""


def epochs(config: TrainConfig, data: DataFacts) -> float:
    """Times that a whole run goes over the training tokens that it has."""
    return config.max_iters * config.tokens_per_iter / (config.data_fraction * data.train_tokens)


def bits_per_byte(loss: float, results: Results) -> float | None:
    """A loss in nats a token as bits a byte of text, comparable across tokenizers; None: bytes unknown."""
    size = results.data.bytes_per_token
    return None if size is None else loss / math.log(2) / size


OUTCOMES = ("complete", "pruned", "diverged", "infeasible", "truncated", "failed")
UNFINISHED = ("running", "truncated")


def counts(runs: Iterable[Run]) -> dict[str, int]:
    """Ended runs by outcome, every outcome named."""
    counted = Counter(run.outcome for run in runs)
    return {outcome: counted[outcome] for outcome in OUTCOMES}


def best(runs: Iterable[Run], *, search: str) -> Run | None:
    """The complete run of the Optuna study `search` with the lowest final loss; the earlier of two equal ones."""
    complete = [
        (run.val_loss, run.id, run)
        for run in runs
        if run.outcome == "complete" and run.val_loss is not None and run.optuna_study == search
    ]
    return min(complete, default=(0.0, 0, None))[2]


ESTIMATE = "estimated at the start"
"""what the plan said that the sweep would take; beside it, the report shows what it took"""


def why_pruned(pruning: Pruning) -> str:
    """Why a run was stopped early, or would have been: what was predicted of it, or what it was compared with."""
    here = f"loss {pruning.val_loss:.4f} at step {pruning.step}"
    if pruning.predicted is not None:
        assert pruning.chance is not None
        return (
            f"{pruning.reason.replace('-', ' ')}: would end at {pruning.predicted:.3f} ({pruning.low:.3f} to "
            f"{pruning.high:.3f}), chance {percent(pruning.chance)} of the best tenth; best {pruning.best:.3f}"
        )
    if pruning.peers_median is not None:
        here += (
            f", best so far {pruning.best_so_far:.4f}; {count(pruning.completed, 'trial')} had a median of "
            f"{pruning.peers_median:.4f} there, the best {pruning.peers_best:.4f}"
        )
    return f"{pruning.reason}: {here}"
