"""Damaged stores: what can be read is shown, what can't is named, and a sweep doesn't go on from one."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sweeps.engine.opening import stored_study
from sweeps.errors import StoreError
from sweeps.store.records import Outcome, Results
from sweeps.store.sqlite import url_of
from sweeps.store.store import Reader, Store
from tests.helpers import small_sweep
from tests.helpers.fake_training import point_at

RUNS = 3
COUNTS = ("vocab_size", "train_tokens", "val_tokens", "bytes_per_token")


@pytest.fixture
def sound(store: Store, path: Path) -> Path:
    """Return the path of a store with three complete runs of three points each."""
    for number in range(RUNS):
        run = store.add_run(
            "small", small_sweep.run(number, outcome=Outcome.RUNNING), fingerprint="f", versions={}, commit=None
        )
        points = [(run.id, point_at(run.config, step)) for step in range(3)]
        store.add_points(points, name="small", seconds=5.0)
        store.ended(
            run.id, outcome=Outcome.COMPLETE, reason="", step=20, seconds=9.0, val_loss=3.0, val_se=0.1, pruning=None
        )
    return path


@pytest.fixture
def connection(sound: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(sound, isolation_level=None)) as connection:
        yield connection


def results_of(path: Path) -> Results:
    with Reader(f"sqlite:///{path}") as reader:
        return reader.results("small")


CONFIG = small_sweep.baseline().as_dict()


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("config", "{", "run 2 can't be read and is left out: Expecting property name"),
        ("config", "[1]", "run 2 can't be read and is left out"),
        ("config", "[" * 5000, "run 2 can't be read and is left out"),
        ("config", json.dumps({**CONFIG, "n_embd": 17, "n_head": 2}), "n_embd=17 is not divisible"),
        ("config", json.dumps({**CONFIG, "n_layer": "2"}), "n_layer='2' is text"),
        ("config", json.dumps({**CONFIG, "learning_rate": 10**400}), "too large"),
        ("params", "null", "run 2 can't be read and is left out: Input should be an object"),
        ("params", '{"dropout": [1]}', "dropout"),
        ("params", '{"dropout": "0.1"}', "dropout"),
        ("params", f'{{"dropout": {10**400}}}', "dropout"),
        ("pruning", '{"rule": 3}', "rule: Input should be a valid string"),
        ("pruning", "nothing", "Invalid JSON"),
        ("device_kinds", "[[1]]", "valid string"),
        ("seed", "many", "seed is 'many'"),
        ("seconds", b"\xff", r"seconds is b'\\xff'"),
        ("outcome", "gone", "'gone' is not a valid Outcome"),
        ("val_loss", None, "complete with the loss None"),
        ("val_loss", float("inf"), "complete with the loss inf"),
        ("val_loss", -1e308, r"complete with the loss -1e\+308"),
        ("knob", "-1", "knob is '-1', which is no setting"),
    ],
)
def test_a_damaged_run_is_named_and_left_out(
    sound: Path, connection: sqlite3.Connection, column: str, value: Any, words: str
) -> None:
    connection.execute(f"UPDATE run SET {column} = ? WHERE id = 2", (value,))  # noqa: S608
    results = results_of(sound)
    assert [run.id for run in results.runs] == [1, 3]
    (text,) = results.damaged
    assert text.startswith("run 2 can't be read and is left out: ")
    assert re.search(words, text), text


@pytest.mark.parametrize(
    ("column", "value"), [("val_loss", "low"), ("val_loss", 1e308), ("tokens", "x"), ("lr", b"\x00"), ("seconds", "")]
)
def test_a_damaged_point_is_counted_and_left_out(
    sound: Path, connection: sqlite3.Connection, column: str, value: Any
) -> None:
    connection.execute(f"UPDATE point SET {column} = ? WHERE run_id = 3 AND step > 0", (value,))  # noqa: S608
    results = results_of(sound)
    assert {run.id: [point.step for point in run.points] for run in results.runs} == {
        1: [0, 1, 2],
        2: [0, 1, 2],
        3: [0],
    }
    assert results.damaged == ("run 3: 2 points can't be read and are left out",)


def test_undecodable_text_is_shown_as_it_is(sound: Path, connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE run SET label = CAST(? AS TEXT) WHERE id = 1", (b"a \xff label",))
    results = results_of(sound)
    assert results.runs[0].label == "a \ufffd label"
    assert results.damaged == ()


def test_a_sound_store_has_nothing_to_say(sound: Path) -> None:
    results = results_of(sound)
    assert (len(results.runs), results.damaged) == (RUNS, ())


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("data", "{}", "study 'small' can't be read .*restore the store from a copy"),
        ("data", "[", "study 'small' can't be read"),
        *((f"data.{name}", "0", f"'small' can't be read .{name}: Input should be greater than 0") for name in COUNTS),
        ("provenance", '{"a": {}}', "study 'small' can't be read .a: Input should be a valid string"),
        ("active_seconds", "long", "study 'small' can't be read"),
        ("spec", "{}", "was stored by another plateau-sweep"),
    ],
)
def test_a_damaged_study_is_refused(
    sound: Path, connection: sqlite3.Connection, column: str, value: str, words: str
) -> None:
    column, _, key = column.partition(".")
    changed = f"json_set({column}, '$.{key}', json(?))" if key else "?"
    connection.execute(f"UPDATE study SET {column} = {changed}", (value,))  # noqa: S608
    with pytest.raises(StoreError, match=words):
        results_of(sound)


@pytest.mark.parametrize("kind", [Reader, Store])
def test_a_damaged_definition_of_a_table_is_refused(
    sound: Path, connection: sqlite3.Connection, kind: type[Reader]
) -> None:
    """SQLite repeats the damaged text, and Python can't decode it."""
    connection.execute("PRAGMA writable_schema = ON")
    broken = b"CREATE TABLE \xca \xcb (" + b"\xff"
    connection.execute("UPDATE sqlite_master SET sql = CAST(? AS TEXT) WHERE name = 'point'", (broken,))
    connection.close()
    with pytest.raises(StoreError, match=r"not a SQLite database, or is damaged; .*restore it from a copy"):
        kind(url_of(sound))


def test_the_name_of_a_study_is_its_own(sound: Path, connection: sqlite3.Connection) -> None:
    """The name is a part of the paths of locks, and only the study's own is checked."""
    connection.execute("UPDATE study SET name = '../../outside'")
    with (
        Reader(f"sqlite:///{sound}") as reader,
        pytest.raises(StoreError, match=r"names the study 'small' '\.\./\.\./outside'"),
    ):
        reader.results("../../outside")


def test_missing_tables_and_columns_are_named_at_once(sound: Path, connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE event")
    connection.execute("ALTER TABLE run DROP COLUMN knob")
    connection.execute("ALTER TABLE point DROP COLUMN lr")
    with pytest.raises(StoreError, match=r"it lacks event, .*run\.knob.*; restore it from a copy") as caught:
        results_of(sound)
    assert "point.lr" in str(caught.value)


@pytest.mark.parametrize("change", ["DELETE FROM schema_version", "UPDATE schema_version SET version = 'new'"])
def test_a_version_that_cant_be_read(sound: Path, connection: sqlite3.Connection, change: str) -> None:
    connection.execute(change)
    with pytest.raises(StoreError, match="schema version can't be read"):
        results_of(sound)


@pytest.mark.parametrize("kind", [Reader, Store])
@pytest.mark.parametrize("change", ["UPDATE schema_version SET version = 2", "DROP TABLE run"])
def test_tables_of_another_version_than_the_file_says(
    sound: Path, connection: sqlite3.Connection, kind: type[Reader], change: str
) -> None:
    connection.execute("UPDATE schema_version SET version = 1")
    connection.execute(change)
    connection.close()
    with pytest.raises(StoreError, match=r"is damaged; .*restore it from a copy"):
        kind(url_of(sound))


def test_a_sweep_doesnt_go_on_from_a_damaged_store(store: Store, sound: Path, connection: sqlite3.Connection) -> None:
    """The run that can't be read would be trained a second time under another number."""
    connection.execute("UPDATE run SET config = '{' WHERE id = 2")
    with pytest.raises(StoreError, match=r"run 2 can't be read .* before the study goes on"):
        stored_study(small_sweep.study(), store, data=small_sweep.FACTS)
