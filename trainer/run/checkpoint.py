"""Checkpoints: a ckpt.pt in nanoGPT's exact form, and beside it a state file for an exact resume.

`ckpt.pt` holds nanoGPT's six keys and nothing else. `state-<iter>.pt` holds the random number generators, the data
position, the history and the settings. The state is written before the checkpoint, so the checkpoint's iteration
always names a complete state, whenever the process is killed.

torch writes a zip archive, which has a checksum (CRC-32) of every tensor. torch.load doesn't compare them, so a flipped
bit would train on. `load` compares them. The checkpoint before is kept as `previous.pt` and `previous-state.pt`, for
`mend` to go back to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from trainer import nanogpt
from trainer.atomic import disk_remedy, replacing
from trainer.config import EXPORTABLE, TrainConfig
from trainer.data.other_formats import pointer
from trainer.digest import check_sums
from trainer.errors import CheckpointError, ConfigError, DamagedCheckpoint
from trainer.input_file import check_input
from trainer.model.gpt import GPT
from trainer.model.optim import Moments, named_moments
from trainer.run.weights import bare_name, nanogpt_weights, other_program

FILE = "ckpt.pt"
PREVIOUS, PREVIOUS_STATE = "previous.pt", "previous-state.pt"
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
    before: int | None = None,
) -> None:
    """Write state-<iter_num>.pt, then ckpt.pt, each atomically, and delete older states.

    `before` is the iteration of this run's checkpoint that is in the folder, which is kept as the previous one. None:
    none is kept. Raises CheckpointError if the disk is full or the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if before is None:
            drop_previous(folder)
        elif before != iter_num:
            _keep_as_previous(folder, before)
        write({**state, "iter_num": iter_num}, folder / f"state-{iter_num}.pt")
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
        remedy = disk_remedy(error) or "make the folder writable and run again"
        raise CheckpointError(
            f"{folder}: the checkpoint cannot be written: {error.strerror or error}; {remedy}"
        ) from error


def write(content: object, path: Path) -> None:
    """Write `content` to `path` atomically with torch.save. Raises OSError."""
    with replacing(path) as file:
        watched = _Watched(file)
        try:
            torch.save(content, watched)  # type: ignore[arg-type]  # it calls write and flush alone
        except RuntimeError as error:
            if watched.error is None:
                raise
            raise watched.error from error


class _Watched:
    """A file that remembers why a write failed: torch turns the error of a full disk into one of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.flush = file.flush
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise


def drop_previous(folder: Path) -> None:
    """Delete the checkpoint before the last one, if it was kept."""
    for name in (PREVIOUS, PREVIOUS_STATE):
        (folder / name).unlink(missing_ok=True)


def _keep_as_previous(folder: Path, iter_num: int) -> None:
    """Give the checkpoint in the folder, of iteration `iter_num`, a second name, by which it stays.

    A file system without hard links (exFAT) keeps none.
    """
    state = folder / f"state-{iter_num}.pt"
    if not state.exists():  # someone went back to the previous one by hand, and its state has the other name
        return
    drop_previous(folder)
    with contextlib.suppress(OSError):
        os.link(state, folder / PREVIOUS_STATE)
        os.link(folder / FILE, folder / PREVIOUS)


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
    """Load the checkpoint of a run's folder to the CPU; None if there is none.

    Raises DamagedCheckpoint for a file that is damaged, also where a bit has flipped, and CheckpointError for one that
    can't be read.
    """
    path = folder / FILE
    if not path.exists():
        return None
    before = f"mv {PREVIOUS} {FILE} goes back to the one before, or " if (folder / PREVIOUS).exists() else ""
    remedy = f"{before}delete it to start anew"
    check_sums(path, remedy=remedy)
    loaded = read(path, remedy=remedy)
    for state_path in (folder / f"state-{loaded.iter_num}.pt", folder / PREVIOUS_STATE):
        if state_path.exists():
            check_sums(state_path, remedy=remedy)
            state = _read(state_path, remedy)
            if isinstance(state, dict) and state.get("iter_num", loaded.iter_num) == loaded.iter_num:
                return replace(loaded, state={key: value for key, value in state.items() if key != "iter_num"})
    return loaded


def mend(folder: Path) -> str:
    """Replace a damaged checkpoint of a run by the one before; delete it where that is damaged too, or not there.

    Returns what was done, in words, and "" for a checkpoint that is whole. Raises CheckpointError for a file that can't
    be read or written.
    """
    problem = _damage(folder)
    if not problem:
        return ""
    try:
        if (folder / PREVIOUS).exists():
            (folder / PREVIOUS).replace(folder / FILE)
            if not _damage(folder):
                return f"its checkpoint was dropped, and the run goes on from the one before: {problem}"
        for path in (folder / FILE, folder / PREVIOUS_STATE, *folder.glob("state-*.pt")):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{folder}: the damaged checkpoint can't be dropped: {error.strerror or error}"
        ) from error
    return f"its checkpoint was dropped, and the run is trained again from its start: {problem}"


def _damage(folder: Path) -> str:
    """Say why the checkpoint of a run's folder can't be resumed from; empty: it can, or there is none."""
    try:
        loaded = load(folder)
    except DamagedCheckpoint as error:
        return str(error)
    if loaded is not None and loaded.state is None:
        return f"{folder / f'state-{loaded.iter_num}.pt'}: is missing"
    return ""


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
        raise DamagedCheckpoint(
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
        raise DamagedCheckpoint(f"{path}: is not a nanoGPT checkpoint: {error}") from error
    except (CheckpointError, ConfigError) as error:
        raise DamagedCheckpoint(f"{path}: {error}") from error


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
        raise DamagedCheckpoint(
            f"{path}: is damaged, or holds more than tensors and plain Python{more} "
            f"(it is read with weights_only=True); {remedy} ({type(error).__name__})"
        ) from error
