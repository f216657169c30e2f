"""What a checkpoint lets a run go on from: itself exactly, or another run's weights when asked (init_from=resume)."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.errors import CheckpointError
from trainer.points import Point
from trainer.run.checkpoint import Checkpoint

MACHINE = ("init_from", "device", "compile", "log_interval", "always_save_checkpoint")
"""Settings that may differ between a checkpoint and the run that goes on from it."""

SPLIT = ("batch_size", "gradient_accumulation_steps", "eval_windows", "final_windows")
"""Settings of the split into micro-batches: what they come to must be the same, or each of them in parity mode, whose
batches are drawn one micro-batch at a time."""

SHAPE = ("n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size")
"""Settings that a resumed run takes from the checkpoint, as nanoGPT does."""


@dataclasses.dataclass(kw_only=True)
class History:
    """What a run has seen and said so far; a checkpoint carries it along."""

    first_step: int = 0
    """the step it began at: 0, or the iteration of the checkpoint whose weights it took"""
    points: list[Point] = dataclasses.field(default_factory=list)
    logged: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    """logged iterations and their training losses"""
    grad_norm: float | None = None
    """of the last update"""
    final: tuple[float, float] | None = None
    """validation loss on the large window set and its standard error, once the run is through"""
    seconds: float = 0.0
    """time taken by the processes before this one"""

    def as_state(self) -> dict[str, Any]:
        """Plain values and tensors, as torch.load(weights_only=True) takes them."""
        iters, losses = zip(*self.logged, strict=True) if self.logged else ((), ())
        return {
            "first_step": self.first_step,
            "points": [dataclasses.asdict(point) for point in self.points],
            "logged_iters": torch.tensor(iters, dtype=torch.int64),
            "logged_losses": torch.tensor(losses, dtype=torch.float64),
            "grad_norm": self.grad_norm,
            "final": self.final,
            "seconds": self.seconds,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> History:
        """The history that `as_state` wrote down."""
        return cls(
            first_step=state["first_step"],
            points=[Point(**point) for point in state["points"]],
            logged=list(zip(state["logged_iters"].tolist(), state["logged_losses"].tolist(), strict=True)),
            grad_norm=state["grad_norm"],
            final=state["final"],
            seconds=state["seconds"],
        )

    def in_order(self) -> list[Point | tuple[int, float]]:
        """Evaluations and logged iterations as they came: a step is evaluated before it is trained on."""
        points: list[tuple[int, int, Point | tuple[int, float]]] = [(point.step, 0, point) for point in self.points]
        iterations: list[tuple[int, int, Point | tuple[int, float]]] = [(line[0], 1, line) for line in self.logged]
        return [event for _, _, event in sorted(points + iterations, key=lambda entry: entry[:2])]


def state_to_resume(found: Checkpoint | None, config: TrainConfig, data: Dataset) -> dict[str, Any] | None:
    """The state for an exact resume; None to start afresh, or from the weights of another run (init_from=resume).

    Raises CheckpointError where the folder's checkpoint is another run's and init_from doesn't ask for that.
    """
    if found is None:
        if config.init_from == "resume":
            raise CheckpointError("init_from=resume, but the output folder holds no ckpt.pt to go on from")
        return None
    if found.state is not None:
        differences = _differences(found.state, config, data)
        if not differences:
            return found.state
        whose = f"another run ({'; '.join(differences[:4])})"
    else:
        whose = "another program"
    if config.init_from == "resume":
        return None
    raise CheckpointError(
        f"the output folder holds a checkpoint of {whose}; "
        "set init_from=resume to go on from its weights, or name another folder"
    )


def in_the_shape_of(found: Checkpoint, config: TrainConfig) -> TrainConfig:
    """The config with the checkpoint's model shape. Raises CheckpointError where there is nothing left to train."""
    if found.iter_num >= config.max_iters:
        raise CheckpointError(
            f"the checkpoint has done {found.iter_num} iterations and max_iters is {config.max_iters}; raise max_iters"
        )
    return config.replace(**{key: found.model_args[key] for key in SHAPE})


def generators() -> dict[str, Any]:
    """States of the generators that dropout draws from, and parity mode's batches."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_generators(states: dict[str, Any]) -> None:
    """Put the generators back to what `generators` wrote down."""
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available() and states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])


def _differences(state: dict[str, Any], config: TrainConfig, data: Dataset) -> list[str]:
    known = TrainConfig().as_dict()  # what is newer than the checkpoint was as by default
    there = TrainConfig(**{name: state["settings"].get(name, value) for name, value in known.items()})
    before, now = _fixed(there), _fixed(config)
    lines = [
        f"{key}: {before[key]!r} there, {value!r} here"
        for key, value in now.items()
        if key in before and before[key] != value
    ]
    if state["data"] != data.fingerprint:
        lines.append(f"data: {state['data'][:12]} there, {data.fingerprint[:12]} here")
    return lines


def _fixed(config: TrainConfig) -> dict[str, Any]:
    """What must be the same for a run to be the same."""
    settings = {key: value for key, value in config.as_dict().items() if key not in MACHINE}
    if config.sampling == "nanogpt":
        return settings
    totals = {
        "sequences an iteration": config.sequences_per_iter,
        "windows of an evaluation": config.windows,
        "windows of the final evaluation": config.windows_at_the_end,
    }
    return {**{key: value for key, value in settings.items() if key not in SPLIT}, **totals}
