"""The first thing to run on a card: the tests that need one, speed and memory of training, and compiling.

    python -m benchmarks.speed.gpu_check [--minutes 8] [--json]

One script of at most 8 minutes, which prints as it goes:

1. `pytest -m cuda`: the tests that need a card.
2. The flash-attention op beside plain arithmetic, which each worker checks too (`trainer/run/fast_paths.py`).
3. With dropout 0.1 and with 0: tokens/s of the trainer beside a plain loop in the manner of nanoGPT's train.py, and its
   peak of allocated memory beside the plan's. Both train 12 layers of width 384 on a vocabulary of 50304, compiled, in
   bfloat16 where the card has it, one after the other on the same random tokens. The plain loop has torch's stock
   parts, fused AdamW, and pinned batches. Compiling and the first iterations are not timed.
4. Another dropout and learning rate after these: a shape that is compiled once adds no graph.

A step that may not end in time is left out, with a line that says so. The exit code is 1 if a check failed: a test, the
op, an allocation above 1.05 times the plan's (the margin that micro-batches leave), or a graph too many. Speeds are
numbers, not checks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch._dynamo.utils import counters

from benchmarks.commands import ROOT, argument_errors, parser_of, positive
from benchmarks.speed.plain_gpt import PlainGPT, plain_adamw
from benchmarks.speed.throughput import plain_batch, random_tokens
from trainer.config import TrainConfig
from trainer.data.dataset import open_dataset
from trainer.errors import UserError
from trainer.machine import device as devices
from trainer.machine.memory import needed
from trainer.machine.microbatch import MIB, SPARE_NEEDED
from trainer.model import flash
from trainer.model.size import flops_per_token
from trainer.points import Answer
from trainer.run import fast_paths
from trainer.run.loop import train

CASE = TrainConfig(
    n_layer=12, n_head=6, n_embd=384, block_size=1024, vocab_size=50304, batch_size=8, gradient_accumulation_steps=1,
    dropout=0.1, learning_rate=1e-4, decay_lr=False, warmup_iters=0, eval_windows=8, final_windows=8,
)  # fmt: skip
ITERATIONS = 60
"""timed iterations; as many before them are not timed"""
TESTS_SECONDS, CASE_SECONDS, RATES_SECONDS = 180, 120, 40
"""time that a step must have left to begin: a model is compiled once per case and loop, in up to a minute"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """What a step found."""

    step: str
    text: str
    failed: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A step, and the seconds that it may take."""

    name: str
    seconds: float
    run: Callable[[float], Iterator[Line]]
    """given the seconds left, yields what it found"""


def main() -> None:
    """Run all steps and print what they find."""
    parser = parser_of(__doc__)
    parser.add_argument("--minutes", type=positive, default=8.0, help="time for all steps (default 8)")
    parser.add_argument("--json", action="store_true", help="print JSON at the end instead of lines")
    options = parser.parse_args()
    with argument_errors(parser):
        if not devices.cuda_devices():
            raise UserError(f"no card: torch {torch.__version__} finds no CUDA or ROCm device here")
    found = []
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        data = random_tokens(Path(folder) / "data", CASE.vocab_size)
        for line in lines_of(steps(data), seconds=60 * options.minutes, clock=time.monotonic):
            found.append(line)
            if not options.json:
                print(f"{line.step}: {line.text}{' FAILED' if line.failed else ''}", flush=True)
    if options.json:
        print(json.dumps([dataclasses.asdict(line) for line in found], indent=1))
    sys.exit(int(any(line.failed for line in found)))


def steps(data: Path) -> list[Step]:
    """Return the steps in their order."""
    cases = [CASE, CASE.replace(dropout=0.0)]
    return [
        Step(name="card", seconds=0, run=lambda _: card()),
        Step(name="tests", seconds=TESTS_SECONDS, run=tests),
        Step(name="flash attention", seconds=5, run=lambda _: flash_attention("cuda", torch.bfloat16)),
        *(
            Step(
                name=f"dropout {config.dropout:g}",
                seconds=CASE_SECONDS,
                run=lambda _, config=config: training(config, data),  # type: ignore[misc]
            )
            for config in cases
        ),
        Step(name="other rates", seconds=RATES_SECONDS, run=lambda _: other_rates(CASE, data)),
    ]


def lines_of(steps: list[Step], *, seconds: float, clock: Callable[[], float]) -> Iterator[Line]:
    """Run the steps and yield what they find. A step with too little time left is left out."""
    end = clock() + seconds
    for step in steps:
        left = end - clock()
        if left < step.seconds:
            yield Line(
                step=step.name, text=f"left out: it may take {step.seconds:.0f} s, and {max(0, left):.0f} s are left"
            )
            continue
        yield from step.run(left)


def card() -> Iterator[Line]:
    """Yield which card this is, and what the table of cards knows of it."""
    here = devices.describe("cuda")
    peak = f"{here.peak / 1e12:.1f} TFLOP/s by the table" if here.peak else "not in the table of cards"
    used = here.used("bfloat16")
    yield Line(
        step="card",
        text=f"{here.name}, {(here.memory or 0) / 2**30:.1f} GiB, {peak}, {used}, torch {torch.__version__}",
    )


def tests(left: float) -> Iterator[Line]:
    """Run the tests that need a card, for at most the seconds left without those of the steps that follow."""
    limit = max(TESTS_SECONDS, left - 2 * CASE_SECONDS - RATES_SECONDS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "cuda",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/trainer/test_cuda.py",
    ]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        yield Line(step="tests", text=f"took more than {limit:.0f} s", failed=True)
        return
    lines = [line for line in done.stdout.splitlines() if line.strip()] or done.stderr.splitlines()[-1:]
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    yield Line(step="tests", text="\n  ".join([*failures, *lines[-1:]]), failed=done.returncode != 0)


def flash_attention(device: str, dtype: torch.dtype) -> Iterator[Line]:
    """Compare the flash-attention op with plain arithmetic."""
    began = time.perf_counter()
    fault = fast_paths.fault_of(flash.flash_attention, device=device, dtype=dtype)
    took = f"checked in {time.perf_counter() - began:.2f} s"
    yield Line(step="flash attention", text=f"{fault or 'agrees with plain arithmetic'}, {took}", failed=bool(fault))


def training(config: TrainConfig, data: Path, *, device: str = "cuda") -> Iterator[Line]:
    """Yield the speeds of the trainer and of the plain loop, and the trainer's memory beside the plan's."""
    step = f"dropout {config.dropout:g}"
    precision = devices.precision(device, config.dtype)
    _release(device)
    speed, allocated = trainer_speed(config, data, device=device)
    _release(device)
    plain = plain_speed(config, data, device=device, precision=precision)
    peak = devices.describe(device).peak_in("float32" if precision is None else config.dtype)
    share = f"{speed * flops_per_token(config) / peak:.0%} of the peak" if peak else "peak not known"
    ratio = f"a plain loop {plain:,.0f}, ratio {speed / plain:.2f}"
    yield Line(step=step, text=f"the trainer makes {speed:,.0f} tokens/s ({share}), {ratio}")
    if device.startswith("cuda"):
        planned = needed(config, kind="cuda", mixed=precision is not None).total
        yield memory_line(step, allocated=allocated, planned=planned)


def memory_line(step: str, *, allocated: int, planned: int) -> Line:
    """Return allocated beside planned bytes. Above the margin that micro-batches leave, the plan is wrong."""
    text = (
        f"{allocated / MIB:,.0f} MiB allocated at most, the plan says {planned / MIB:,.0f}: {allocated / planned:.3f}"
    )
    return Line(step=step, text=text, failed=allocated > SPARE_NEEDED * planned)


def trainer_speed(config: TrainConfig, data: Path, *, device: str) -> tuple[float, int]:
    """Return the trainer's tokens/s over its second stretch of iterations, and the most bytes allocated."""
    run = config.replace(device=device, eval_interval=ITERATIONS, log_interval=ITERATIONS, max_iters=2 * ITERATIONS)
    result = train(run, open_dataset(data), lambda _: Answer.GO)
    speed = result.points[-1].tokens_per_s if result.points else None
    if speed is None:
        raise SystemExit(f"the trainer ended as {result.outcome}: {result.reason}")
    return speed, torch.cuda.max_memory_allocated() if device.startswith("cuda") else 0


def plain_speed(config: TrainConfig, data: Path, *, device: str, precision: torch.dtype | None) -> float:
    """Return the plain loop's tokens/s after as many iterations that are not timed."""
    steps = plain_steps(config, data, device=device, precision=precision)
    for _ in range(ITERATIONS):
        next(steps)
    _synchronize(device)
    began = time.perf_counter()
    for _ in range(ITERATIONS):
        next(steps)
    _synchronize(device)
    return ITERATIONS * config.tokens_per_iter / (time.perf_counter() - began)


def plain_steps(config: TrainConfig, data: Path, *, device: str, precision: torch.dtype | None) -> Iterator[None]:
    """Make nanoGPT's iterations without end. Nothing waits for the card."""
    torch.manual_seed(config.seed)
    on_card = device.startswith("cuda")
    model = PlainGPT(config).to(device).train()
    optimizer = plain_adamw(model, config, fused=on_card)
    scaler = torch.amp.GradScaler(device, enabled=precision is torch.float16)
    forward = torch.compile(model) if on_card else model

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        x_BT, y_BT = plain_batch(config, data)
        if not on_card:
            return x_BT, y_BT
        return x_BT.pin_memory().to(device, non_blocking=True), y_BT.pin_memory().to(device, non_blocking=True)

    x_BT, y_BT = batch()
    while True:
        context = contextlib.nullcontext() if precision is None else torch.autocast(device, dtype=precision)
        with context:
            loss = forward(x_BT, y_BT)
        x_BT, y_BT = batch()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        yield


def other_rates(config: TrainConfig, data: Path, *, device: str = "cuda") -> Iterator[Line]:
    """Train the shape with other dropout, learning rate, weight decay and seed; count the graphs that this adds."""
    short = {"device": device, "eval_interval": 4, "max_iters": 4}
    graphs = []
    for changes in (
        {"dropout": 0.1},
        {"dropout": 0.25, "learning_rate": 3e-4, "weight_decay": 0.2, "seed": 2},
    ):
        train(config.replace(**short, **changes), open_dataset(data), lambda _: Answer.GO)
        graphs.append(counters["stats"]["unique_graphs"])
    more = graphs[-1] - graphs[0]
    text = f"{more} more graphs are compiled for another dropout and learning rate, {graphs[0]} before"
    yield Line(step="other rates", text=text, failed=more > 0)


def _release(device: str) -> None:
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
