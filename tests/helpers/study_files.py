"""A small study as a YAML file, and changed copies of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeps.study.load import load
from sweeps.study.study import Study

TEXT = """\
name: small
data: {source: embedded}
tokenizer: {type: bytes}
baseline:
  n_layer: 2
  n_embd: 64
  head_size: 16
  block_size: 32
  learning_rate: 1e-3
  min_lr: 1e-4
  warmup_iters: 50
  lr_decay_iters: 2000
  max_iters: 2000
  dropout: 0.1
  batch_size: 8
  gradient_accumulation_steps: 2
horizon: {iters: 600}
knobs:
  learning_rate: {low: 1e-4, high: 6e-3, log: true}
  min_lr: {ratio_of: learning_rate, low: 0.0, high: 0.3}
  warmup_iters: {fraction_of: max_iters, low: 0.01, high: 0.2}
  dropout: {low: 0.0, high: 0.3}
  n_embd: {low: 32, high: 128, step: 16}
candidates:
  - {learning_rate: 5e-4, min_lr: 5e-5}
  - {warmup_iters: 200}
"""


def write(folder: Path, text: str = TEXT, *, name: str = "study.yaml") -> Path:
    """Write the study file into `folder` and return its path."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def small(folder: Path, *sets: str, text: str = TEXT, cuda: bool = False, **options: Any) -> Study:
    """Load the small study with overrides, as `--set` gives them."""
    return load(write(folder, text), overrides=sets, devices_have_cuda=cuda, **options)
