"""The cost of preparing a corpus: its rate beside tiktoken's own, and its memory.

    python -m benchmarks.speed.prepare [--text-from plays.parquet] [--json]

tiktoken's rate is that of `Encoding.encode_ordinary_batch` over the same documents, already in memory, with the same
number of threads. `prepare` also reads the documents from parquet, selects, encodes, writes and checks them, and loads
its vocabulary. Runs alternate, and medians are compared: of wall time, which counts but needs an idle machine, and of
CPU time, which other processes hardly disturb. Memory is the peak resident set of a separate process that prepares a
file of --mb megabytes. About two minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import tiktoken

from benchmarks.commands import argument_errors, at_least, existing_file, parser_of
from trainer.data import tokenizer
from trainer.data.corpus import EmbeddedCorpus
from trainer.data.prepare import ParquetSource, TokenizerChoice, prepare
from trainer.errors import UserError

MB = 1_000_000
ROW_GROUP = 40 * MB
"""bytes of text per row group"""
SLICE = 8 * MB
"""bytes of text per call of tiktoken, so that its lists of ints fit in memory"""
RATE_TARGET = 0.9
MEMORY_TARGET = 400
"""MB"""


def main() -> None:
    """Measure and print the rates and the memory."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--text-from",
        type=existing_file,
        metavar="FILE",
        help="parquet with a column text (default: the embedded corpus)",
    )
    parser.add_argument("--mb", type=at_least(1), default=400, help="megabytes of text, memory run (default 400)")
    parser.add_argument("--rate-mb", type=at_least(1), default=80, help="megabytes of text per timed run (default 80)")
    parser.add_argument("--rounds", type=at_least(1), default=3, help="timed runs of each kind (default 3)")
    parser.add_argument("--threads", type=at_least(1), default=2, help="threads that encode (default 2)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure_memory(options.measure, options.threads)))
        return
    with argument_errors(parser):
        sources = source_texts(options.text_from)
    with tempfile.TemporaryDirectory(prefix="prepare-benchmark-") as folder:
        figures = measure_costs(Path(folder), sources, options)
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    for name, value in figures.items():
        print(f"{name:<28}{value:>12.3f}" if isinstance(value, float) else f"{name:<28}{value:>12}")


def measure_costs(folder: Path, sources: list[str], options: argparse.Namespace) -> dict[str, float | int | str]:
    """Return the rates and the memory by the names of the table."""
    small, large = folder / "rate.parquet", folder / "memory.parquet"
    write_corpus(small, sources, options.rate_mb * MB)
    write_corpus(large, sources, options.mb * MB)

    command = [
        sys.executable,
        "-m",
        "benchmarks.speed.prepare",
        "--measure",
        str(large),
        "--threads",
        str(options.threads),
    ]
    memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603

    texts = pq.read_table(small, columns=["text"]).column(0).to_pylist()
    size = sum(len(text.encode()) for text in texts)
    encoding = tokenizer.gpt2().encoding
    rounds = count()

    def prepare_small() -> None:
        prepare_gpt2(small, folder / f"rate-{next(rounds)}", options.threads)

    kinds: dict[str, Callable[[], None]] = {
        "tiktoken": lambda: encode_batch(encoding, texts, options.threads),
        "to_numpy": lambda: encode_to_numpy(encoding, texts, options.threads),
        "prepare": prepare_small,
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    cpu_seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind, work in kinds.items():
            started, used = time.perf_counter(), time.process_time()
            work()
            seconds[kind].append(time.perf_counter() - started)
            cpu_seconds[kind].append(time.process_time() - used)
    rate = {kind: size / statistics.median(times) / MB for kind, times in seconds.items()}
    cpu_rate = {kind: size / statistics.median(times) / MB for kind, times in cpu_seconds.items()}
    return {
        "text": str(options.text_from or "embedded"),
        "threads": options.threads,
        "rounds": options.rounds,
        "timed text, MB": size / MB,
        "prepare, MB/s": rate["prepare"],
        "tiktoken's batch, MB/s": rate["tiktoken"],
        "encode_to_numpy, MB/s": rate["to_numpy"],
        "prepare / tiktoken": rate["prepare"] / rate["tiktoken"],
        "target at least": RATE_TARGET,
        "same, processors' time": cpu_rate["prepare"] / cpu_rate["tiktoken"],
        "prepare / encode_to_numpy": rate["prepare"] / rate["to_numpy"],
        "memory run's text, MB": memory["text_mb"],
        "memory run, MB/s": memory["text_mb"] / memory["seconds"],
        "peak memory, MB": memory["peak_mb"],
        "target at most, MB": MEMORY_TARGET,
    }


def source_texts(path: Path | None) -> list[str]:
    """Return the documents of which corpora are made. Raises UserError for a file without texts."""
    if path is not None:
        try:
            column = pq.read_table(path, columns=["text"]).column(0)
        except (pa.ArrowInvalid, IndexError) as error:
            raise UserError(f"{path} is no parquet with a column text") from error
        if texts := [text for text in column.to_pylist() if text]:
            return texts
        raise UserError(f"{path} holds no text")
    return [text for batch in EmbeddedCorpus().read(0) for text in batch.texts if text]


def write_corpus(path: Path, texts: list[str], size: int) -> None:
    """Write a parquet with `size` bytes of text: the texts repeated, each time with a number in front."""

    def documents() -> Iterator[str]:
        for number in count():
            yield f"{number}\n{texts[number % len(texts)]}"

    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    numbered = documents()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while size > 0:
            group: list[str] = []
            left = min(size, ROW_GROUP)
            size -= left
            while left > 0:
                group.append(next(numbered))
                left -= len(group[-1].encode())
            writer.write_table(pa.table({"id": range(len(group)), "text": group}, schema=schema))


def measure_memory(path: Path, threads: int) -> dict[str, float]:
    """Prepare a file in this process, which does nothing else; return its seconds and memory."""
    with tempfile.TemporaryDirectory(prefix="prepare-memory-") as folder:
        started = time.perf_counter()
        text_bytes = prepare_gpt2(path, Path(folder), threads)
        return {"seconds": time.perf_counter() - started, "text_mb": text_bytes / MB, "peak_mb": peak_memory() / MB}


def prepare_gpt2(path: Path, root: Path, threads: int) -> int:
    """Prepare a file with GPT-2's tokenizer; return the bytes of text."""
    source, choice = ParquetSource(files=(str(path),)), TokenizerChoice(type="gpt2")
    dataset = prepare(source, choice, root, threads=threads)
    return (dataset.train.bytes or 0) + (dataset.val.bytes or 0)


def encode_batch(encoding: tiktoken.Encoding, texts: list[str], threads: int) -> None:
    """Encode with tiktoken's own batch call, in slices."""
    batch: list[str] = []
    size = 0
    for text in [*texts, ""]:
        batch.append(text)
        size += len(text)
        if size >= SLICE or not text:
            encoding.encode_ordinary_batch(batch, num_threads=threads)
            batch, size = [], 0


def encode_to_numpy(encoding: tiktoken.Encoding, texts: list[str], threads: int) -> None:
    """Encode with tiktoken but without lists of ints, which is the highest rate that `prepare` could reach."""
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda text: encoding.encode_to_numpy(text, disallowed_special=()), texts):
            pass


def peak_memory() -> int:
    """Return the peak resident set of this process in bytes (Linux; ru_maxrss includes the parent's before exec)."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
