"""Runs of a table: which columns are found, what is final, and what is left out and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.tables.layout import layout_of, normal
from sweeps.tables.rows import Table, TableError
from sweeps.tables.ruling import rule
from sweeps.tables.runs import TableRuns, runs_of


def table(*rows: dict[str, Any]) -> Table:
    return Table(path=Path("runs.csv"), columns=tuple(rows[0]), rows=rows)


def runs(*rows: dict[str, Any], baseline: str | None = None) -> TableRuns:
    return runs_of(table(*rows), baseline=baseline)


@pytest.mark.parametrize(
    ("name", "as_role"),
    [("Val/Loss", "val_loss"), ("valLoss", "val_loss"), (" Seed ", "seed"), ("summary.val_bpb", "val_bpb")],
)
def test_names_of_columns_are_read_in_any_spelling(name: str, as_role: str) -> None:
    assert normal(name) == as_role


def test_columns_as_a_tracker_exports_them() -> None:
    """Each run has a name of its own, so its settings tell arms apart; results and times do not."""
    rows = [
        {"Name": f"run-{i}", "lr": lr, "seed": i % 2, "train_loss": 3 + i, "val_loss": 3.1234567 + i / 7, "Runtime": 9}
        for i, lr in enumerate([1e-3, 1e-3, 3e-3, 3e-3])
    ]
    layout = layout_of(table(*rows))
    assert (layout.arm, layout.settings, layout.seed, layout.loss, layout.seconds) == (
        *(None, ("lr",), "seed", "val_loss"),
        "Runtime",
    )
    read = runs(*rows)
    assert read.arms() == ["lr 0.001", "lr 0.003"]
    assert read.baseline == "lr 0.001"
    assert any("--baseline names another" in note for note in read.notes)


def test_names_that_come_again_are_arms() -> None:
    rows = [{"name": name, "lr": i, "loss": 3.0} for i, name in enumerate(["a", "a", "b", "b"])]
    assert layout_of(table(*rows)).arm == "name"


def test_numbers_of_runs_are_no_arms() -> None:
    rows = [{"lr": lr, "run": run, "loss": 3.0} for lr in (0.1, 0.2) for run in (1, 2, 3)]
    assert runs(*rows).arms() == ["lr 0.1", "lr 0.2"]
    assert all(run.seed is None for run in runs(*rows).runs)


def test_the_baseline_is_the_arm_of_that_name() -> None:
    rows = [{"arm": arm, "seed": 1, "loss": 3.0} for arm in ("wide", "Baseline", "deep")]
    assert runs(*rows).arms() == ["Baseline", "wide", "deep"]
    assert runs(*rows, baseline="deep").baseline == "deep"
    with pytest.raises(TableError, match="there are 'wide', 'Baseline' and 'deep'"):
        runs(*rows, baseline="nobody")


def test_curves_are_compared_at_the_last_step_that_all_have() -> None:
    rows = [
        {"arm": arm, "seed": 1, "step": step, "val_loss": 4 - step / 100 - (arm == "b")}
        for arm, last in (("a", 300), ("b", 200))
        for step in range(0, last + 1, 100)
    ]
    rows.append({"arm": "a", "seed": 1, "step": 350, "val_loss": None})  # a line of the training loss alone
    read = runs(*rows)
    assert {run.arm: run.loss for run in read.runs} == {"a": 2.0, "b": 1.0}
    assert "losses are those at step 200, the last that all runs have; some go on to 300" in read.notes


def test_a_curve_that_ends_in_nan_has_diverged_and_shortens_nobody() -> None:
    rows = [{"arm": "a", "seed": 1, "step": step, "loss": 3.0} for step in (0, 100, 200)]
    rows += [{"arm": "b", "seed": 1, "step": 0, "loss": 3.0}, {"arm": "b", "seed": 1, "step": 100, "loss": "nan"}]
    read = runs(*rows)
    assert {run.arm: run.loss for run in read.runs} == {"a": 3.0, "b": None}
    assert any("step 200" in note for note in read.notes)


def test_shorter_runs_are_left_out_and_counted() -> None:
    rows = [{"arm": arm, "seed": seed, "step": 500, "loss": 3.0} for arm in "ab" for seed in (1, 2)]
    rows.append({"arm": "b", "seed": 3, "step": 100, "loss": 2.0})
    read = runs(*rows)
    assert len(read.runs) == 4
    assert any("1 run left out, which did not end at step 500 as most did" in note for note in read.notes)


def test_two_runs_of_one_arm_and_seed_are_one() -> None:
    rows = [{"arm": "a", "seed": 1, "loss": loss} for loss in (3.0, 3.2)] + [{"arm": "b", "seed": 1, "loss": 3.0}]
    read = runs(*rows)
    assert [run.loss for run in read.runs] == pytest.approx([3.1, 3.0])
    assert any("1 pair of arm and seed" in note for note in read.notes)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"arm": "a", "accuracy": 1}], "no column holds the final loss"),
        ([{"loss": 3.0}, {"loss": 3.1}], "nothing tells arms apart"),
        ([{"arm": "a", "loss": 3.0}], "holds one arm, 'a'"),
        ([{"arm": "a", "seed": 1.5, "loss": "x"}, {"arm": None, "seed": None, "loss": 1}], "4 cells can't be used"),
        (
            [{"arm": "a", "step": s, "loss": 3.0} for s in (1, 2)] * 2 + [{"arm": "b", "step": 1, "loss": 3.0}],
            "",
        ),
        (
            [{"arm": arm, "seed": 1, "step": 2 * i + (arm == "b"), "loss": 3.0} for arm in "ab" for i in range(3)],
            "no step is in all 2 curves",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused(rows: list[dict[str, Any]], words: str) -> None:
    if not words:
        assert len(runs(*rows).runs) == 3  # without seeds every row is a run; most end at step 1
        return
    with pytest.raises(TableError) as error:
        runs(*rows)
    assert words in str(error.value)


@pytest.mark.parametrize("huge", [10**400, 1e308, 1e15, "1e999", "9" * 400, float("nan")])
def test_a_loss_beyond_reason_is_a_diverged_run(huge: Any) -> None:
    """Its square would overflow in every test that follows."""
    rows: list[dict[str, Any]] = [
        {"arm": arm, "seed": seed, "loss": 3.0 + seed / 10, "seconds": 5.0} for arm in "ab" for seed in range(3)
    ]
    rows[-1] |= {"loss": huge, "seconds": huge}
    found = runs(*rows)
    assert (found.runs[-1].loss, found.runs[-1].seconds) == (None, None)
    assert rule(found, min_effect=0.02).arms[0].diverged == 1


@pytest.mark.parametrize("seed", [2**60 + 1, str(2**60 + 1)])
def test_a_large_seed_is_kept_exactly(seed: Any) -> None:
    rows: list[dict[str, Any]] = [{"arm": arm, "seed": seed, "loss": 3.0} for arm in "ab"]
    assert {run.seed for run in runs(*rows).runs} == {2**60 + 1}


@pytest.mark.parametrize(
    ("step", "words"), [("nan", "row 1: step='nan' is no step"), ("inf", "is no step"), (None, "row 1: has no step")]
)
def test_a_loss_at_no_step_is_refused(step: str | None, words: str) -> None:
    rows = tuple({"arm": arm, "seed": "1", "step": step, "val_loss": "3.5"} for arm in "ab")
    with pytest.raises(TableError, match=words):
        runs_of(Table(path=Path("runs.csv"), columns=tuple(rows[0]), rows=rows))
