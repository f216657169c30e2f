"""How fast and how large a micro-batch is on a card, found out by a short run in a process that is thrown away.

A process that has run out of memory keeps some of it, and one that hasn't keeps what it compiled. The short run is the
trainer's own, evaluations included: two stretches of iterations with gradients that accumulate (once at most, if the
run's do), of which the first compiles and makes AdamW's moments and the second is timed. What was measured is kept, by
everything that it depends on.
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
"""timed, and as many before"""
SECONDS = 900
"""for one micro-batch, compiling included"""
TAIL_LINES = 15


class ProbeFailed(Exception):
    """The short run ended with an error that isn't want of memory."""


def measure(config: TrainConfig, data: Path, *, card: str) -> Measured:
    """What `config`'s micro-batch does on the card called `card`, measured now or kept from before.

    Raises ProbeFailed.
    """
    kept = known(config, card=card)
    if kept is not None:
        return kept
    found = _in_a_process(config, data)
    if found.tokens_per_s is not None and not found.retries:  # want of memory may be a neighbour's doing
        cache.save("probe", key_of(config, card=card), dataclasses.asdict(found))
    return found


def known(config: TrainConfig, *, card: str) -> Measured | None:
    """What was measured before, if it was."""
    kept = cache.load("probe", key_of(config, card=card))
    try:
        return None if kept is None else Measured(**kept)
    except TypeError:  # another version's
        return None


def key_of(config: TrainConfig, *, card: str) -> dict[str, Any]:
    """What a measurement depends on."""
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
    """The run that is measured: its split, its evaluations, few iterations, and no chance to diverge in them."""
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
    )


def _in_a_process(config: TrainConfig, data: Path) -> Measured:
    try:
        done = subprocess.run(  # this very module
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
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-TAIL_LINES:])
        raise ProbeFailed(f"trying out a micro-batch of {config.batch_size} ended with {done.returncode}:\n{tail}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def run(config: TrainConfig, data: Path) -> Measured:
    """Measure in this process, which is then spoilt for anything else."""
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
    asked = json.loads(sys.stdin.read())
    print(json.dumps(dataclasses.asdict(run(TrainConfig.from_mapping(asked["config"]), Path(asked["data"])))))
