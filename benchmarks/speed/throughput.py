"""Training speed on a CPU: a sweep's two workers beside a plain nanoGPT-style loop that has both cores to itself.

    python -m benchmarks.speed.throughput [--widths 128 --vocabularies 1024 --dropouts 0 0.2] [--json]

The workers are those of a sweep: one process and one thread each, in their environment, training at the same time.
Their tokens/s are added up. The plain loop is what one writes first (benchmarks/speed/plain_gpt.py and `plain_loop`):
torch's stock parts, logits of the whole batch, default AdamW, one process with `--threads` threads. Both train the same
model on the same random tokens, evaluations not counted. They take turns of `--seconds` for `--rounds` rounds. A ratio
is of one round's two turns; the table has the median, lowest and highest over the rounds. MFU is relative to this
machine's own peak: `--threads` cores with a float32 matrix product each. A full run takes six minutes.

The default vocabularies, 1024 and 4096, are sizes that BPE is trained to in practice, and ratios depend on them. With
2048 tokens, the logits of 4096 classes are 32 MiB. From this size on glibc always takes blocks from the kernel and
returns them, and rows a power of two apart are slowest for MKL. The plain loop is faster at 4000, and so are the
workers (`--vocabularies 4000`).
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import multiprocessing
import pickle
import statistics
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.commands import argument_errors, at_least, parser_of, positive
from benchmarks.progress import watched
from benchmarks.speed.plain_gpt import PlainGPT, plain_adamw, random_windows
from sweeps.workers.pool import Crashed, Died, Finished, Job, PointMessage
from sweeps.workers.process_pool import ProcessPool
from trainer.config import TrainConfig
from trainer.machine import cpu
from trainer.model import size
from trainer.points import Answer, Point

WORKERS = 2
N_TOKENS = 1_000_000
"""tokens per split, 2 MB of uint16"""
GUESS = 0.4
"""share of the peak that training is assumed to reach, to choose the iterations per turn"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThroughputRow:
    """The speeds of one case, medians over the rounds."""

    n_embd: int
    vocab_size: int
    dropout: float
    plain: float
    """tokens/s"""
    ours: float
    """tokens/s, sum over the workers"""
    ratio: float
    """median of the rounds' ratios, workers over plain loop"""
    lowest: float
    highest: float
    rounds: int
    plain_mfu: float
    ours_mfu: float


def main() -> None:
    """Measure all cases and print their rows."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--widths", type=at_least(1), nargs="+", default=[64, 128, 256], metavar="N", help="n_embd (default 64 128 256)"
    )
    parser.add_argument(
        "--vocabularies",
        type=at_least(1),
        nargs="+",
        default=[1024, 4096],
        metavar="N",
        help="vocabulary sizes (default 1024 4096)",
    )
    parser.add_argument(
        "--dropouts", type=float, nargs="+", default=[0.0, 0.2], metavar="P", help="dropout rates (default 0 0.2)"
    )
    parser.add_argument("--layers", type=at_least(1), default=4, help="transformer blocks (default 4)")
    parser.add_argument("--block-size", type=at_least(1), default=128, help="tokens of context (default 128)")
    parser.add_argument("--batch-size", type=at_least(1), default=16, help="sequences per iteration (default 16)")
    parser.add_argument("--rounds", type=at_least(1), default=5, help="turns of each kind per case (default 5)")
    parser.add_argument("--seconds", type=positive, default=2.0, help="approximate length of a turn (default 2)")
    parser.add_argument("--threads", type=at_least(1), default=WORKERS, help="threads of the plain loop (default 2)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with argument_errors(parser):
        cases = [
            config_of(n_embd, vocab_size, dropout, options)
            for n_embd, vocab_size, dropout in itertools.product(options.widths, options.vocabularies, options.dropouts)
        ]
    turns = {"rounds": options.rounds, "seconds": options.seconds, "threads": options.threads}
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        rows = list(watched(measured_rows(cases, Path(folder), **turns), len(cases), noun="cases"))
    if options.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    else:
        print(table(rows))


def config_of(n_embd: int, vocab_size: int, dropout: float, options: argparse.Namespace) -> TrainConfig:
    """Return the config of a case. Raises UserError for one that can't be trained."""
    return TrainConfig(
        n_layer=options.layers,
        n_head=max(1, n_embd // 32),
        n_embd=n_embd,
        block_size=options.block_size,
        dropout=dropout,
        vocab_size=vocab_size,
        batch_size=options.batch_size,
        gradient_accumulation_steps=1,
        eval_windows=1,
        device="cpu",
    )


def measured_rows(
    cases: list[TrainConfig], folder: Path, *, rounds: int, seconds: float, threads: int
) -> Iterator[ThroughputRow]:
    """Measure the cases one after the other, and yield their rows."""
    peak = cpu.cpu_peak(threads=threads)
    with ProcessPool(("cpu",) * WORKERS, logs=folder / "logs", cores=WORKERS) as pool, PlainProcess(threads) as plain:
        for number, config in enumerate(cases):
            data = random_tokens(folder / f"data-{config.vocab_size}", config.vocab_size)
            case = config.replace(eval_interval=iterations(config, seconds=seconds, peak=peak))
            runs = [WORKERS * number + worker for worker in range(WORKERS)]
            for run in runs:
                out = folder / f"run-{run}"
                pool.start(Job(run=run, attempt=1, config=case, data=data, out=out, device="cpu"))
            next_points(pool, runs)  # before the first update
            plain.begin(case, data)
            speeds: list[tuple[float, float]] = []
            for _ in range(1 + rounds):
                for run in runs:
                    pool.answer(run, Answer.GO)
                workers_speed = math.fsum(point.tokens_per_s or 0.0 for point in next_points(pool, runs))
                speeds.append((plain.turn(), workers_speed))
            stop_runs(pool, runs)
            yield row_of(case, speeds[1:], peak=peak)  # the first turn warms up


def iterations(config: TrainConfig, *, seconds: float, peak: float) -> int:
    """Return the iterations that take about `seconds` on a machine with a peak of `peak` FLOP/s."""
    flops = size.flops_per_token(config) * config.tokens_per_iter
    return max(2, math.ceil(seconds * GUESS * peak / flops))


def row_of(config: TrainConfig, speeds: list[tuple[float, float]], *, peak: float) -> ThroughputRow:
    """Return a case's row from each round's speeds of the plain loop and of the workers, in tokens/s."""
    plain, ours = (statistics.median(rounds) for rounds in zip(*speeds, strict=True))
    ratios = [workers_speed / plain_speed for plain_speed, workers_speed in speeds]
    flops = size.flops_per_token(config)
    return ThroughputRow(
        n_embd=config.n_embd,
        vocab_size=config.vocab_size,
        dropout=config.dropout,
        plain=plain,
        ours=ours,
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        rounds=len(speeds),
        plain_mfu=plain * flops / peak,
        ours_mfu=ours * flops / peak,
    )


def table(rows: list[ThroughputRow]) -> str:
    """Return the rows as text."""
    head = (
        f"{'width':>5} {'vocab':>6} {'dropout':>7} {'plain tok/s':>12} {'sweep tok/s':>12} {'ratio':>6}"
        f" {'lowest':>7} {'highest':>7} {'MFU plain':>9} {'MFU sweep':>9}"
    )
    lines = [
        f"{row.n_embd:>5} {row.vocab_size:>6} {row.dropout:>7g} {row.plain:>12,.0f} {row.ours:>12,.0f}"
        f" {row.ratio:>6.2f} {row.lowest:>7.2f} {row.highest:>7.2f} {row.plain_mfu:>9.1%} {row.ours_mfu:>9.1%}"
        for row in rows
    ]
    return "\n".join([head, *lines])


def random_tokens(folder: Path, vocab_size: int) -> Path:
    """Write a nanoGPT data folder of random tokens; speed does not depend on their content."""
    if not folder.exists():
        folder.mkdir()
        generator = np.random.default_rng(0)
        for split in ("train", "val"):
            generator.integers(0, vocab_size, N_TOKENS).astype(np.uint16).tofile(folder / f"{split}.bin")
        (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocab_size}))
    return folder


# a sweep's workers, which wait for an answer at each evaluation


def next_points(pool: ProcessPool, runs: list[int]) -> list[Point]:
    """Wait for the next point of every run, and return them."""
    points: dict[int, Point] = {}
    while len(points) < len(runs):
        for message in pool.wait(1.0):
            match message:
                case PointMessage(run=run, point=point):
                    points[run] = point
                case Crashed(text=text) | Died(text=text):
                    raise SystemExit(text)
                case Finished(result=result):
                    raise SystemExit(f"a run ended too early: {result.outcome} {result.reason}")
    return [points[run] for run in runs]


def stop_runs(pool: ProcessPool, runs: list[int]) -> None:
    """Stop the runs, which are waiting for an answer."""
    for run in runs:
        pool.answer(run, Answer.STOP)
    while len(pool.idle()) < len(pool.devices):
        pool.wait(1.0)


# the plain loop, in a process of its own


class PlainProcess:
    """The process of the plain loop, which waits between its turns."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, child = context.Pipe()
        self._process = context.Process(target=plain_loop, args=(child, threads), daemon=True)
        self._process.start()

    def __enter__(self) -> PlainProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        self._process.join()

    def begin(self, config: TrainConfig, data: Path) -> None:
        """Train another model from now on."""
        self._connection.send((config, data))

    def turn(self) -> float:
        """Train for `eval_interval` iterations; return tokens/s."""
        self._connection.send(None)
        speed: float = self._connection.recv()
        return speed


def plain_loop(connection: Connection, threads: int) -> None:
    """Train the config sent last, one turn per None, until the other end is closed."""
    torch.set_num_threads(threads)
    try:
        while True:
            message = connection.recv()
            if message is not None:
                config, data = message
                losses = plain_training(config, data)
                continue
            began = time.perf_counter()
            for _ in range(config.eval_interval):
                next(losses)
            connection.send(config.eval_interval * config.tokens_per_iter / (time.perf_counter() - began))
    except EOFError:
        return


def plain_training(config: TrainConfig, data: Path) -> Iterator[float]:
    """Run nanoGPT's iterations without end, and yield their losses."""
    torch.manual_seed(config.seed)
    model = PlainGPT(config).train()
    optimizer = plain_adamw(model, config)
    while True:
        x_BT, y_BT = plain_batch(config, data)
        loss = model(x_BT, y_BT)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield loss.item()


def plain_batch(config: TrainConfig, data: Path) -> tuple[Tensor, Tensor]:
    """Draw a training batch, opening the file anew as nanoGPT does."""
    tokens = np.memmap(data / "train.bin", dtype=np.uint16, mode="r")
    return random_windows(tokens, block_size=config.block_size, windows=config.batch_size)


if __name__ == "__main__":
    main()
