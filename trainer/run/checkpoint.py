"""Checkpoints: nanoGPT's ckpt.pt, exactly, and beside it what an exact resume needs besides.

`ckpt.pt` holds nanoGPT's six keys and nothing else. `state-<iter>.pt` holds the rest: random number
generators, data position, history, settings. The state is written first and the checkpoint renamed into
place after it, so whatever moment a process is killed at, the checkpoint's iteration names a state that is whole.
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
KEYS = ("model", "optimizer", "model_args", "iter_num", "best_val_loss", "config")
_COMPILED = "_orig_mod."


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint as nanoGPT has it, and our state where it is one of ours."""

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    model_args: dict[str, Any]
    iter_num: int
    """updates done"""
    best_val_loss: float
    state: dict[str, Any] | None
    """None: written by nanoGPT itself, so only the weights, the optimizer and the iteration go on"""


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
    """Write state-<iter_num>.pt, then ckpt.pt, each beside its place and renamed; drop older states.

    Raises CheckpointError where the disk is full or the folder can't be written.
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
        for old in folder.glob("state-*.pt"):
            if old.name != f"state-{iter_num}.pt":
                old.unlink()
    except OSError as error:
        raise CheckpointError(f"{folder}: the checkpoint cannot be written: {error.strerror or error}") from error


def write(content: object, path: Path) -> None:
    """torch.save `content` in the place of `path`. Raises OSError."""
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
    """nanoGPT's checkpoint: its six keys, plain Python and tensors."""
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
    """The checkpoint of a folder, on the CPU; None where there is none.

    Raises CheckpointError for a file that is damaged, or holds anything but tensors and plain Python.
    """
    path = folder / FILE
    if not path.exists():
        return None
    form = _read(path)
    missing = [key for key in KEYS[:5] if not isinstance(form, dict) or key not in form]
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
            f"(it is read with weights_only=True); delete it to start afresh ({type(error).__name__})"
        ) from error
