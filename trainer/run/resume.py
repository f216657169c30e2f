"""Resuming from a checkpoint: the same run exactly, or another run's weights with init_from=resume."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.errors import CheckpointError
from trainer.points import Point
from trainer.run.checkpoint import SHAPE, Checkpoint

MACHINE = ("init_from", "device", "compile", "log_interval", "always_save_checkpoint")
"""Settings that may differ between a checkpoint and the run that resumes it; with an origin, init_from may not."""

SPLIT = ("batch_size", "gradient_accumulation_steps", "eval_windows", "final_windows")
"""Settings of the split into micro-batches. Their totals must be the same. In parity mode each setting must be the
same, because batches are drawn one micro-batch at a time."""


@dataclasses.dataclass(kw_only=True)
class History:
    """The points and losses of a run so far, kept in its checkpoint."""

    first_step: int = 0
    """step at which the run began: 0, or the iteration of the checkpoint whose weights it took"""
    points: list[Point] = dataclasses.field(default_factory=list)
    logged: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    """logged iterations and their training losses"""
    grad_norm: float | None = None
    """gradient norm of the last update, before clipping"""
    final: tuple[float, float] | None = None
    """validation loss on the large window set and its standard error, once the run is complete"""
    seconds: float = 0.0
    """duration of the earlier processes of this run"""
    training_seconds: float = 0.0
    """duration of the training since the last evaluation, in the earlier processes of this run"""

    def as_state(self) -> dict[str, Any]:
        """Return plain values and tensors that torch.load(weights_only=True) can read."""
        iters, losses = zip(*self.logged, strict=True) if self.logged else ((), ())
        return {
            "first_step": self.first_step,
            "points": [dataclasses.asdict(point) for point in self.points],
            "logged_iters": torch.tensor(iters, dtype=torch.int64),
            "logged_losses": torch.tensor(losses, dtype=torch.float64),
            "grad_norm": self.grad_norm,
            "final": self.final,
            "seconds": self.seconds,
            "training_seconds": self.training_seconds,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> History:
        """Restore the history from the result of `as_state`."""
        return cls(
            first_step=state["first_step"],
            points=[Point(**point) for point in state["points"]],
            logged=list(zip(state["logged_iters"].tolist(), state["logged_losses"].tolist(), strict=True)),
            grad_norm=state["grad_norm"],
            final=state["final"],
            seconds=state["seconds"],
            training_seconds=state.get("training_seconds", 0.0),  # checkpoints of version 0.1.0 lack it
        )

    def in_order(self) -> list[Point | tuple[int, float]]:
        """Return evaluations and logged iterations in their order: a step is evaluated before it is trained on."""
        events: list[tuple[int, int, Point | tuple[int, float]]] = []
        events += [(point.step, 0, point) for point in self.points]
        events += [(step, 1, (step, loss)) for step, loss in self.logged]
        return [event for _, _, event in sorted(events, key=lambda entry: entry[:2])]


def state_to_resume(loaded: Checkpoint | None, config: TrainConfig, data: Dataset) -> dict[str, Any] | None:
    """Return the state for an exact resume; None to start anew, or from another run's weights (init_from=resume).

    Raises CheckpointError if the loaded checkpoint belongs to another run and init_from is not "resume" or the config
    names an origin, or if init_from is "resume" and there is no checkpoint.
    """
    if loaded is None:
        if config.init_from == "resume":
            raise CheckpointError("init_from=resume, but the output folder holds no ckpt.pt to resume from")
        return None
    differences = _differences(loaded.state, config, data) if loaded.state is not None else []
    if loaded.state is not None and not differences:
        return loaded.state
    if config.init_from == "resume" and not config.origin:
        return None
    owner = f"another run ({'; '.join(differences[:4])})" if differences else "another program"
    continuing = "" if config.origin else "set init_from=resume to continue from its weights, or "
    raise CheckpointError(f"the output folder holds a checkpoint of {owner}; {continuing}name another folder")


def with_shape_of(loaded: Checkpoint, config: TrainConfig) -> TrainConfig:
    """Return the config with the checkpoint's model shape. Raises CheckpointError if no iterations remain."""
    check_iterations_remain(loaded, config)
    return config.replace(**{key: loaded.model_args[key] for key in SHAPE})


def check_iterations_remain(loaded: Checkpoint, config: TrainConfig) -> None:
    """Raise CheckpointError if the checkpoint has done all iterations of the config."""
    if loaded.iter_num >= config.max_iters:
        raise CheckpointError(
            f"the checkpoint has done {loaded.iter_num} iterations and max_iters is {config.max_iters}; raise max_iters"
        )


def generators() -> dict[str, Any]:
    """Return the states of the random generators, from which dropout and parity mode's batches are drawn."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_generators(states: dict[str, Any]) -> None:
    """Restore the generators from the result of `generators`."""
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available() and states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])


def _differences(state: dict[str, Any], config: TrainConfig, data: Dataset) -> list[str]:
    """Describe the differences between a checkpoint's run and this one; empty: the same run."""
    defaults = TrainConfig().as_dict()  # a setting newer than the checkpoint had its default
    saved_config = TrainConfig(**{name: state["settings"].get(name, value) for name, value in defaults.items()})
    saved, current = _fixed(saved_config), _fixed(config)
    differences = [
        f"{key}: {saved[key]!r} there, {value!r} here"
        for key, value in current.items()
        if key in saved and saved[key] != value
    ]
    if state["data"] != data.fingerprint:
        differences.append(f"data: {state['data'][:12]} there, {data.fingerprint[:12]} here")
    return differences


def _fixed(config: TrainConfig) -> dict[str, Any]:
    """Return the settings and totals that identify a run."""
    settings = {key: value for key, value in config.as_dict().items() if key not in MACHINE}
    if config.origin:  # a branch and the run that goes on from the same checkpoint are two runs
        settings["init_from"] = config.init_from
    if config.sampling == "nanogpt":
        return settings
    totals = {
        "sequences per iteration": config.sequences_per_iter,
        "windows per evaluation": config.windows,
        "windows of the final evaluation": config.windows_at_the_end,
    }
    return {**{key: value for key, value in settings.items() if key not in SPLIT}, **totals}
