"""Decisions of the loop that are pure: what hangs, what is kept, how long it will take."""

from __future__ import annotations

import dataclasses
import math

import pytest

from sweeps.engine import progress
from sweeps.store import records
from sweeps.store.records import Run
from tests.helpers import small_sweep
from tests.helpers.fake_training import point_at


def a_run(run: int = 1, **changes: object) -> Run:
    given = Run(
        id=run,
        optuna_study="small",
        trial=run,
        seed=1337,
        phase="search",
        origin="sampler",
        label="trial",
        knob=None,
        params={},
        config=small_sweep.baseline(),
        device="cpu",
        outcome="complete",
        reason="",
        val_loss=3.0,
        val_se=0.01,
        seconds=100.0,
        points=(),
    )
    return dataclasses.replace(given, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("longest_gap", "limit"), [(0.0, math.inf), (0.1, 600.0), (30.0, 600.0), (31.0, 620.0), (3600.0, 72000.0)]
)
def test_stall_limit(longest_gap: float, limit: float) -> None:
    assert progress.stall_limit(longest_gap) == limit


def test_gaps_are_between_neighbours() -> None:
    points = [dataclasses.replace(point_at(small_sweep.baseline(), 0), seconds=seconds) for seconds in (3.0, 4.0, 9.0)]
    assert progress.gaps(points) == [1.0, 5.0]
    assert progress.gaps(points[:1]) == []


def test_the_best_is_the_searchs_lowest_complete_run() -> None:
    runs = [
        a_run(1, val_loss=3.2),
        a_run(2, val_loss=3.1),
        a_run(3, val_loss=3.1),
        a_run(4, val_loss=2.0, optuna_study="small-confirm"),
        a_run(5, val_loss=None, outcome="pruned"),
    ]
    best = records.best_of(runs, search="small")
    assert best is not None
    assert best.id == 2
    assert records.best_of(runs[3:], search="small") is None


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"outcome": "running"}, True),
        ({"outcome": "truncated"}, True),
        ({"phase": "baseline"}, True),
        ({"phase": "baseline", "outcome": "diverged"}, False),
        ({}, False),
        ({"id": 7}, True),
        ({"id": 7, "outcome": "failed"}, False),
    ],
)
def test_checkpoints_that_are_kept(changes: dict[str, object], kept: bool) -> None:
    assert progress.keeps_checkpoint(a_run(run=1, **changes), best=a_run(7)) is kept


@pytest.mark.parametrize(
    ("runs", "workers", "expected"),
    [
        ([], 1, None),
        ([a_run(1, outcome="running", seconds=50.0)], 1, None),
        ([a_run(1)], 1, 900.0),
        ([a_run(1)], 3, 300.0),
        ([a_run(1), a_run(2, seconds=50.0, outcome="pruned")], 1, 600.0),
        ([a_run(1), a_run(2, outcome="running", seconds=40.0)], 1, 860.0),
        # one that takes longer than the others has as little left as one that is as far as they were
        ([a_run(1), a_run(2, outcome="running", seconds=400.0)], 1, 800.0),
        ([a_run(run) for run in range(10)], 1, 0.0),
    ],
)
def test_remaining_seconds_of_ten_runs(runs: list[Run], workers: int, expected: float | None) -> None:
    each = progress.mean_seconds(runs)
    assert progress.remaining(runs, each, planned=10, workers=workers) == expected
    under_way = [run for run in runs if run.unfinished]
    planned = 10 - (len(runs) - len(under_way))
    assert progress.remaining(under_way, each, planned=planned, workers=workers) == expected


def test_counts_name_every_outcome() -> None:
    counts = records.counts([a_run(1), a_run(2, outcome="running"), a_run(3, outcome="failed"), a_run(4)])
    assert counts == {"complete": 2, "pruned": 0, "diverged": 0, "infeasible": 0, "truncated": 0, "failed": 1}
