"""The fuzzer: it finds a planted crash of every kind, repeats its inputs, and its valid files are valid."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.reliability import fuzz
from benchmarks.reliability.fuzz_readers import READERS, FuzzedReader
from benchmarks.reliability.mutations import mutated, mutated_value
from trainer.errors import ConfigError

QUICK = ("study", "config", "csv", "tsv", "jsonl", "bin", "meta.pkl", "meta.json", "ranks", "checkpoint")
"""readers that accept their valid files and need no other process"""


def planted(read: Callable[[Path], None]) -> FuzzedReader:
    return FuzzedReader(file="file", samples={"text": b"one 1\ntwo 2\n"}, read=read)


def raising(error: BaseException) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        assert path.exists()
        raise error

    return read


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (None, None),
        (ConfigError("x: is wrong"), None),
        (ValueError("no"), "ValueError: no"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (RecursionError(), "RecursionError: "),
    ],
)
def test_everything_but_a_users_error_is_a_crash(
    tmp_path: Path, error: BaseException | None, shown: str | None
) -> None:
    read = raising(error) if error is not None else lambda path: None
    crash, refused = fuzz.attempt("planted", planted(read), 3, seed=0, folder=tmp_path)
    assert refused is isinstance(error, ConfigError)
    assert (None if crash is None else (crash.number, crash.error)) == (None if shown is None else (3, shown))


def test_a_crash_names_the_last_place_of_the_project(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        from trainer.expressions import source_of

        source_of(None)  # type: ignore[arg-type]

    crash, _ = fuzz.attempt("planted", planted(read), 0, seed=0, folder=tmp_path)
    assert crash is not None
    assert crash.place.startswith("trainer/expressions.py:")


def test_a_reader_is_given_its_inputs_in_a_process_of_its_own() -> None:
    """The number of a reader's inputs is exact, and none of these few crashes it."""
    tally = fuzz.fuzzed("ranks", seed=0, seconds=600.0, most=40)
    assert (tally.inputs, tally.crashes) == (40, 0)
    assert 0 < tally.refused < 40


def test_a_process_that_ends_is_a_crash_and_the_next_input_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "_work", _ends_at_the_third)
    tally = fuzz.fuzzed("ranks", seed=0, seconds=600.0, most=6)
    (crash,) = tally.kinds.values()
    assert (crash.number, crash.error) == (2, "the process ended with exit code -6")
    assert tally.inputs == 6


def _ends_at_the_third(name, seed, seconds, most, number, reports):  # type: ignore[no-untyped-def]
    begun = number.value
    while number.value != most:
        if number.value == 2:
            os.abort()
        number.value += 1
    reports.send((number.value - begun, 0, 0.1))


@pytest.mark.parametrize("name", QUICK)
def test_valid_files_are_read(tmp_path: Path, name: str) -> None:
    reader = READERS[name]()
    for content in reader.samples.values():
        for beside, held in reader.beside.items():
            (tmp_path / beside).write_bytes(held)
        (tmp_path / reader.file).write_bytes(content)
        reader.read(tmp_path / reader.file)


@pytest.mark.parametrize("name", QUICK)
def test_an_input_can_be_made_again_from_its_number(tmp_path: Path, name: str) -> None:
    reader = READERS[name]()
    contents = [reader.write(tmp_path, fuzz.draw_of(name, number, seed=5)) for number in (*range(12), *range(12))]
    assert contents[:12] == contents[12:]
    assert len(set(contents)) > 6
    assert contents[0] != reader.write(tmp_path, fuzz.draw_of(name, 0, seed=6))


def test_mutations_change_a_file_and_values() -> None:
    content, value = b"step 5: loss 3.25\n" * 4, {"a": [1, 2], "b": {"c": 3.5}}
    files = [mutated(content, random.Random(seed), others=[content]) for seed in range(200)]
    assert sum(file != content for file in files) > 150
    values = [mutated_value(value, random.Random(seed)) for seed in range(200)]
    assert sum(repr(changed) != repr(value) for changed in values) > 150
    assert value == {"a": [1, 2], "b": {"c": 3.5}}


def test_its_sums() -> None:
    tally = fuzz.Tally(inputs=10, refused=4, seconds=2.0)
    for number in (3, 7):
        tally.add(fuzz.Crash(reader="ranks", number=number, error=f"ValueError: {number}", place="a.py:1"))
    tally.add(fuzz.Crash(reader="ranks", number=8, error="KeyError: 8", place="a.py:1"))
    found = fuzz.as_json({"ranks": tally, "csv": fuzz.Tally()})
    assert (found["inputs"], found["crashes"]) == (10, 3)
    assert [kind["number"] for kind in found["kinds"]] == [3, 8]  # type: ignore[attr-defined]
    assert found["kinds"][0] == dataclasses.asdict(tally.kinds["a.py:1", "ValueError"])  # type: ignore[index]
    lines = list(fuzz.table({"ranks": tally}))
    assert lines[1].split() == ["ranks", "10", "4", "3", "5"]
    assert lines[-1] == "ranks 8: KeyError: 8 (a.py:1)"
