"""Arrow tables of runs and curves: a row per run or evaluation, with the values of the records."""

from __future__ import annotations

import dataclasses

from sweeps.arrow import CURVES, RUNS, curves_table, runs_table
from sweeps.store.records import Outcome
from sweeps.study.baseline import NAMES
from tests.helpers import small_sweep
from trainer.points import Point

COMPLETE = small_sweep.run(1, [5.0, 4.5, 4.25], label="first", knob="dropout")
PRUNED = small_sweep.run(7, [5.0], outcome=Outcome.PRUNED, val_loss=None, val_se=None, reason="behind-control")


def test_a_row_per_run_has_its_end_and_its_settings() -> None:
    first, second = runs_table([COMPLETE, PRUNED]).to_pylist()
    other_names = {"run": "id", "proposed_by": "origin"}
    of_run = {column.name for column in RUNS} - set(NAMES)
    assert {name: first[name] for name in of_run} == {
        name: getattr(COMPLETE, other_names.get(name, name)) for name in of_run
    }
    assert (second["val_loss"], second["val_se"], second["reason"]) == (None, None, "behind-control")
    config = COMPLETE.config.as_dict()
    assert {name: first[name] for name in NAMES} == {name: config[name] for name in NAMES}


def test_a_row_per_evaluation_has_every_field_of_its_point() -> None:
    table = curves_table([COMPLETE, PRUNED])
    assert table.column("run").to_pylist() == [1, 1, 1, 7]
    points = [*COMPLETE.points, *PRUNED.points]
    assert table.drop_columns(["run"]).to_pylist() == [dataclasses.asdict(point) for point in points]
    assert {column.name for column in CURVES} == {field.name for field in dataclasses.fields(Point)}


def test_tables_without_rows_keep_their_types() -> None:
    assert runs_table([]).schema == runs_table([COMPLETE]).schema
    assert curves_table([]).schema == curves_table([COMPLETE]).schema


def test_columns_say_what_they_hold() -> None:
    assert len({column.name for column in RUNS}) == len(RUNS)
    assert all(column.words for column in (*RUNS, *CURVES))
    for table in (runs_table([COMPLETE]), curves_table([COMPLETE])):
        for field in table.schema:
            assert field.metadata[b"description"]
            assert (field.metadata[b"unit"] == b"nats per token") is (field.name.endswith(("_loss", "_se")))
