"""Origins: what a nanoGPT checkpoint says about the run that wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import nanogpt
from trainer.digest import sha256_of
from trainer.errors import CheckpointError
from trainer.nanogpt import Value
from trainer.run import checkpoint
from trainer.run.checkpoint import SHAPE, Checkpoint

DAMAGED = "name a complete copy of a ckpt.pt as nanoGPT writes it"
"""remedy for an origin that can't be read"""
_EPS = 1e-8  # of AdamW, in nanoGPT and here


@dataclass(frozen=True, kw_only=True)
class OriginFacts:
    """A run that plateaued, as its checkpoint describes it."""

    path: Path
    """the ckpt.pt"""
    sha256: str
    """of the file, hexadecimal"""
    iter_num: int
    """optimizer updates done"""
    settings: dict[str, Value]
    """the run's settings by nanoGPT's names: what its checkpoint trained with, even where its config says otherwise.
    Without those that the file doesn't hold."""
    vocab_size: int
    dataset: str
    """nanoGPT's name of the data; "": unknown"""
    best_val_loss: float
    """nats per token, measured by the run itself on its own batches"""
    notes: tuple[str, ...]
    """sentences about what the settings don't show or what may surprise"""


def read_origin(path: Path) -> OriginFacts:
    """Read the facts about an origin from its checkpoint, or from a folder that holds a ckpt.pt.

    Raises CheckpointError for a file that is missing, damaged, holds more than tensors and plain Python, or isn't a
    nanoGPT checkpoint.
    """
    file = checkpoint_file(path)
    loaded = checkpoint.read(file, remedy=DAMAGED)
    try:
        return _facts(file, loaded)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: is not a nanoGPT checkpoint: {error}") from error


def _facts(file: Path, loaded: Checkpoint) -> OriginFacts:
    given, notes = _given_settings(loaded)
    in_force = {**_shape(loaded), **_optimizer_settings(loaded)}
    for name, value in in_force.items():
        if name in given and given[name] != value:
            notes.append(
                f"{name} is {value!r}, as the checkpoint's {'model' if name in SHAPE else 'optimizer'} has it; its "
                f"config says {given[name]!r}, which nanoGPT ignores when it resumes"
            )
    settings = {name: {**given, **in_force}[name] for name in nanogpt.DEFAULTS if name in given or name in in_force}
    return OriginFacts(
        path=file,
        sha256=sha256_of(file),
        iter_num=loaded.iter_num,
        settings=settings,
        vocab_size=int(loaded.model_args["vocab_size"]),
        dataset=str(settings.get("dataset", "")),
        best_val_loss=loaded.best_val_loss,
        notes=(*notes, *_notes(loaded, settings)),
    )


def checkpoint_file(path: Path) -> Path:
    """Return the checkpoint at `path`: the file itself, or the ckpt.pt in a folder. Raises CheckpointError."""
    file = path / checkpoint.FILE if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"{file}: there is no such file; name nanoGPT's {checkpoint.FILE} or the folder it is in")
    return file


def _given_settings(loaded: Checkpoint) -> tuple[dict[str, Value], list[str]]:
    """Return the nanoGPT settings in the checkpoint's config, in nanoGPT's types, and notes on what was passed over."""
    given: dict[str, Value] = {}
    others, odd = [], []
    for name, value in loaded.config.items():
        expected = type(nanogpt.DEFAULTS[name]) if name in nanogpt.DEFAULTS else None
        if expected is None:
            others.append(name if name.isprintable() else repr(name))
        elif type(value) is expected or (expected is float and type(value) is int):
            given[name] = expected(value)
        else:
            odd.append(f"{name}={value!r:.60}")
    notes = []
    if others:
        notes.append(f"its config has settings that nanoGPT doesn't know, and they are passed over: {_listed(others)}")
    if odd:
        notes.append(f"its config has values of another type than nanoGPT's, and they are passed over: {_listed(odd)}")
    return given, notes


def _listed(words: list[str]) -> str:
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")


def _shape(loaded: Checkpoint) -> dict[str, Value]:
    return {name: loaded.model_args[name] for name in SHAPE if name in nanogpt.DEFAULTS}


def _optimizer_settings(loaded: Checkpoint) -> dict[str, Value]:
    """Return the weight decay and the betas that the optimizer has trained with."""
    matrices = loaded.optimizer["param_groups"][0]
    found: dict[str, Value] = {}
    if "weight_decay" in matrices:
        found["weight_decay"] = float(matrices["weight_decay"])
    if "betas" in matrices:
        found["beta1"], found["beta2"] = (float(beta) for beta in matrices["betas"])
    return found


def _notes(loaded: Checkpoint, settings: Mapping[str, Any]) -> Iterator[str]:
    if not loaded.config:
        yield "the checkpoint holds no config, so only its shape and its optimizer's settings are known"
    if not loaded.moments:
        yield "the checkpoint holds no moments; AdamW begins them anew"
    eps = loaded.optimizer["param_groups"][0].get("eps", _EPS)
    if eps != _EPS:
        yield f"its AdamW has eps={eps:g}; here eps is {_EPS:g}, as in nanoGPT"
    decay_end = settings.get("lr_decay_iters")
    if settings.get("decay_lr") and decay_end is not None and loaded.iter_num > decay_end:
        rate = f"min_lr={settings['min_lr']:g}" if "min_lr" in settings else "min_lr"
        yield (
            f"iteration {loaded.iter_num} is beyond lr_decay_iters={decay_end}: since then the learning rate has been "
            f"{rate}, and that alone can be the plateau"
        )
