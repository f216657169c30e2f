"""nanoGPT's settings (karpathy/nanoGPT at 3adf61e, November 2025): the 33 keys, their defaults and their types."""

from __future__ import annotations

import difflib

from trainer.errors import ConfigError

Value = bool | int | float | str

DEFAULTS: dict[str, Value] = {
    "out_dir": "out",
    "eval_interval": 2000,
    "log_interval": 1,
    "eval_iters": 200,
    "eval_only": False,
    "always_save_checkpoint": True,
    "init_from": "scratch",
    "wandb_log": False,
    "wandb_project": "owt",
    "wandb_run_name": "gpt2",
    "dataset": "openwebtext",
    "gradient_accumulation_steps": 40,
    "batch_size": 12,
    "block_size": 1024,
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "dropout": 0.0,
    "bias": False,
    "learning_rate": 6e-4,
    "max_iters": 600000,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "grad_clip": 1.0,
    "decay_lr": True,
    "warmup_iters": 2000,
    "lr_decay_iters": 600000,
    "min_lr": 6e-5,
    "backend": "nccl",
    "device": "cuda",
    "dtype": "bfloat16",
    "compile": True,
}
"""The 33 keys with their defaults, in train.py's order. The type of the default is the type of the key."""

_LIKE = 0.84
"""similarity (difflib's ratio) from which a name is a misspelt key: n_emb is one, val_batch_size a name of its own"""


def misspelt(name: str) -> str | None:
    """Return the key that a name misspells. None: it is a name of its own."""
    for key in DEFAULTS:
        if sorted(name.lower()) == sorted(key):
            return key
    near = difflib.get_close_matches(name.lower(), DEFAULTS, n=1, cutoff=_LIKE)
    return near[0] if near else None


def typed(key: str, value: bool | int | float | str | None) -> Value:
    """Return `value` in the type of nanoGPT's default. nanoGPT takes 1e4 iterations, and 0 for False.

    Raises ConfigError.
    """
    expected = type(DEFAULTS[key])
    if type(value) is expected:
        return value
    if expected is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(f"a whole number of {value.bit_length()} bits is too large for a float") from None
    if expected is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if expected is bool and type(value) is int and value in (0, 1):
        return bool(value)
    raise ConfigError(
        f"{value!r} has the type {type(value).__name__}, not {expected.__name__} (nanoGPT's default: {DEFAULTS[key]!r})"
    )
