"""The changes that branch_vs_retrain compares: one setting each, in a branch, a race, a squeezed or a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweeps.study.baseline import Value
from sweeps.study.horizon import at_horizon
from sweeps.study.load import load
from sweeps.study.sections import IterHorizon
from sweeps.study.start import Origin
from sweeps.study.study import Study
from trainer.config import TrainConfig
from trainer.schedule import lr_at

STUDY = Path(__file__).with_name("branch_vs_retrain.yaml")
ORIGIN_AT = 2 / 3
"""share of the whole run at which branches go on from it"""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One changed setting of the baseline."""

    name: str
    kind: str
    """rate, schedule, regularisation, optimizer, batch, data or shape"""
    settings: Mapping[str, Value] = field(default_factory=dict)
    """in nanoGPT's units"""
    rate: float = 1.0
    """factor on the learning rate; in a branch on the rate as it stands at the origin"""
    warmup: float | None = None
    """warm-up as a share of the run's iterations"""


BASELINE = Change(name="baseline", kind="")
CHANGES = (
    Change(name="learning_rate x 3", kind="rate", rate=3.0),
    Change(name="learning_rate / 3", kind="rate", rate=1 / 3),
    Change(name="min_lr 0", kind="schedule", settings={"min_lr": 0.0}),
    Change(name="min_lr 5e-4", kind="schedule", settings={"min_lr": 5e-4}),
    Change(name="warm-up 0.3", kind="schedule", warmup=0.3),
    Change(name="dropout 0", kind="regularisation", settings={"dropout": 0.0}),
    Change(name="dropout 0.2", kind="regularisation", settings={"dropout": 0.2}),
    Change(name="dropout 0.4", kind="regularisation", settings={"dropout": 0.4}),
    Change(name="weight_decay 0.001", kind="regularisation", settings={"weight_decay": 1e-3}),
    Change(name="weight_decay 1", kind="regularisation", settings={"weight_decay": 1.0}),
    Change(name="weight_decay 3", kind="regularisation", settings={"weight_decay": 3.0}),
    Change(name="label_smoothing 0.1", kind="regularisation", settings={"label_smoothing": 0.1}),
    Change(name="beta2 0.95", kind="optimizer", settings={"beta2": 0.95}),
    Change(name="beta2 0.999", kind="optimizer", settings={"beta2": 0.999}),
    Change(name="grad_clip 0.1", kind="optimizer", settings={"grad_clip": 0.1}),
    Change(name="batch_size 8", kind="batch", settings={"batch_size": 8}),
    Change(name="batch_size 32", kind="batch", settings={"batch_size": 32}),
    Change(name="data_fraction 0.25", kind="data", settings={"data_fraction": 0.25}),
)
"""what a branch can change"""
SHAPES = (
    Change(name="n_embd 16", kind="shape", settings={"n_embd": 16}),
    Change(name="n_embd 64", kind="shape", settings={"n_embd": 64}),
    Change(name="n_embd 96", kind="shape", settings={"n_embd": 96}),
    Change(name="n_layer 1", kind="shape", settings={"n_layer": 1}),
    Change(name="n_layer 4", kind="shape", settings={"n_layer": 4}),
    Change(name="n_layer 6", kind="shape", settings={"n_layer": 6}),
)
"""what races"""
BY_NAME = {change.name: change for change in (*CHANGES, *SHAPES)}
NOISY = tuple(BY_NAME[name] for name in ("learning_rate x 3", "dropout 0", "weight_decay 1"))
"""changes whose noise is measured in branches and squeezed trials"""
NOISY_RACES = tuple(BY_NAME[name] for name in ("dropout 0", "weight_decay 1"))
NOISY_SHAPES = tuple(BY_NAME[name] for name in ("n_embd 64", "n_layer 4"))
"""changes whose noise is measured in races"""


def study_of(iters: int, *, parquet: str | None = None) -> Study:
    """Return the study at another length of the whole run."""
    lengths = {"max_iters": iters, "lr_decay_iters": iters, "warmup_iters": iters // 32}
    overrides = [f"start.train.max_iters={iters}", *(f"baseline.{name}={value}" for name, value in lengths.items())]
    return load(STUDY, overrides=overrides, data=parquet, devices_have_cuda=False)


def squeezed(study: Study, change: Change, *, iters: int, seed: int, vocab_size: int) -> TrainConfig:
    """Return the run from scratch with a change, its schedule squeezed or not into `iters` iterations."""
    return _changed(_of_length(study, iters, start="scratch"), change, seed=seed, vocab_size=vocab_size)


def branch(study: Study, change: Change, *, origin: Origin, iters: int, seed: int, vocab_size: int) -> TrainConfig:
    """Return the branch with a change, `iters` iterations long."""
    return _changed(_of_length(study, iters, origin=origin), change, seed=seed, vocab_size=vocab_size)


def _of_length(study: Study, iters: int, **changes: object) -> Study:
    return study.model_copy(update={"horizon": IterHorizon(iters=iters), **changes})


def _changed(study: Study, change: Change, *, seed: int, vocab_size: int) -> TrainConfig:
    settings = dict(change.settings)
    if change.rate != 1:
        settings["learning_rate"] = change.rate * float(study.control["learning_rate"])
    return at_horizon(study, settings, seed=seed, vocab_size=vocab_size, warmup_fraction=change.warmup)


def origin_of(config: TrainConfig, checkpoint: Path, sha256: str, *, step: int) -> Origin:
    """Return what a study knows of an origin, for its branches."""
    return Origin(
        checkpoint=str(checkpoint),
        sha256=sha256,
        step=step,
        seed=config.seed,
        learning_rate=lr_at(step, config),
        settings=config.as_dict(),
    )
