"""A probe of a micro-batch's speed and memory on a card: a short run in a process of its own.

The process is thrown away, because after running out of memory it would keep part of it, and otherwise its compiled
graphs. The short run is the trainer's, evaluations included, in two stretches of iterations. The first stretch compiles
and creates AdamW's moments; the second is timed. If the run accumulates gradients, the probe accumulates two
micro-batches. Measurements are cached by everything that they depend on.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig
from trainer.machine import cache
from trainer.machine.microbatch import Measured

ITERATIONS = 8
"""timed iterations, after as many untimed ones"""
SECONDS = 900
"""limit for one micro-batch, compiling included"""
TAIL_LINES = 15
"""lines of a failed process's stderr that are shown"""


class ProbeFailed(Exception):
    """The short run failed, but not for lack of memory."""


def measure(config: TrainConfig, data: Path, *, card: str) -> Measured:
    """Measure `config`'s micro-batch on the card named `card`, or return an earlier measurement.

    Raises ProbeFailed.
    """
    earlier = cached(config, card=card)
    if earlier is not None:
        return earlier
    measured = _measure_in_a_process(config, data)
    if measured.tokens_per_s is not None and not measured.retries:  # another process may have taken the memory
        cache.save("probe", key_of(config, card=card), dataclasses.asdict(measured))
    return measured


def cached(config: TrainConfig, *, card: str) -> Measured | None:
    """Return the earlier measurement of `config`'s micro-batch; None if there is none."""
    value = cache.load("probe", key_of(config, card=card))
    try:
        return None if value is None else Measured(**value)
    except TypeError:  # written by another version
        return None


def key_of(config: TrainConfig, *, card: str) -> dict[str, Any]:
    """Return everything that a measurement depends on."""
    import torch

    shape = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size", "bias", "dtype", "compile", "batch_size")
    return {
        "card": card,
        "torch": torch.__version__,
        **{name: getattr(config, name) for name in shape},
        "dropout": config.dropout > 0,
        "accumulates": config.gradient_accumulation_steps > 1,
    }


def short_run(config: TrainConfig) -> TrainConfig:
    """Return the run to measure: the config's split and evaluations, few iterations, too low a rate to diverge."""
    return config.replace(
        decay_lr=False,
        learning_rate=1e-6,
        gradient_accumulation_steps=min(2, config.gradient_accumulation_steps),
        eval_interval=ITERATIONS,
        max_iters=2 * ITERATIONS,
        log_interval=ITERATIONS,
        eval_windows=config.windows,
        final_windows=config.windows,
        init_from="scratch",
        origin="",
    )


def _measure_in_a_process(config: TrainConfig, data: Path) -> Measured:
    try:
        process = subprocess.run(  # this module
            [sys.executable, "-m", "trainer.run.probe"],
            input=json.dumps({"config": config.as_dict(), "data": str(data)}),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProbeFailed(f"trying out a micro-batch of {config.batch_size} took more than {SECONDS} s") from error
    if process.returncode:
        tail = "\n".join(process.stderr.splitlines()[-TAIL_LINES:])
        raise ProbeFailed(f"trying out a micro-batch of {config.batch_size} ended with {process.returncode}:\n{tail}")
    return Measured(**json.loads(process.stdout.splitlines()[-1]))


def run(config: TrainConfig, data: Path) -> Measured:
    """Measure in this process, which must not be used for anything else afterwards."""
    import torch

    from trainer.data.dataset import open_dataset
    from trainer.points import Answer
    from trainer.run.loop import train

    result = train(short_run(config), open_dataset(data), lambda _: Answer.GO)
    on_card = torch.cuda.is_available() and config.device.startswith("cuda")
    retries = torch.cuda.memory_stats().get("num_alloc_retries", 0) if on_card else 0
    if result.outcome == "infeasible":
        return Measured(batch_size=config.batch_size, tokens_per_s=None, peak_bytes=0, retries=retries)
    return Measured(
        batch_size=config.batch_size,
        tokens_per_s=result.points[-1].tokens_per_s,
        peak_bytes=torch.cuda.max_memory_allocated() if on_card else 0,
        retries=retries,
    )


if __name__ == "__main__":
    request = json.loads(sys.stdin.read())
    measured = run(TrainConfig.from_mapping(request["config"]), Path(request["data"]))
    print(json.dumps(dataclasses.asdict(measured)))
