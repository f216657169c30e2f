"""The settings of one training run: nanoGPT's, with nanoGPT's names and defaults, and a few more.

The additions are `seed`, `sampling`, `data_fraction`, `label_smoothing`, `vocab_size`, `eval_windows`, `final_windows`,
`origin` and init_from's "branch". `EXPORTABLE` lists the settings that a nanoGPT config can hold. `device` defaults to
"auto" (nanoGPT: 'cuda'), so that a run starts on any machine.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer import config_file, nanogpt
from trainer.errors import ConfigError

Value = nanogpt.Value


def _setting(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Return a field with its documentation and limits: `low` and `high` inclusive, `above` and `below` exclusive."""
    limits = {"low": low, "high": high, "above": above, "below": below, "choices": choices}
    return field(
        default=default, metadata={"doc": doc, **{name: limit for name, limit in limits.items() if limit is not None}}
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of one run. Creating one checks every setting, alone and against the others.

    Raises ConfigError with the name, the value, the limit and the remedy.
    """

    # model
    n_layer: int = _setting(12, "transformer blocks", low=1, high=256)
    n_head: int = _setting(12, "attention heads per block; divides n_embd", low=1, high=1024)
    n_embd: int = _setting(768, "width of the residual stream", low=1, high=65536)
    block_size: int = _setting(1024, "context length, tokens", low=1, high=1048576)
    bias: bool = _setting(False, "biases in Linear and LayerNorm")
    dropout: float = _setting(0.0, "dropout probability", low=0.0, below=1.0)
    vocab_size: int = _setting(0, "tokens in the vocabulary; 0: the data's", low=0, high=2**31)
    # optimizer
    learning_rate: float = _setting(6e-4, "peak learning rate of AdamW", above=0.0, high=1e3)
    weight_decay: float = _setting(0.1, "decoupled weight decay of matrices", low=0.0, high=1e3)
    beta1: float = _setting(0.9, "AdamW's decay of the first moment", low=0.0, below=1.0)
    beta2: float = _setting(0.95, "AdamW's decay of the second moment", low=0.0, below=1.0)
    grad_clip: float = _setting(1.0, "largest norm of the gradient; 0: no clipping", low=0.0)
    label_smoothing: float = _setting(0.0, "label smoothing of the training loss (not in nanoGPT)", low=0.0, below=1.0)
    # schedule
    max_iters: int = _setting(600000, "iterations (optimizer steps) of the run", low=1, high=10**12)
    decay_lr: bool = _setting(True, "warm up and decay the learning rate; False: constant")
    warmup_iters: int = _setting(2000, "iterations of linear warm-up", low=0, high=10**12)
    lr_decay_iters: int = _setting(600000, "iteration at which the cosine reaches min_lr", low=1, high=10**12)
    min_lr: float = _setting(6e-5, "learning rate at and after lr_decay_iters", low=0.0)
    # batch
    batch_size: int = _setting(12, "sequences per micro-batch", low=1, high=2**20)
    gradient_accumulation_steps: int = _setting(40, "micro-batches per iteration", low=1, high=2**20)
    seed: int = _setting(1337, "seed of initialisation, data order and dropout", low=0, high=2**63 - 1)
    sampling: str = _setting(
        "step",
        "how batches are drawn: 'step' from (seed, step); 'nanogpt' from torch's global stream, as nanoGPT does",
        choices=("step", "nanogpt"),
    )
    data_fraction: float = _setting(
        1.0,
        "share of the training data to train on, a fixed set of documents; not in nanoGPT",
        above=0.0,
        high=1.0,
    )
    # evaluation
    eval_interval: int = _setting(2000, "iterations between evaluations", low=1)
    eval_iters: int = _setting(200, "micro-batches per split in each evaluation", low=1)
    eval_windows: int = _setting(
        0, "fixed windows per split in each evaluation; 0: eval_iters x batch_size", low=0, high=2**31
    )
    final_windows: int = _setting(
        0, "fixed validation windows of the final evaluation; 0: four times eval_windows", low=0, high=2**31
    )
    eval_only: bool = _setting(False, "evaluate once and stop")
    log_interval: int = _setting(1, "iterations between logged training losses", low=1)
    always_save_checkpoint: bool = _setting(True, "save at every evaluation, not only at better ones")
    init_from: str = _setting(
        "scratch",
        "'scratch'; 'resume' to go on from out/ckpt.pt or from the origin; 'branch' to take the origin's weights and "
        "moments and to count iterations from 0 (not in nanoGPT)",
        choices=("scratch", "resume", "branch"),
    )
    origin: str = _setting(
        "", "sha256 of the checkpoint of another run to go on from, 64 hexadecimal digits; '': none (not in nanoGPT)"
    )
    # machine
    device: str = _setting("auto", "'auto', 'cpu', 'cuda' or 'cuda:1'")
    dtype: str = _setting(
        "bfloat16",
        "precision of matrix products on CUDA; a CPU computes in float32",
        choices=("float32", "bfloat16", "float16"),
    )
    compile: bool = _setting(True, "torch.compile on CUDA; unused on a CPU, where it costs more than it saves")

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            given = getattr(self, spec.name)
            if (value := _checked(spec, given)) is not given:
                object.__setattr__(self, spec.name, value)
        if conflicts := list(_conflicts(self)):
            raise ConfigError("\n".join(conflicts))

    @classmethod
    def from_nanogpt(cls, path: str | Path, **changes: Any) -> TrainConfig:
        """Read a nanoGPT config file without executing it, then apply `changes`.

        Ignores nanoGPT's keys that have no meaning here (out_dir, dataset, wandb_*, backend), names that nanoGPT has
        not, and imports. Raises ConfigError, with all keys that are misspelt or can't be read.
        """
        read = config_file.read_config(path, needed=EXPORTABLE)
        settings = {key: value for key, value in read.items() if key in EXPORTABLE}
        try:
            return cls.from_mapping({**settings, **changes})
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def from_mapping(cls, settings: dict[str, Any]) -> TrainConfig:
        """Create a config from names and values. Raises ConfigError; for an unknown name it suggests the nearest."""
        known = cls.__dataclass_fields__
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                raise ConfigError(f"unknown setting {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
        return cls(**settings)

    def replace(self, **changes: Any) -> TrainConfig:
        """Return this config with `changes`, checked again."""
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, Value]:
        """Return names and values in the order of the fields."""
        return dataclasses.asdict(self)

    @property
    def sequences_per_iter(self) -> int:
        """Sequences per iteration: micro-batch times accumulation."""
        return self.batch_size * self.gradient_accumulation_steps

    @property
    def tokens_per_iter(self) -> int:
        """Tokens per iteration."""
        return self.sequences_per_iter * self.block_size

    @property
    def windows(self) -> int:
        """Fixed windows per split in each evaluation."""
        return self.eval_windows or self.eval_iters * self.batch_size

    @property
    def windows_at_the_end(self) -> int:
        """Fixed validation windows of the final evaluation, never fewer than `windows`."""
        return self.final_windows or 4 * self.windows


EXPORTABLE = tuple(spec.name for spec in dataclasses.fields(TrainConfig) if spec.name in nanogpt.DEFAULTS)
"""The settings that a nanoGPT config file can hold."""


def _checked(spec: dataclasses.Field[Any], given: Any) -> Any:
    """Return `given` in the field's type. Raises ConfigError for another type or a value outside the limits."""
    name, limits = spec.name, spec.metadata
    expected = _TYPES[str(spec.type)]
    try:
        value: Any = float(given) if expected is float and type(given) is int else given
    except OverflowError:
        raise ConfigError(f"{name} is a whole number of {given.bit_length()} bits, too large for a float") from None
    if type(value) is not expected:
        whole = expected is int and isinstance(value, float) and value.is_integer()
        remedy = f"; write {int(value)}" if whole else ""
        raise ConfigError(
            f"{name}={value!r} is {_KINDS.get(type(value), 'not a plain value')}, not {_KINDS[expected]}{remedy}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name}={value} is not a finite number")
    if "choices" in limits and value not in limits["choices"]:
        near = difflib.get_close_matches(str(value), limits["choices"], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{name}={value!r} is none of {', '.join(limits['choices'])}{hint}")
    number: Any = value
    for limit in limits:
        if limit in _LIMITS and not _LIMITS[limit](number, limits[limit]):
            words = {"low": "at least", "high": "at most"}.get(limit, limit)
            raise ConfigError(f"{name}={value!r} must be {words} {limits[limit]:g} ({limits['doc']})")
    return value


_TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}
_LIMITS: dict[str, Callable[[float, float], bool]] = {
    "low": operator.ge,
    "high": operator.le,
    "above": operator.gt,
    "below": operator.lt,
}
_SHA256 = re.compile("[0-9a-f]{64}")
_KINDS: dict[type, str] = {
    int: "a whole number",
    float: "a number with a fraction",
    bool: "true or false",
    str: "text",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}


def _conflicts(config: TrainConfig) -> Iterator[str]:
    """Yield what doesn't go together, a line each."""
    if config.n_embd % config.n_head:
        below = config.n_embd - config.n_embd % config.n_head
        nearest = [str(width) for width in (below, below + config.n_head) if width]
        yield (
            f"n_embd={config.n_embd} is not divisible by n_head={config.n_head}; "
            f"nearest widths: {' and '.join(nearest)}"
        )
    if config.decay_lr and config.warmup_iters >= config.lr_decay_iters:
        yield (
            f"warmup_iters={config.warmup_iters} must be below lr_decay_iters={config.lr_decay_iters}, "
            "or the rate never decays; lower warmup_iters or set decay_lr to false"
        )
    if config.decay_lr and config.min_lr > config.learning_rate:
        yield (
            f"min_lr={config.min_lr:g} is above learning_rate={config.learning_rate:g}: the rate would rise; "
            f"set min_lr to {config.learning_rate / 10:g} (a tenth) or less"
        )
    if config.windows_at_the_end < config.windows:
        yield (
            f"final_windows={config.final_windows} is below the {config.windows} windows of each evaluation, "
            "which are the first of them; raise it or lower eval_windows"
        )
    if config.sampling == "nanogpt" and config.label_smoothing:
        yield (f"label_smoothing={config.label_smoothing:g} is not in nanoGPT: with sampling=nanogpt it must be 0")
    if config.sampling == "nanogpt" and config.data_fraction < 1:
        yield (f"data_fraction={config.data_fraction:g} is not in nanoGPT: with sampling=nanogpt it must be 1")
    if config.origin and not _SHA256.fullmatch(config.origin):
        yield (
            f"origin={config.origin!r} is not a sha256: write the 64 hexadecimal digits, in lower case, that sha256sum "
            "prints for the checkpoint"
        )
    if config.init_from == "branch" and not config.origin:
        yield ("init_from='branch' needs origin, the sha256 of the checkpoint that the run goes on from")
    if config.origin and config.init_from == "scratch":
        yield (
            "origin names a checkpoint, but init_from='scratch' takes nothing from it; "
            "set init_from to branch (iterations from 0) or resume (iterations go on)"
        )
    kind, _, index = config.device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        yield (f"device={config.device!r} is none of auto, cpu, cuda, cuda:0, cuda:1, ...")
