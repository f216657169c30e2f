"""The settings of a run that a study may give: nanoGPT's names, with TrainConfig's types, limits and words.

They are made from TrainConfig's fields, so that neither limits nor documentation are written twice.
What a study decides itself (seeds, evaluations, devices) is not among them, and says so when tried.
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
    "seed": "the seeds come from the study: seed, baseline_seeds",
    "vocab_size": "the vocabulary comes from the data: see tokenizer",
    "sampling": "trials draw batches by (seed, step), so that they can be compared",
    "eval_interval": "the study spreads its evaluations over the horizon: see evaluations",
    "eval_iters": "trials are judged on fixed windows: see evaluations, final_windows",
    "eval_windows": "the study sizes it so that evaluations cost a tenth of a trial at most",
    "final_windows": "it belongs to the study: write it at the top level",
    "eval_only": "a study trains",
    "log_interval": "the study logs its evaluations",
    "always_save_checkpoint": "the study keeps the checkpoints that it needs",
    "init_from": "trials start from scratch",
    "device": "devices belong to workers.devices",
    "out_dir": "runs are written below the command's --out",
    "dataset": "data belongs to the study: data: {bin: FOLDER}",
    "backend": "a trial trains on one device",
    "wandb_log": "the study has its own report",
    "wandb_project": "the study has its own report",
    "wandb_run_name": "the study has its own report",
}
"""Settings of nanoGPT or TrainConfig that a study's baseline does not take, and where they belong instead."""

NOT_IN_CANDIDATES = {
    "max_iters": "trials are as long as each other: see horizon; a longer decay is lr_decay_iters",
    "block_size": "losses of another context length can't be compared",
}
"""Settings that a baseline has and a candidate can't change."""

NAMES = tuple(name for name in _FIELDS if name not in ELSEWHERE)
"""The settings that a baseline is made of, in TrainConfig's order."""

DEFAULTS: dict[str, Value] = {name: value for name, value in TrainConfig().as_dict().items() if name in NAMES}

WHOLE = frozenset(name for name in NAMES if _FIELDS[name].type == "int")


def describe_setting(name: str) -> str:
    """TrainConfig's words for a setting."""
    return str(_FIELDS[name].metadata["doc"])


def _annotation(name: str) -> Any:
    spec = _FIELDS[name]
    limits = {"low": "ge", "high": "le", "above": "gt", "below": "lt"}
    given = {limits[key]: value for key, value in spec.metadata.items() if key in limits}
    kind: Any = {"int": int, "float": float, "bool": bool, "str": str}[str(spec.type)]
    if "choices" in spec.metadata:
        kind = Literal.__getitem__(spec.metadata["choices"])
    return Annotated[kind, Field(description=spec.metadata["doc"], **given)]


def _settings(title: str, names: tuple[str, ...]) -> Any:
    """A TypedDict of settings, each optional, no others allowed."""
    head_size = Annotated[int, Field(ge=1, le=65536, description="width of a head: n_head is n_embd / head_size")]
    make: Any = TypedDict  # mypy wants the names written out
    made = make(title, {**{name: _annotation(name) for name in names}, "head_size": head_size}, total=False)
    made.__pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    return made


if TYPE_CHECKING:
    Baseline = dict[str, Value]
    Candidate = dict[str, Value]
else:
    Baseline = _settings("Baseline", NAMES)
    Candidate = _settings("Candidate", tuple(name for name in NAMES if name not in NOT_IN_CANDIDATES))


def complete(settings: Mapping[str, Value]) -> dict[str, Value]:
    """`settings` with nanoGPT's defaults for what is missing; head_size, where given, instead of n_head."""
    filled = {name: settings.get(name, default) for name, default in DEFAULTS.items()}
    if "head_size" in settings:
        del filled["n_head"]
        filled["head_size"] = settings["head_size"]
    return filled


def head_unit(settings: Mapping[str, Value]) -> int:
    """What a width must be a multiple of: the size of a head, or the number of heads."""
    return int(settings["head_size"] if "head_size" in settings else settings["n_head"])


def with_heads(settings: Mapping[str, Value]) -> dict[str, Value]:
    """`settings` with n_head in place of head_size. Raises ConfigError for a width that its heads don't divide."""
    result = dict(settings)
    if "head_size" not in result:
        return result
    size, width = int(result.pop("head_size")), int(result["n_embd"])
    if width % size:
        below = width - width % size
        nearest = " and ".join(str(near) for near in (below, below + size) if near)
        raise ConfigError(f"n_embd={width} is not divisible by head_size={size}; nearest widths: {nearest}")
    result["n_head"] = width // size
    return result
