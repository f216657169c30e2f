"""What preparing a corpus costs: its rate beside tiktoken's own, and its memory.

    python -m benchmarks.speed.prepare [--text-from plays.parquet] [--json]

tiktoken's rate is `Encoding.encode_ordinary_batch` over the same documents, already in memory, with the same
number of threads; `prepare` reads them from parquet, sifts, encodes, writes and checks them, and loads its
vocabulary. Runs alternate, medians are compared: of wall time, which is what counts and needs a machine of one's own,
and of the processors' time, which neighbours hardly disturb. The memory is the peak resident set of a process of
its own that prepares a file of --mb megabytes.
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

from trainer.data import tokenizer
from trainer.data.corpus import EmbeddedCorpus
from trainer.data.prepare import ParquetSource, TokenizerChoice, prepare

MB = 1_000_000
GROUP = 40 * MB  # text of a row group
SLICE = 8 * MB  # text handed to tiktoken at once, so that its lists of ints fit in memory
RATE_TARGET = 0.9
MEMORY_TARGET = 400  # MB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text-from", type=Path, help="parquet file with a column text; default: the embedded corpus")
    parser.add_argument("--mb", type=int, default=400, help="megabytes of text for the memory run (default 400)")
    parser.add_argument("--rate-mb", type=int, default=80, help="megabytes of text for each timed run (default 80)")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each kind (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads that encode (default 2)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure_memory(arguments.measure, arguments.threads)))
        return
    with tempfile.TemporaryDirectory(prefix="prepare-benchmark-") as folder:
        result = run(Path(folder), arguments)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    for name, value in result.items():
        print(f"{name:<28}{value:>12.3f}" if isinstance(value, float) else f"{name:<28}{value:>12}")


def run(folder: Path, arguments: argparse.Namespace) -> dict[str, float | int | str]:
    sources = read_sources(arguments.text_from)
    small, large = folder / "rate.parquet", folder / "memory.parquet"
    write_corpus(small, sources, arguments.rate_mb * MB)
    write_corpus(large, sources, arguments.mb * MB)

    command = [
        sys.executable,
        "-m",
        "benchmarks.speed.prepare",
        "--measure",
        str(large),
        "--threads",
        str(arguments.threads),
    ]
    memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603

    texts = pq.read_table(small, columns=["text"]).column(0).to_pylist()
    size = sum(len(text.encode()) for text in texts)
    encoding = tokenizer.gpt2().encoding
    rounds = count()

    def prepare_small() -> None:
        prepare_gpt2(small, folder / f"rate-{next(rounds)}", arguments.threads)

    kinds: dict[str, Callable[[], None]] = {
        "tiktoken": lambda: encode_batch(encoding, texts, arguments.threads),
        "to_numpy": lambda: encode_to_numpy(encoding, texts, arguments.threads),
        "prepare": prepare_small,
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    processor: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(arguments.rounds):
        for kind, work in kinds.items():
            started, used = time.perf_counter(), time.process_time()
            work()
            seconds[kind].append(time.perf_counter() - started)
            processor[kind].append(time.process_time() - used)
    rate = {kind: size / statistics.median(times) / MB for kind, times in seconds.items()}
    work_rate = {kind: size / statistics.median(times) / MB for kind, times in processor.items()}
    return {
        "text": str(arguments.text_from or "embedded"),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "timed text, MB": size / MB,
        "prepare, MB/s": rate["prepare"],
        "tiktoken's batch, MB/s": rate["tiktoken"],
        "encode_to_numpy, MB/s": rate["to_numpy"],
        "prepare / tiktoken": rate["prepare"] / rate["tiktoken"],
        "target at least": RATE_TARGET,
        "same, processors' time": work_rate["prepare"] / work_rate["tiktoken"],
        "prepare / encode_to_numpy": rate["prepare"] / rate["to_numpy"],
        "memory run's text, MB": memory["text_mb"],
        "memory run, MB/s": memory["text_mb"] / memory["seconds"],
        "peak memory, MB": memory["peak_mb"],
        "target at most, MB": MEMORY_TARGET,
    }


def read_sources(path: Path | None) -> list[str]:
    """Documents to make a corpus of."""
    if path is not None:
        return [text for text in pq.read_table(path, columns=["text"]).column(0).to_pylist() if text]
    return [text for batch in EmbeddedCorpus().read(0) for text in batch.texts if text]


def write_corpus(path: Path, sources: list[str], size: int) -> None:
    """A parquet file of `size` bytes of text: the sources over and over, each time with a number in front."""

    def documents() -> Iterator[str]:
        for number in count():
            yield f"{number}\n{sources[number % len(sources)]}"

    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    made = documents()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while size > 0:
            group: list[str] = []
            left = min(size, GROUP)
            size -= left
            while left > 0:
                group.append(next(made))
                left -= len(group[-1].encode())
            writer.write_table(pa.table({"id": range(len(group)), "text": group}, schema=schema))


def measure_memory(path: Path, threads: int) -> dict[str, float]:
    """Prepare a file in this process, which does nothing else."""
    with tempfile.TemporaryDirectory(prefix="prepare-memory-") as folder:
        started = time.perf_counter()
        text_bytes = prepare_gpt2(path, Path(folder), threads)
        return {"seconds": time.perf_counter() - started, "text_mb": text_bytes / MB, "peak_mb": peak_memory() / MB}


def prepare_gpt2(path: Path, root: Path, threads: int) -> int:
    """Bytes of text prepared."""
    source, choice = ParquetSource(files=(str(path),)), TokenizerChoice(type="gpt2")
    dataset = prepare(source, choice, root, threads=threads)
    return (dataset.train.bytes or 0) + (dataset.val.bytes or 0)


def encode_batch(encoding: tiktoken.Encoding, texts: list[str], threads: int) -> None:
    """tiktoken's own batch call, in slices."""
    batch: list[str] = []
    size = 0
    for text in [*texts, ""]:
        batch.append(text)
        size += len(text)
        if size >= SLICE or not text:
            encoding.encode_ordinary_batch(batch, num_threads=threads)
            batch, size = [], 0


def encode_to_numpy(encoding: tiktoken.Encoding, texts: list[str], threads: int) -> None:
    """tiktoken without making lists of ints: the most that `prepare` could reach."""
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda text: encoding.encode_to_numpy(text, disallowed_special=()), texts):
            pass


def peak_memory() -> int:
    """The largest resident set of this process, bytes (Linux; ru_maxrss would count the parent's before exec)."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
