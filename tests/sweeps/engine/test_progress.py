"""Pure decisions of the loop: when a worker hangs, which checkpoints are kept."""

from __future__ import annotations

import dataclasses

import pytest

from sweeps.engine import progress
from sweeps.engine.planning.workload import workload
from sweeps.store import records
from sweeps.store.records import Run
from tests.helpers import small_sweep
from tests.helpers.fake_training import point_at
from tests.helpers.small_sweep import run


def test_the_best_run_is_the_searchs_complete_run_of_lowest_loss() -> None:
    runs = [
        run(1, val_loss=3.2),
        run(2, val_loss=3.1),
        run(3, val_loss=3.1),
        run(4, val_loss=2.0, optuna_study="small-confirm"),
        run(5, val_loss=None, outcome="pruned"),
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
        ({"phase": "pilot"}, True),
        ({}, False),
        ({"id": 7}, True),
        ({"id": 7, "outcome": "failed"}, False),
    ],
)
def test_the_checkpoints_that_are_kept(changes: dict[str, object], kept: bool) -> None:
    assert progress.keeps_checkpoint(run(1, **changes), best=run(7)) is kept


def test_counts_name_every_outcome() -> None:
    counts = records.counts([run(1), run(2, outcome="running"), run(3, outcome="failed"), run(4)])
    ended = ("complete", "pruned", "diverged", "infeasible", "truncated", "halted", "failed")
    assert counts == {**dict.fromkeys(ended, 0), "complete": 2, "failed": 1}


@pytest.mark.parametrize(
    ("tick", "seconds"), [(0.0, 0.0), (0.5, 0.5), (3.0, 3.0), (5.0, 5.0), (25.0, 0.5), (86400.0, 0.5)]
)
def test_a_tick_that_took_too_long_was_a_pause(tick: float, seconds: float) -> None:
    assert progress.listened(tick) == seconds


def test_the_first_run_under_way_tells_the_time_left() -> None:
    """The standing is computed when a run begins, and then holds until one ends."""
    study = small_sweep.four_runs()
    begun = run(1, outcome="running", phase="baseline", origin="baseline", val_loss=None)
    work = workload(study, vocab_size=small_sweep.FACTS.vocab_size)
    standing = progress.Standing.of([begun], study, small_sweep.FACTS, work, planned=4)

    def left(now: Run) -> float | None:
        return standing.now({1: now}, (now,), seconds=1.0, workers=1).remaining_seconds

    assert left(begun) is None
    points = tuple(point_at(begun.config, step) for step in range(11))  # half a second per step of 20
    said = left(dataclasses.replace(begun, points=points))
    assert said is not None
    assert 3 * 10.0 + 5.0 < said < 4 * 20.0  # with the final evaluations, which are large here
