"""The start of a run: from scratch, from the checkpoint in its folder, or from another run's checkpoint, its origin."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import AdamW

from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.digest import sha256_of
from trainer.errors import CheckpointError
from trainer.model import grow
from trainer.model.gpt import GPT
from trainer.model.optim import Moments, load_moments
from trainer.run import checkpoint, resume
from trainer.run.checkpoint import SHAPE, Checkpoint
from trainer.run.origin import DAMAGED, checkpoint_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """What a run begins with."""

    config: TrainConfig
    """the run's config, its vocabulary filled in and its shape as it trains"""
    step: int = 0
    best_val_loss: float = math.inf
    weights: dict[str, Tensor] | None = None
    """None: those that the seed draws"""
    moments: Moments = dataclasses.field(default_factory=dict)
    state: dict[str, Any] | None = None
    """content of the run's own state file, for an exact resume"""

    def load_into(self, model: GPT, optimizer: AdamW) -> None:
        """Load the weights and moments. The optimizer keeps its settings."""
        if self.weights is not None:
            model.load_state_dict(self.weights)
            load_moments(optimizer, model, self.moments)


def start_of(config: TrainConfig, data: Dataset, *, out: Path | None, origin: Path | None) -> Start:
    """Return the start of a run: exactly where the checkpoint in `out` left it, if there is one, else its beginning.

    Raises CheckpointError if a checkpoint can't be read, belongs to another run, or doesn't suit the config.
    """
    if origin is not None and not config.origin:
        raise CheckpointError(
            f"{origin}: was given to go on from, but the config names no origin; set it to its sha256"
        )
    loaded = checkpoint.load(out) if out is not None else None
    if loaded is None and config.origin:
        start = from_origin(config, origin)
        _check_vocabulary(start.config, data)
        return start
    known = loaded.model_args["vocab_size"] if loaded is not None and config.origin else data.vocab_size
    config = config.replace(vocab_size=config.vocab_size or known)
    state = resume.state_to_resume(loaded, config, data)
    if loaded is None:
        return Start(config=config)
    return Start(
        config=config if state is not None else resume.with_shape_of(loaded, config),
        step=loaded.iter_num,
        best_val_loss=loaded.best_val_loss,
        weights=loaded.model,
        moments=loaded.moments,
        state=state,
    )


def from_origin(config: TrainConfig, origin: Path | None) -> Start:
    """Return the start of a run that has done no step of its own yet and takes its weights from another run.

    `origin` is the checkpoint that the config names. Raises CheckpointError for another file, and for a shape that the
    run can't reach from it.
    """
    if origin is None:
        raise CheckpointError(f"the run goes on from the checkpoint {config.origin[:12]}, but no file was given for it")
    path = checkpoint_file(origin)
    sha256 = sha256_of(path)
    if sha256 != config.origin:
        raise CheckpointError(
            f"{path}: is not the checkpoint that the run goes on from: its sha256 begins with {sha256[:12]}, the "
            f"config's origin with {config.origin[:12]}; give the file as it was, or set origin to {sha256}"
        )
    loaded = checkpoint.read(path, remedy=DAMAGED)
    config = config.replace(vocab_size=config.vocab_size or loaded.model_args["vocab_size"])
    if config.init_from == "branch":
        growth = grow.growth_to(config, loaded.model_args)
        weights, moments = grow.grown(loaded.model, loaded.moments, growth, seed=config.seed)
        return Start(config=config, weights=weights, moments=moments)
    _check_shape(loaded, config)
    resume.check_iterations_remain(loaded, config)
    return Start(
        config=config,
        step=loaded.iter_num,
        best_val_loss=loaded.best_val_loss,
        weights=loaded.model,
        moments=loaded.moments,
    )


def _check_vocabulary(config: TrainConfig, data: Dataset) -> None:
    if config.vocab_size < data.vocab_size:
        raise CheckpointError(
            f"the origin's vocabulary has {config.vocab_size} tokens and the data's {data.vocab_size}; train on the "
            "data that the origin was trained on"
        )


def _check_shape(loaded: Checkpoint, config: TrainConfig) -> None:
    """Raise CheckpointError unless the config's model has the shape of the origin's."""
    for name in SHAPE:
        if getattr(config, name) != loaded.model_args[name]:
            raise CheckpointError(
                f"{name}={getattr(config, name)}, but the origin's is {loaded.model_args[name]}; a run that goes on "
                "as it was keeps its shape: set init_from to branch to grow it, or race another shape from scratch"
            )
