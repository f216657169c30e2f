"""Damaged and hostile files, given to every reader: how many were tried, and which ones ended it without a clear error.

    python -m benchmarks.reliability.fuzz [--minutes 3] [--readers study,store] [--seed 0] [--keep DIR] [--json]

Inputs are valid files with mutations (flipped bits, lost, repeated and foreign parts, odd numbers and words), and valid
structures with odd values in them. A reader may read an input or refuse it with a UserError. Anything else is a crash:
another exception, a process that ends, an input that takes more than 30 seconds or 8 GiB. Each reader has a process of
its own, an equal share of the time, and inputs numbered from 0, so that the same seed tries the same inputs. Rates are
per second of processor time. `--keep` writes the first input of each kind of crash into a folder. Exit code 1: there
were crashes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import multiprocessing
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from benchmarks.commands import ROOT, add_names, at_least, parser_of, positive
from benchmarks.reliability.fuzz_readers import READERS, FuzzedReader, one_probe
from trainer.errors import UserError

HANGS = 30.0
"""seconds after which an input counts as a hang"""
MEMORY = 8 << 30
"""bytes of address space from which on a reader fails with a MemoryError"""
REPORT = 0.5
"""seconds between a process's reports"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crash:
    """A kind of crash: where it happened, and the first input that caused it."""

    reader: str
    number: int
    """of the input"""
    error: str
    """type and text of the exception, or how the process ended"""
    place: str
    """file and line of the project where it happened; "": none of its own"""


@dataclasses.dataclass(kw_only=True)
class Tally:
    """What a reader did with its inputs."""

    inputs: int = 0
    refused: int = 0
    crashes: int = 0
    kinds: dict[tuple[str, str], Crash] = dataclasses.field(default_factory=dict)
    """by place and type of error"""
    seconds: float = 0.0
    """of processor time, for making the inputs and reading them"""

    @property
    def rate(self) -> float:
        """Inputs per second of processor time."""
        return self.inputs / self.seconds if self.seconds else 0.0

    def add(self, crash: Crash) -> None:
        """Count a crash."""
        self.crashes += 1
        self.kinds.setdefault((crash.place, crash.error.partition(":")[0]), crash)


def main() -> None:
    """Fuzz the readers and print what they did."""
    parser = parser_of(__doc__)
    parser.add_argument("--minutes", type=positive, default=3.0, help="minutes in all (default 3)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the inputs (default 0)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder for inputs that crashed a reader")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_names(parser, "--readers", READERS)
    options = parser.parse_args()
    share = 60 * options.minutes / len(options.readers)
    found = {name: fuzzed(name, seed=options.seed, seconds=share) for name in options.readers}
    print(json.dumps(as_json(found)) if options.json else "\n".join(table(found)))
    if options.keep is not None:
        _keep(found, options.keep, seed=options.seed)
    sys.exit(any(tally.crashes for tally in found.values()))


def fuzzed(name: str, *, seed: int, seconds: float, most: int | None = None) -> Tally:
    """Give a reader inputs for some time, or `most` of them. A process that ends or hangs is replaced."""
    tally, begun = Tally(), time.monotonic()
    context = multiprocessing.get_context("spawn")
    while (left := seconds - (time.monotonic() - begun)) > 0 and tally.inputs != most:
        number = context.Value("q", tally.inputs)
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(name, seed, left, most, number, theirs), daemon=True)
        process.start()
        theirs.close()
        if (ended := _watch(ours, number, tally)) is None:
            process.join()
            if process.exitcode == 0:
                break
            if process.exitcode == 1:  # an exception beside the reader, which Python has printed
                raise RuntimeError(f"{name}: input {number.value} could not be made")
            ended = f"the process ended with exit code {process.exitcode}"
        process.kill()
        process.join()
        tally.inputs = number.value + 1  # the one that it was given last
        tally.add(Crash(reader=name, number=number.value, error=ended, place=""))
    return tally


def _watch(reports: Connection, number: Synchronized[int], tally: Tally) -> str | None:
    """Take a process's reports until it ends. Returns None, or that it hangs."""
    last, since = -1, math.inf  # it is made first
    while True:
        if reports.poll(REPORT):
            try:
                told = reports.recv()
            except EOFError:
                return None
            if isinstance(told, Crash):
                tally.add(told)
            else:
                since = min(since, time.monotonic())
                inputs, refused, seconds = told
                tally.inputs += inputs
                tally.refused += refused
                tally.seconds += seconds
        if number.value != last and since < math.inf:
            last, since = number.value, time.monotonic()
        elif time.monotonic() - since > HANGS:
            return f"hangs: more than {HANGS:.0f} s"


def _work(
    name: str, seed: int, seconds: float, most: int | None, number: Synchronized[int], reports: Connection
) -> None:
    """Read inputs from `number` on, and report (inputs, refused, processor seconds) and crashes."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    reader = READERS[name]()
    end = time.monotonic() + seconds
    inputs = refused = 0
    told, spent = -math.inf, time.process_time()
    with one_probe(), tempfile.TemporaryDirectory() as folder:
        while (now := time.monotonic()) < end and number.value != most:
            if now - told > REPORT:
                reports.send((inputs, refused, time.process_time() - spent))
                inputs, refused, told, spent = 0, 0, now, time.process_time()
            crash, was_refused = attempt(name, reader, number.value, seed=seed, folder=Path(folder))
            if crash is not None:
                reports.send(crash)
            inputs, refused = inputs + 1, refused + was_refused
            number.value += 1
        reports.send((inputs, refused, time.process_time() - spent))


def attempt(name: str, reader: FuzzedReader, number: int, *, seed: int, folder: Path) -> tuple[Crash | None, bool]:
    """Give a reader an input. Returns its crash, if it was one, and whether the input was refused."""
    for old in folder.iterdir():
        old.unlink()
    reader.write(folder, draw_of(name, number, seed=seed))
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            reader.read(folder / reader.file)
    except UserError:
        return None, True
    except BaseException as error:  # noqa: BLE001  # a panic of Rust's is no Exception
        text = f"{type(error).__name__}: {error}"[:300]
        return Crash(reader=name, number=number, error=text, place=_place(error)), False
    return None, False


def draw_of(name: str, number: int, *, seed: int) -> random.Random:
    """Return the randomness of an input."""
    return random.Random(f"{seed}:{name}:{number}")


def _place(error: BaseException) -> str:
    """Return the last place of the project in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if any(f"/{package}/" in f.filename for package in ("trainer", "sweeps"))]
    if not own:
        return ""
    path = Path(own[-1].filename)
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{own[-1].lineno}"


def _keep(found: dict[str, Tally], folder: Path, *, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for crash in _crashes(found):
        reader = READERS[crash.reader]()
        with tempfile.TemporaryDirectory() as inputs:
            content = reader.write(Path(inputs), draw_of(crash.reader, crash.number, seed=seed))
        (folder / f"{crash.reader.replace(' ', '-')}-{crash.number}-{reader.file}").write_bytes(content)


def _crashes(found: dict[str, Tally]) -> Iterator[Crash]:
    for tally in found.values():
        yield from tally.kinds.values()


def as_json(found: dict[str, Tally]) -> dict[str, object]:
    """Return what the readers did as plain data."""
    return {
        "inputs": sum(tally.inputs for tally in found.values()),
        "crashes": sum(tally.crashes for tally in found.values()),
        "readers": {
            name: {
                "inputs": tally.inputs,
                "refused": tally.refused,
                "crashes": tally.crashes,
                "per_second": round(tally.rate, 1),
            }
            for name, tally in found.items()
        },
        "kinds": [dataclasses.asdict(crash) for crash in _crashes(found)],
    }


def table(found: dict[str, Tally]) -> Iterator[str]:
    """Yield a line per reader, the sums, and the kinds of crashes."""
    yield f"{'reader':<14}{'inputs':>10}{'refused':>10}{'crashes':>10}{'per second':>12}"
    for name, tally in found.items():
        yield f"{name:<14}{tally.inputs:>10,}{tally.refused:>10,}{tally.crashes:>10,}{tally.rate:>12,.0f}"
    inputs, crashes = (sum(getattr(tally, of) for tally in found.values()) for of in ("inputs", "crashes"))
    yield f"{'all':<14}{inputs:>10,}{sum(tally.refused for tally in found.values()):>10,}{crashes:>10,}"
    for crash in _crashes(found):
        yield f"{crash.reader} {crash.number}: {crash.error} ({crash.place or 'outside of the project'})"


if __name__ == "__main__":
    main()
