"""Settings that a baseline or candidate may give: nanoGPT's names with TrainConfig's types, limits and descriptions.

They are derived from TrainConfig's fields, so limits and descriptions stand in one place. Settings that the study
decides itself, such as seeds, evaluations and devices, are refused with a pointer to the key that decides them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from trainer.config import TrainConfig
from trainer.errors import ConfigError

Value = bool | int | float | str

_FIELDS = {spec.name: spec for spec in dataclasses.fields(TrainConfig)}

ELSEWHERE = {
    "seed": "the study sets the seeds: see seed and baseline_seeds",
    "vocab_size": "the data sets the vocabulary: see tokenizer",
    "sampling": "trials draw their batches by (seed, step), which makes them comparable",
    "eval_interval": "the study spreads its evaluations over the horizon: see evaluations",
    "eval_iters": "trials are judged on fixed windows: see evaluations and final_windows",
    "eval_windows": "the study sets it so that evaluations cost at most a tenth of a trial",
    "final_windows": "it is a key of the study: write it at the top level",
    "eval_only": "a study always trains",
    "log_interval": "the study logs every evaluation",
    "always_save_checkpoint": "the study decides which checkpoints to keep",
    "init_from": "trials start from scratch",
    "origin": "start names the checkpoint that trials go on from",
    "device": "devices are set by workers.devices",
    "out_dir": "the command's --out sets where runs are written",
    "dataset": "the data is a key of the study: data: {bin: FOLDER}",
    "backend": "a trial trains on one device",
    "wandb_log": "the study has its own report",
    "wandb_project": "the study has its own report",
    "wandb_run_name": "the study has its own report",
}
"""Settings of nanoGPT or TrainConfig that a baseline can't have, with the reason."""

NOT_IN_CANDIDATES = {
    "max_iters": "all trials have the length that horizon sets; for a longer decay use lr_decay_iters",
    "block_size": "losses at different context lengths can't be compared",
}
"""Settings of a baseline that a candidate can't change, with the reason."""

NAMES = tuple(name for name in _FIELDS if name not in ELSEWHERE)
"""The settings of a baseline, in TrainConfig's order."""

DEFAULTS: dict[str, Value] = {name: value for name, value in TrainConfig().as_dict().items() if name in NAMES}
"""nanoGPT's default of each of them."""

WHOLE = frozenset(name for name in NAMES if _FIELDS[name].type == "int")
"""The settings that are whole numbers."""


def describe_setting(name: str) -> str:
    """Return TrainConfig's description of a setting."""
    return str(_FIELDS[name].metadata["doc"])


def _annotation(name: str) -> Any:
    spec = _FIELDS[name]
    limits = {"low": "ge", "high": "le", "above": "gt", "below": "lt"}
    bounds = {limits[key]: value for key, value in spec.metadata.items() if key in limits}
    kind: Any = {"int": int, "float": float, "bool": bool, "str": str}[str(spec.type)]
    if "choices" in spec.metadata:
        kind = Literal.__getitem__(spec.metadata["choices"])
    return Annotated[kind, Field(description=spec.metadata["doc"], **bounds)]


def _settings(title: str, names: tuple[str, ...]) -> Any:
    """Return a TypedDict of these settings: all optional, no others allowed."""
    description = "width of an attention head; n_head is n_embd / head_size"
    head_size = Annotated[int, Field(ge=1, le=65536, description=description)]
    create: Any = TypedDict  # mypy accepts literal keys only
    settings = create(title, {**{name: _annotation(name) for name in names}, "head_size": head_size}, total=False)
    settings.__pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    return settings


if TYPE_CHECKING:
    Baseline = dict[str, Value]
    Candidate = dict[str, Value]
else:
    Baseline = _settings("Baseline", NAMES)
    Candidate = _settings("Candidate", tuple(name for name in NAMES if name not in NOT_IN_CANDIDATES))


def complete(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return `settings` with nanoGPT's defaults for missing ones. head_size, if given, takes the place of n_head."""
    filled = {name: settings.get(name, default) for name, default in DEFAULTS.items()}
    if "head_size" in settings:
        del filled["n_head"]
        filled["head_size"] = settings["head_size"]
    return filled


def head_unit(settings: Mapping[str, Value]) -> int:
    """Return the unit that must divide a width: head_size if it is set, else n_head."""
    return int(settings["head_size"] if "head_size" in settings else settings["n_head"])


def with_heads(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Return `settings` with n_head in place of head_size. Raises ConfigError if head_size doesn't divide n_embd."""
    result = dict(settings)
    if "head_size" not in result:
        return result
    head_size, width = int(result.pop("head_size")), int(result["n_embd"])
    if width % head_size:
        below = width - width % head_size
        nearest = " and ".join(str(multiple) for multiple in (below, below + head_size) if multiple)
        raise ConfigError(f"n_embd={width} is not divisible by head_size={head_size}; nearest widths: {nearest}")
    result["n_head"] = width // head_size
    return result
