"""Checkpoints: a ckpt.pt in nanoGPT's exact form, and beside it a state file for an exact resume.

`ckpt.pt` holds nanoGPT's six keys and nothing else. `state-<iter>.pt` holds the random number generators, the data
position, the history and the settings. The state is written before the checkpoint, so the checkpoint's iteration
always names a complete state, whenever the process is killed.
"""

from __future__ import annotations

import errno
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer import nanogpt
from trainer.atomic import replacing
from trainer.config import EXPORTABLE, TrainConfig
from trainer.data.other_formats import pointer
from trainer.errors import CheckpointError, ConfigError
from trainer.input_file import check_input
from trainer.model.gpt import GPT
from trainer.model.optim import Moments, named_moments
from trainer.run.weights import bare_name, nanogpt_weights, other_program

FILE = "ckpt.pt"
SHAPE = ("n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size")
"""Settings of the model's shape, which a checkpoint fixes."""
_CLASS = re.compile(r"(?:Unsupported global: GLOBAL|Unsupported class|GLOBAL) ([\w.]+)")  # in torch.load's refusals
_REQUIRED_KEYS = ("model", "optimizer", "model_args", "iter_num", "best_val_loss")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A nanoGPT checkpoint, and the state if this trainer wrote it."""

    model: dict[str, Tensor]
    """weights by today's names: without a wrapper's prefix and without attention masks"""
    optimizer: dict[str, Any]
    moments: Moments
    """the optimizer's moments by parameter"""
    model_args: dict[str, Any]
    iter_num: int
    """optimizer updates done"""
    best_val_loss: float
    config: dict[str, Any]
    """nanoGPT's settings of the run as the file holds them; empty: it holds none"""
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
    if config.init_from == "branch":  # nanoGPT doesn't know the word
        settings["init_from"] = "resume"
    if config.device == "auto":
        settings["device"] = nanogpt.DEFAULTS["device"]
    return {
        "model": {bare_name(name): tensor for name, tensor in model.items()},
        "optimizer": optimizer,
        "model_args": {**{key: getattr(config, key) for key in SHAPE}, "dropout": config.dropout},
        "iter_num": iter_num,
        "best_val_loss": torch.tensor(best_val_loss),
        "config": {**settings, "dataset": str(dataset), "out_dir": str(out)},
    }


def load(folder: Path) -> Checkpoint | None:
    """Load the checkpoint of a run's folder to the CPU; None if there is none. Raises CheckpointError."""
    path = folder / FILE
    if not path.exists():
        return None
    loaded = read(path, remedy="delete it to start anew")
    state_path = folder / f"state-{loaded.iter_num}.pt"
    return replace(loaded, state=_read(state_path, "delete it to start anew")) if state_path.exists() else loaded


def read(path: Path, *, remedy: str) -> Checkpoint:
    """Read a checkpoint in nanoGPT's form to the CPU, of today's nanoGPT or an older one, without a state.

    `remedy` ends the message about a damaged file. Raises CheckpointError for a file that is damaged or holds anything
    but tensors and plain Python, and for one that isn't a nanoGPT checkpoint or whose weights don't have the shape that
    its model_args say.
    """
    form = _read(path, remedy)
    missing = [key for key in _REQUIRED_KEYS if not isinstance(form, dict) or key not in form]
    if missing:
        other = other_program(form)
        raise CheckpointError(
            f"{path}: is not a nanoGPT checkpoint: it lacks {', '.join(missing)}" + (f"; {other}" if other else "")
        )
    try:
        weights, model_args = nanogpt_weights(form["model"]), dict(form["model_args"])
        model_args.setdefault("bias", "transformer.ln_f.bias" in weights)  # there was no key before February 2023
        weights = _checked(weights, model_args)
        return Checkpoint(
            model=weights,
            optimizer=form["optimizer"],
            moments=named_moments(form["optimizer"], weights),
            model_args=model_args,
            iter_num=_updates(form["iter_num"]),
            best_val_loss=float(form["best_val_loss"]),
            config=_texts(form.get("config", {})),
            state=None,
        )
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: is not a nanoGPT checkpoint: {error}") from error
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _updates(value: Any) -> int:
    number = int(value)
    if not 0 <= number < 2**63:
        raise ValueError(f"iter_num={number} is no number of iterations")
    return number


def _texts(config: Any) -> dict[str, Any]:
    """Return a config whose keys are text, as a Python file's names are. Raises TypeError, ValueError."""
    settings = dict(config)
    if odd := [key for key in settings if not isinstance(key, str)]:
        raise TypeError(f"its config has the key {odd[0]!r:.60}, which is not text")
    return settings


def _checked(weights: Mapping[str, Tensor], model_args: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a model's weights in its order. Raises CheckpointError if they aren't those of its arguments."""
    lacking = [key for key in SHAPE if key not in model_args]
    if lacking:
        raise CheckpointError(f"is not a nanoGPT checkpoint: its model_args lack {', '.join(lacking)}")
    with torch.device("meta"):
        expected = GPT(TrainConfig(**{key: model_args[key] for key in SHAPE})).state_dict()
    for verb, names in (("lacks", expected.keys() - weights.keys()), ("also has", weights.keys() - expected.keys())):
        if names:
            raise CheckpointError(f"the model is not nanoGPT's: it {verb} {', '.join(sorted(names)[:3])}")
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            raise CheckpointError(
                f"{name} has the shape {tuple(weights[name].shape)}, but model_args say {tuple(tensor.shape)}"
            )
    return {name: weights[name] for name in expected}


def _read(path: Path, remedy: str) -> Any:
    try:
        check_input(path)
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols that other programs write
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever it leads torch to
        if isinstance(error, OSError) and not (error.errno == errno.EINVAL and path.is_file()):  # seeks behind the end
            raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
        with path.open("rb") as file:
            if words := pointer(file.read(200)):
                raise CheckpointError(f"{path}: {words}") from error
        held = _CLASS.search(str(error))
        more = f", such as {held[1]}" if held else ""
        raise CheckpointError(
            f"{path}: is damaged, or holds more than tensors and plain Python{more} "
            f"(it is read with weights_only=True); {remedy} ({type(error).__name__})"
        ) from error
