"""Checkpoints: a ckpt.pt in nanoGPT's exact form, and beside it a state file for an exact resume.

`ckpt.pt` holds nanoGPT's six keys and nothing else. `state-<iter>.pt` holds the random number generators, the data
position, the history and the settings. The state is written before the checkpoint, so the checkpoint's iteration
always names a complete state, whenever the process is killed.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer import nanogpt
from trainer.atomic import replacing
from trainer.config import EXPORTABLE, TrainConfig
from trainer.errors import CheckpointError

FILE = "ckpt.pt"
_REQUIRED_KEYS = ("model", "optimizer", "model_args", "iter_num", "best_val_loss")
_COMPILED = "_orig_mod."  # torch.compile's prefix of parameter names


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A nanoGPT checkpoint, and the state if this trainer wrote it."""

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    model_args: dict[str, Any]
    iter_num: int
    """optimizer updates done"""
    best_val_loss: float
    state: dict[str, Any] | None
    """content of the state file; None: nanoGPT wrote it, so only weights, optimizer and iteration can be resumed"""


def save(
    folder: Path,
    *,
    model: dict[str, Tensor],
    optimizer: dict[str, Any],
    config: TrainConfig,
    dataset: Path,
    iter_num: int,
    best_val_loss: float,
    state: dict[str, Any],
) -> None:
    """Write state-<iter_num>.pt, then ckpt.pt, each atomically, and delete older states.

    Raises CheckpointError if the disk is full or the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(state, folder / f"state-{iter_num}.pt")
        form = nanogpt_form(
            model=model,
            optimizer=optimizer,
            config=config,
            dataset=dataset,
            out=folder,
            iter_num=iter_num,
            best_val_loss=best_val_loss,
        )
        write(form, folder / FILE)
        for state_path in folder.glob("state-*.pt"):
            if state_path.name != f"state-{iter_num}.pt":
                state_path.unlink()
    except OSError as error:
        raise CheckpointError(f"{folder}: the checkpoint cannot be written: {error.strerror or error}") from error


def write(content: object, path: Path) -> None:
    """Write `content` to `path` atomically with torch.save. Raises OSError."""
    with replacing(path) as file:
        torch.save(content, file)


def nanogpt_form(
    *,
    model: dict[str, Tensor],
    optimizer: dict[str, Any],
    config: TrainConfig,
    dataset: Path,
    out: Path,
    iter_num: int,
    best_val_loss: float,
) -> dict[str, Any]:
    """Return a checkpoint in nanoGPT's form: its six keys, with tensors and plain Python."""
    settings = {**nanogpt.DEFAULTS, **{key: getattr(config, key) for key in EXPORTABLE}}
    if config.device == "auto":
        settings["device"] = nanogpt.DEFAULTS["device"]
    return {
        "model": {name.removeprefix(_COMPILED): tensor for name, tensor in model.items()},
        "optimizer": optimizer,
        "model_args": {
            "n_layer": config.n_layer,
            "n_head": config.n_head,
            "n_embd": config.n_embd,
            "block_size": config.block_size,
            "bias": config.bias,
            "vocab_size": config.vocab_size,
            "dropout": config.dropout,
        },
        "iter_num": iter_num,
        "best_val_loss": torch.tensor(best_val_loss),
        "config": {**settings, "dataset": str(dataset), "out_dir": str(out)},
    }


def load(folder: Path) -> Checkpoint | None:
    """Load the checkpoint of a folder to the CPU; None if there is none.

    Raises CheckpointError for a file that is damaged or holds anything but tensors and plain Python.
    """
    path = folder / FILE
    if not path.exists():
        return None
    form = _read(path)
    missing = [key for key in _REQUIRED_KEYS if not isinstance(form, dict) or key not in form]
    if missing:
        raise CheckpointError(f"{path}: is not a nanoGPT checkpoint: it lacks {', '.join(missing)}")
    iter_num = int(form["iter_num"])
    state_path = folder / f"state-{iter_num}.pt"
    return Checkpoint(
        model={name.removeprefix(_COMPILED): tensor for name, tensor in form["model"].items()},
        optimizer=form["optimizer"],
        model_args=form["model_args"],
        iter_num=iter_num,
        best_val_loss=float(form["best_val_loss"]),
        state=_read(state_path) if state_path.exists() else None,
    )


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: is damaged, or holds more than tensors and plain Python "
            f"(it is read with weights_only=True); delete it to start anew ({type(error).__name__})"
        ) from error
