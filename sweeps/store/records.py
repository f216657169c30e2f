"""Records of a study: its runs, its data, why a trial was pruned, and which run is which."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import PositiveFloat, PositiveInt

from sweeps.paths import command
from sweeps.study.origin_runs import GOING_ON, ORIGIN
from sweeps.study.study import Study
from sweeps.text import count, percent
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.points import Point

MANY_EPOCHS = 4.0
"""Epochs up to which repeated tokens are about as good as fresh ones (Muennighoff et al. 2023, arXiv 2305.16264)."""
ESTIMATE = "estimated at the start"
"""Key of the plan's estimated time in a study's provenance. The report shows the measured time beside it."""
FALLBACKS = "fallbacks"
"""Key of what workers did the plain way, and why, in a study's provenance."""


class Outcome(StrEnum):
    """How a run ended, or that it has not."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    INFEASIBLE = "infeasible"
    """too large for the memory, however it is split"""
    TRUNCATED = "truncated"
    """the study's hours were over; resumes when there are more"""
    HALTED = "halted"
    """the origin and the races: ended where it was meant to, before its schedule does; may go on from its checkpoint"""
    FAILED = "failed"


ENDED = tuple(outcome for outcome in Outcome if outcome is not Outcome.RUNNING)
UNFINISHED = (Outcome.RUNNING, Outcome.TRUNCATED)
BEFORE_TRIALS = ("origin", "race", "pilot")
"""phases before the first trial"""


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """Why a trial was stopped early, or would have been had it not been a sentinel.

    Losses are nats per token. Fields with a default don't apply to every rule. Optuna's pruners predict nothing, nor
    does the plateau pruner for a trial that diverged. Only Optuna's pruners compare losses at one evaluation.
    """

    rule: str
    """plateau, median or hyperband"""
    reason: str
    """plateau: diverged, dominated, plateau-and-dominated or behind-control; Optuna's pruners: the rule's name"""
    evaluation: int
    """evaluation at which it was decided, counted from 0 at the start"""
    step: int
    """updates done by then"""
    val_loss: float
    """at that evaluation, on the small set of validation windows"""
    sentinel: bool
    """True: the trial goes on all the same, to measure what pruning costs"""
    completed: int
    """number of trials that the decision is based on"""
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
    """probability of ending among the best"""
    epsilon: float | None = None
    """largest chance at which a trial is stopped"""
    schedule_known: bool = True
    """False: the learning rate was assumed to be constant"""
    best_so_far: float | None = None
    """this run's lowest loss by then"""
    peers_median: float | None = None
    """median of the other trials' losses at that evaluation; None also where there were no others"""
    peers_best: float | None = None

    @property
    def why(self) -> str:
        """What was predicted of the run, or what it was compared with."""
        if self.predicted is not None:
            assert self.chance is not None
            if self.reason == "behind-control":
                return (
                    f"behind the control: would end at {self.predicted:.3f} ({self.low:.3f} to {self.high:.3f}), and "
                    f"its chance of passing the control is under {percent(self.epsilon or 0.0)}"
                )
            return (
                f"{self.reason.replace('-', ' ')}: would end at {self.predicted:.3f} ({self.low:.3f} to "
                f"{self.high:.3f}), chance {percent(self.chance)} of the best tenth; best {self.best:.3f}"
            )
        text = f"{self.reason}: loss {self.val_loss:.4f} at step {self.step}"
        if self.peers_median is not None:
            text += (
                f", best so far {self.best_so_far:.4f}; {count(self.completed, 'trial')} had a median of "
                f"{self.peers_median:.4f} there, the best {self.peers_best:.4f}"
            )
        return text


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run of the study."""

    id: int
    optuna_study: str
    """Optuna study that holds its trial: the study's own name, or `<name>-confirm`"""
    trial: int
    """number of its trial in that Optuna study"""
    seed: int
    phase: str
    """baseline, search or confirm; before the first trial pilot, and in a study of branches origin or race"""
    origin: str
    """what proposed it: baseline, candidate, one-at-a-time, combined, sampler or confirm; before the first trial pilot,
    and in a study of branches origin, going on or race"""
    label: str
    """short description: 'baseline, seed 2', 'dropout at its high, 0.3'"""
    knob: str | None
    """single-knob trials: nanoGPT's name of the one knob that differs from the baseline"""
    params: Mapping[str, float | int | str]
    """the trial's parameters as Optuna has them"""
    config: TrainConfig
    """absolute nanoGPT values"""
    device: str
    """of its last launch"""
    outcome: Outcome
    reason: str
    """why it did not complete"""
    val_loss: float | None
    """complete runs: final validation loss on the large window set, nats per token"""
    val_se: float | None
    seconds: float
    points: tuple[Point, ...]
    pruning: Pruning | None = None
    """of pruned trials and of sentinels"""
    key: str = ""
    """stable name of the proposal it runs, such as 'baseline:0'; 'trial:12' of a trial that the sampler proposed"""
    kinds: tuple[str, ...] = ()
    """names of the cards or processors that it trained on, in order: one, unless it went on on another kind"""

    @property
    def kind(self) -> str:
        """What the two runs of a pair share: the kind of device. A run that changed its kind shares it with none."""
        return f"run {self.id}: {', then '.join(self.kinds)}" if len(self.kinds) > 1 else "".join(self.kinds)

    @property
    def unfinished(self) -> bool:
        """Whether the run may still continue."""
        return self.outcome in UNFINISHED

    @property
    def before_trials(self) -> bool:
        """Whether the run comes before the first trial: of the pilot; in a study of branches origin, going on, race."""
        return self.phase in BEFORE_TRIALS


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """The data that a study trained on."""

    path: str
    """absolute path of the folder of tokens"""
    fingerprint: str
    """of the tokens; runs on other tokens are never compared"""
    vocab_size: PositiveInt
    """tokens in the vocabulary"""
    train_tokens: PositiveInt
    """tokens to train on"""
    val_tokens: PositiveInt
    """tokens to validate on"""
    bytes_per_token: PositiveFloat | None
    """of the validation split; None where it isn't known"""
    unigram_loss: float | None = None
    """of a model that knows only the frequencies of tokens, nats per token; None: not measured, because
    no pilot asks for it"""
    notes: tuple[str, ...] = ()
    """what was assumed about the data, and what was left out of it"""
    warnings: tuple[str, ...] = ()
    """what probably is not as the person wants it"""

    def __post_init__(self) -> None:
        for name in ("notes", "warnings"):  # JSON has lists
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @classmethod
    def of(cls, dataset: Dataset) -> DataFacts:
        """Return the facts of an opened data folder."""
        return cls(
            path=str(dataset.path),
            fingerprint=dataset.fingerprint,
            vocab_size=dataset.vocab_size,
            train_tokens=dataset.train.tokens,
            val_tokens=dataset.val.tokens,
            bytes_per_token=dataset.bytes_per_token,
            notes=dataset.notes,
            warnings=dataset.warnings,
        )

    def as_dict(self) -> dict[str, str | int | float | tuple[str, ...] | None]:
        """Return names and values, for JSON."""
        return dataclasses.asdict(self)

    def epochs(self, config: TrainConfig) -> float:
        """Return the passes of a whole run over its share of the training tokens."""
        return config.max_iters * config.tokens_per_iter / (config.data_fraction * self.train_tokens)

    def bits_per_byte(self, loss: float) -> float | None:
        """Convert nats per token to bits per byte of text, which compare across tokenizers. None: bytes unknown."""
        return None if self.bytes_per_token is None else loss / math.log(2) / self.bytes_per_token


@dataclass(frozen=True, kw_only=True)
class Results:
    """A study and everything that was recorded of it."""

    study: Study
    data: DataFacts
    runs: tuple[Run, ...]
    provenance: Mapping[str, str]
    """versions, device, commit, command: what is needed to repeat it"""
    seconds: float
    """time spent on the sweep over all its sessions"""
    store: Path | None = None
    """file that it was read from; None: not from a file"""
    damaged: tuple[str, ...] = ()
    """what can't be read of the store and is left out, in sentences"""

    def command(self, verb: str, *options: str) -> str:
        """Return the command `sweep VERB` for this study, with `--out` where it needs it."""
        return command(verb, self.study.name, *options, store=self.store)

    @functools.cached_property
    def reference(self) -> TrainConfig | None:
        """The baseline's config under the search's seed, whether or not its run is complete."""
        runs = [run for run in self.runs if run.origin == "baseline"]
        first = min(runs, key=self._search_seed_first, default=None)
        return None if first is None else first.config

    @functools.cached_property
    def baseline_runs(self) -> tuple[Run, ...]:
        """The baseline's complete runs, one per seed, the search's seed first; those of the confirm phase included."""
        runs = [run for run in self.runs if run.val_loss is not None and self._is_baseline(run)]
        return tuple(sorted(runs, key=self._search_seed_first))

    @functools.cached_property
    def search_runs(self) -> tuple[Run, ...]:
        """The runs whose trials the sampler sees: those of the search's own Optuna study."""
        return tuple(run for run in self.runs if run.optuna_study == self.study.name)

    @functools.cached_property
    def best(self) -> Run | None:
        """The complete trial of the search with the lowest final loss; the earliest in a tie."""
        return best_of(self.runs, search=self.study.name)

    @functools.cached_property
    def origin_by_seed(self) -> Mapping[int, Run]:
        """The runs of the origin by seed: its own, which going on continues, and the unchanged races.

        Going on is measured on other windows. Its points are moved to meet the origin's last one.
        """
        runs = [run for run in self.runs if run.before_trials and run.knob is None and run.origin != GOING_ON]
        going_on = next((run for run in self.runs if run.origin == GOING_ON and run.points), None)
        return {run.seed: _continued(run, going_on) if run.origin == ORIGIN else run for run in runs if run.points}

    def _is_baseline(self, run: Run) -> bool:
        if run.origin != "confirm" or self.reference is None:
            return run.origin == "baseline"
        return run.config == self.reference.replace(seed=run.seed)

    def _search_seed_first(self, run: Run) -> tuple[bool, int]:
        return run.seed != self.study.seed, run.seed


def _continued(origin: Run, going_on: Run | None) -> Run:
    """Return the origin's run with the points of going on after its own."""
    if going_on is None or going_on.points[0].step != origin.points[-1].step:
        return origin
    offset = origin.points[-1].val_loss - going_on.points[0].val_loss
    later = (dataclasses.replace(point, val_loss=point.val_loss + offset) for point in going_on.points[1:])
    return dataclasses.replace(origin, points=(*origin.points, *later))


def best_of(runs: Iterable[Run], *, search: str) -> Run | None:
    """Return the complete run of the Optuna study `search` with the lowest final loss; the earliest in a tie."""
    losses = [
        (run.val_loss, run.id, run)
        for run in runs
        if run.outcome == Outcome.COMPLETE and run.val_loss is not None and run.optuna_study == search
    ]
    return min(losses, default=(0.0, 0, None))[2]


def counts(runs: Iterable[Run]) -> dict[str, int]:
    """Count ended runs by outcome; every outcome is named."""
    counted = Counter(run.outcome for run in runs)
    return {outcome.value: counted[outcome] for outcome in ENDED}
