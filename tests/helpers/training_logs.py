"""Training logs as nanoGPT and others print them, for tests of their reader. Losses are given, nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

HEAD = """\
Overriding config with config/small.py:
# a small run
out_dir = 'out-small'
eval_interval = 50
batch_size = 16
n_layer = 2
n_head = 4
n_embd = 64
learning_rate = 3e-3
max_iters = 1000
lr_decay_iters = max_iters # make equal to max_iters usually
min_lr = learning_rate / 10
warmup_iters = 50

Overriding: dataset = data/stories
Overriding: compile = False
Overriding: dropout = 0.1
tokens per iteration will be: 16,384
found vocab_size = 96 (inside data/stories/meta.pkl)
Initializing a new model from scratch
number of parameters: 0.10M
num decayed parameter tensors: 10, with 108,544 parameters
num non-decayed parameter tensors: 5, with 320 parameters
using fused AdamW: False
"""
"""nanoGPT's head, with a config file's text"""
SETTINGS = {
    "out_dir": "out-small",
    "eval_interval": 50,
    "batch_size": 16,
    "n_layer": 2,
    "n_head": 4,
    "n_embd": 64,
    "learning_rate": 3e-3,
    "max_iters": 1000,
    "lr_decay_iters": 1000,
    "min_lr": 3e-4,
    "warmup_iters": 50,
    "dataset": "data/stories",
    "compile": False,
    "dropout": 0.1,
}
"""the settings in it, by hand"""
RESUMED = HEAD.replace("Initializing a new model from scratch", "Resuming training from out-small")


def step_line(step: int, val: float, train: float | None = None) -> str:
    """Return nanoGPT's line of an evaluation; the training loss is 0.1 nats lower if not given."""
    return f"step {step}: train loss {val - 0.1 if train is None else train:.4f}, val loss {val:.4f}"


def iter_line(step: int, loss: float, *, ms: float = 400.0, mfu: float = 12.5) -> str:
    """Return nanoGPT's line of an iteration."""
    return f"iter {step}: loss {loss:.4f}, time {ms:.2f}ms, mfu {mfu:.2f}%"


def loss_at(step: int) -> float:
    """Return a smooth loss, nats: about 4.4 at step 0, 2 far out."""
    return 2.0 + 2.4 / math.sqrt(1 + step / 100)


def run_lines(steps: Iterable[int], *, shift: float = 0.0) -> list[str]:
    """Return the lines of a run evaluated at `steps`, each with its iteration's line."""
    return [
        line
        for step in steps
        for line in (step_line(step, loss_at(step) + shift), iter_line(step, loss_at(step) + shift + 0.05))
    ]


def text_of(lines: Sequence[str]) -> str:
    """Return lines as the text of a file."""
    return "\n".join(lines) + "\n"


FINEWEB = (
    *(10.8727, 5.5328, 4.4593, 4.1375, 4.0277, 3.9424, 3.8878, 3.8374, 3.8000, 3.7954, 3.7625, 3.7234, 3.7283, 3.7120),
    *(3.6934, 3.6745, 3.6538, 3.6461, 3.6381, 3.6480, 3.6567, 3.6172, 3.6098, 3.6020, 3.6079, 3.5913, 3.6024, 3.5725),
    *(3.5787, 3.5696),
)
"""validation losses, nats, every 500 iterations, of a public run on FineWeb (12 layers, 384 wide)"""
FINEWEB_SETTINGS = {
    "learning_rate": 1e-3,
    "min_lr": 1e-4,
    "warmup_iters": 500,
    "lr_decay_iters": 20000,
    "max_iters": 20000,
}
"""its schedule, as its owner published it"""
OVERFITTED = (
    *((750, 1.6577, 1.8179), (1000, 1.5308, 1.7217), (1250, 1.4511, 1.6538), (1500, 1.3888, 1.6041)),
    *((1750, 1.3437, 1.5617), (2000, 1.3087, 1.5522), (2250, 1.2785, 1.5278), (3000, 1.2033, 1.4947)),
    *((4000, 1.1220, 1.4782), (4500, 1.0886, 1.4769), (5000, 1.0530, 1.4920), (6000, 0.9827, 1.5083)),
    *((7000, 0.9104, 1.5319), (7450, 0.8790, 1.5529)),
)
"""step, training and validation loss of a public character model at uneven steps; an expert's reading: overfitting,
with its lowest validation loss of 1.4769 at step 4500"""
