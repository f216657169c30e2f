"""Text of a config for nanoGPT: comments and assignments, in plain ASCII and in sections."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from trainer.nanogpt import Value

SECTIONS = {
    "model": ("n_layer", "n_head", "n_embd", "block_size", "bias", "dropout"),
    "data and batch": ("dataset", "batch_size", "gradient_accumulation_steps"),
    "optimizer": ("learning_rate", "weight_decay", "beta1", "beta2", "grad_clip"),
    "schedule": ("max_iters", "decay_lr", "warmup_iters", "lr_decay_iters", "min_lr"),
    "evaluation": ("eval_interval", "eval_iters", "log_interval"),
    "checkpoint": ("out_dir", "always_save_checkpoint", "init_from"),
    "machine": ("device", "dtype", "compile"),
}
WHERE_SET = ("wandb_log", "wandb_project", "wandb_run_name", "backend")
"""settings that are written only where the user's own config departs from nanoGPT's defaults"""
_BESIDE = {"gradient_accumulation_steps": "with torchrun it must be divisible by the number of processes"}
_COLUMNS = 110
_ASCII = str.maketrans({"→": "->", "−": "-", "±": "+-", "×": "x", "÷": "/", "–": "-", "’": "'"})


def assignments(settings: Mapping[str, Value]) -> Iterator[str]:
    """Yield the lines that set `settings`, by section."""
    for section, keys in {**SECTIONS, "logging and processes": WHERE_SET}.items():
        written = [key for key in keys if key in settings]
        if written:
            yield f"\n# {section}"
        for key in written:
            beside = f"  # {_BESIDE[key]}" if key in _BESIDE else ""
            yield f"{key} = {settings[key]!a}{beside}"


def comment_block(title: str, lines: Sequence[str]) -> list[str]:
    """Return `lines` as wrapped comments under a title. Empty without lines."""
    if not lines:
        return []
    block = ["#", f"# {title}:"]
    for line in lines:
        block += textwrap.wrap(
            _printable(line),
            _COLUMNS,
            initial_indent="# - ",
            subsequent_indent="#   ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return block


def _printable(text: str) -> str:
    """Return `text` as one line of ASCII, so that a name from a study can't break out of its comment."""
    plain = text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")
    return re.sub(r"[\x00-\x20\x7f]+", " ", plain).strip()
