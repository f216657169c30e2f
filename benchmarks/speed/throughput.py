"""Training speed on a CPU: a sweep's two workers beside a plain nanoGPT-style loop that has both cores to itself.

    python -m benchmarks.speed.throughput [--widths 128 --vocabularies 1024 --dropouts 0 0.2] [--json]

The workers are a sweep's own: one process and one thread each, in their environment, training at once; their tokens/s
are added up. The plain loop is what one writes first (`PlainGPT`, `plain_loop`): torch's stock parts, logits of the
whole batch, AdamW as it comes, one process with `--threads` threads. Both train the same model on the same random
tokens, evaluations not counted. They take turns, `--seconds` each, for `--rounds` rounds; a ratio is of one round's
two turns, and its median over the rounds is shown with the lowest and the highest. MFU is against this machine's own
peak, of `--threads` cores in a float32 matrix product each. A full run takes six minutes.

The vocabularies are those that BPE is trained to in practice, 1024 and 4096; a ratio depends on them. With 2048 tokens
the logits of 4096 classes are 32 MiB, the least that glibc always takes from the kernel and gives back, and rows a
power of two apart are what MKL is slowest at; the plain loop is faster at 4000, ours too (`--vocabularies 4000`).
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
from torch.nn import functional as F

from benchmarks.progress import watched
from sweeps.workers.pool import Crashed, Died, Finished, Job, PointMessage
from sweeps.workers.process_pool import ProcessPool
from trainer.config import TrainConfig
from trainer.machine import cpu
from trainer.model import size
from trainer.points import Answer, Point

WORKERS = 2
N_TOKENS = 1_000_000  # a split; 2 MB of uint16
GUESS = 0.4
"""share of the peak that training reaches, to choose how many iterations a turn has"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What one case came to; speeds are medians over the rounds."""

    n_embd: int
    vocab_size: int
    dropout: float
    plain: float
    """tokens/s"""
    ours: float
    """tokens/s, the workers' sum"""
    ratio: float
    """median of the rounds' ratios, ours over plain"""
    lowest: float
    highest: float
    rounds: int
    plain_mfu: float
    ours_mfu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256], metavar="N")
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[1024, 4096], metavar="N")
    parser.add_argument("--dropouts", type=float, nargs="+", default=[0.0, 0.2], metavar="P")
    parser.add_argument("--layers", type=int, default=4, help="transformer blocks (default 4)")
    parser.add_argument("--block-size", type=int, default=128, help="tokens of context (default 128)")
    parser.add_argument("--batch-size", type=int, default=16, help="sequences an iteration (default 16)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each kind in every case (default 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a turn, about (default 2)")
    parser.add_argument("--threads", type=int, default=WORKERS, help="threads of the plain loop (default 2)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    cases = [
        config_of(n_embd, vocab_size, dropout, options)
        for n_embd, vocab_size, dropout in itertools.product(options.widths, options.vocabularies, options.dropouts)
    ]
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        measured = measure(cases, Path(folder), rounds=options.rounds, seconds=options.seconds, threads=options.threads)
        rows = list(watched(measured, len(cases), noun="cases"))
    print(as_json(rows) if options.json else as_table(rows))


def config_of(n_embd: int, vocab_size: int, dropout: float, options: argparse.Namespace) -> TrainConfig:
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


def measure(cases: list[TrainConfig], folder: Path, *, rounds: int, seconds: float, threads: int) -> Iterator[Row]:
    """The rows of the cases, one after the other."""
    peak = cpu.cpu_peak(threads=threads)
    with ProcessPool(("cpu",) * WORKERS, logs=folder / "logs", cores=WORKERS) as pool, Plain(threads) as plain:
        for number, config in enumerate(cases):
            data = random_tokens(folder / f"data-{config.vocab_size}", config.vocab_size)
            case = config.replace(eval_interval=iterations(config, seconds=seconds, peak=peak))
            runs = [WORKERS * number + worker for worker in range(WORKERS)]
            for run in runs:
                out = folder / f"run-{run}"
                pool.start(Job(run=run, attempt=1, config=case, data=data, out=out, device="cpu"))
            points_of(pool, runs)  # before the first update
            plain.begin(case, data)
            pairs: list[tuple[float, float]] = []
            for _ in range(1 + rounds):
                for run in runs:
                    pool.answer(run, Answer.GO)
                ours = math.fsum(point.tokens_per_s or 0.0 for point in points_of(pool, runs))
                pairs.append((plain.turn(), ours))
            end(pool, runs)
            yield row_of(case, pairs[1:], peak=peak)  # the first turn warms up


def iterations(config: TrainConfig, *, seconds: float, peak: float) -> int:
    """Iterations that take about `seconds` on a machine of `peak` FLOP/s."""
    flops = size.flops_per_token(config) * config.tokens_per_iter
    return max(2, math.ceil(seconds * GUESS * peak / flops))


def row_of(config: TrainConfig, pairs: list[tuple[float, float]], *, peak: float) -> Row:
    """Of the rounds' (plain, ours), in tokens/s."""
    plain, ours = (statistics.median(speeds) for speeds in zip(*pairs, strict=True))
    ratios = [ours / plain for plain, ours in pairs]
    flops = size.flops_per_token(config)
    return Row(
        n_embd=config.n_embd,
        vocab_size=config.vocab_size,
        dropout=config.dropout,
        plain=plain,
        ours=ours,
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        rounds=len(pairs),
        plain_mfu=plain * flops / peak,
        ours_mfu=ours * flops / peak,
    )


def as_json(rows: list[Row]) -> str:
    return json.dumps([dataclasses.asdict(row) for row in rows], indent=1)


def as_table(rows: list[Row]) -> str:
    head = (
        f"{'width':>5} {'vocab':>6} {'dropout':>7} {'plain tok/s':>12} {'ours tok/s':>12} {'ratio':>6}"
        f" {'lowest':>7} {'highest':>7} {'MFU plain':>9} {'MFU ours':>9}"
    )
    lines = [
        f"{row.n_embd:>5} {row.vocab_size:>6} {row.dropout:>7g} {row.plain:>12,.0f} {row.ours:>12,.0f}"
        f" {row.ratio:>6.2f} {row.lowest:>7.2f} {row.highest:>7.2f} {row.plain_mfu:>9.1%} {row.ours_mfu:>9.1%}"
        for row in rows
    ]
    return "\n".join([head, *lines])


def random_tokens(folder: Path, vocab_size: int) -> Path:
    """A nanoGPT data folder of tokens drawn at random: speed does not depend on what they say."""
    if not folder.exists():
        folder.mkdir()
        generator = np.random.default_rng(0)
        for split in ("train", "val"):
            generator.integers(0, vocab_size, N_TOKENS).astype(np.uint16).tofile(folder / f"{split}.bin")
        (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocab_size}))
    return folder


# ours: a sweep's workers, held at each evaluation until they are answered


def points_of(pool: ProcessPool, runs: list[int]) -> list[Point]:
    """The next point of every run, once all have come."""
    found: dict[int, Point] = {}
    while len(found) < len(runs):
        for message in pool.wait(1.0):
            match message:
                case PointMessage(run=run, point=point):
                    found[run] = point
                case Crashed(text=text) | Died(text=text):
                    raise SystemExit(text)
                case Finished(result=result):
                    raise SystemExit(f"a run ended before it was told to: {result.outcome} {result.reason}")
    return [found[run] for run in runs]


def end(pool: ProcessPool, runs: list[int]) -> None:
    """Stop the runs, which wait for an answer."""
    for run in runs:
        pool.answer(run, Answer.STOP)
    while len(pool.idle()) < len(pool.devices):
        pool.wait(1.0)


# the plain loop, in a process of its own


class Plain:
    """The process of the plain loop, which waits between its turns."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=plain_loop, args=(theirs, threads), daemon=True)
        self._process.start()

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *exception: object) -> None:
        self._ours.close()
        self._process.join()

    def begin(self, config: TrainConfig, data: Path) -> None:
        """Train another model from here on."""
        self._ours.send((config, data))

    def turn(self) -> float:
        """Train for `eval_interval` iterations: tokens/s."""
        self._ours.send(None)
        speed: float = self._ours.recv()
        return speed


def plain_loop(connection: Connection, threads: int) -> None:
    """Train what was last sent, a turn a None, until the other end is closed."""
    torch.set_num_threads(threads)
    try:
        while True:
            sent = connection.recv()
            if sent is not None:
                config, data = sent
                losses = plain_training(config, data)
                continue
            began = time.perf_counter()
            for _ in range(config.eval_interval):
                next(losses)
            connection.send(config.eval_interval * config.tokens_per_iter / (time.perf_counter() - began))
    except EOFError:
        return


def plain_training(config: TrainConfig, data: Path) -> Iterator[float]:
    """nanoGPT's iterations without end, each with its loss."""
    torch.manual_seed(config.seed)
    model = PlainGPT(config).train()
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2))
    while True:
        x_BT, y_BT = plain_batch(config, data)
        loss = model(x_BT, y_BT)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield loss.item()


def plain_batch(config: TrainConfig, data: Path) -> tuple[Tensor, Tensor]:
    tokens, T = np.memmap(data / "train.bin", dtype=np.uint16, mode="r"), config.block_size
    starts = torch.randint(len(tokens) - T, (config.batch_size,)).tolist()
    x_BT = torch.stack([torch.from_numpy(tokens[start : start + T].astype(np.int64)) for start in starts])
    y_BT = torch.stack([torch.from_numpy(tokens[start + 1 : start + 1 + T].astype(np.int64)) for start in starts])
    return x_BT, y_BT


class PlainBlock(nn.Module):
    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        C = config.n_embd
        self.n_head, self.dropout = config.n_head, config.dropout
        self.ln_1, self.ln_2 = nn.LayerNorm(C, bias=False), nn.LayerNorm(C, bias=False)
        self.c_attn, self.attn_proj = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C, bias=False)
        self.c_fc, self.mlp_proj = nn.Linear(C, 4 * C, bias=False), nn.Linear(4 * C, C, bias=False)
        self.attn_dropout, self.mlp_dropout = nn.Dropout(config.dropout), nn.Dropout(config.dropout)

    def forward(self, x_BTC: Tensor) -> Tensor:
        B, T, C = x_BTC.shape
        q, k, v = self.c_attn(self.ln_1(x_BTC)).split(C, dim=2)
        q, k, v = (part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for part in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout, is_causal=True)
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        x_BTC = x_BTC + self.attn_dropout(self.attn_proj(y))
        hidden = F.gelu(self.c_fc(self.ln_2(x_BTC)))
        return x_BTC + self.mlp_dropout(self.mlp_proj(hidden))


class PlainGPT(nn.Module):
    """The same function as the trainer's model, from torch's stock parts."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(*(PlainBlock(config) for _ in range(config.n_layer)))
        self.ln_f = nn.LayerNorm(config.n_embd, bias=False)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        for parameter in self.parameters():
            if parameter.dim() >= 2:
                nn.init.normal_(parameter, std=0.02)
        self.wte.weight = self.lm_head.weight

    def forward(self, x_BT: Tensor, y_BT: Tensor) -> Tensor:
        x_BTC = self.drop(self.wte(x_BT) + self.wpe(torch.arange(x_BT.shape[1])))
        logits_BTV = self.lm_head(self.ln_f(self.blocks(x_BTC)))
        return F.cross_entropy(logits_BTV.view(-1, logits_BTV.shape[-1]), y_BT.view(-1))


if __name__ == "__main__":
    main()
