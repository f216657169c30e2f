"""Counts of what a disturbed sweep lost, each found in results that were spoilt in one way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from benchmarks.reliability.comparison import NOTHING, Comparison, compare
from sweeps.store.records import Outcome, Results, Run
from tests.helpers import small_sweep

RUNS = tuple(small_sweep.run(number, [4.0, 3.5], trial=number, key=f"trial:{number}") for number in range(3))


def results(runs: tuple[Run, ...]) -> Results:
    return Results(study=small_sweep.study(), data=small_sweep.FACTS, runs=runs, provenance={}, seconds=1.0)


def trials(*states: TrialState) -> dict[str, list[FrozenTrial]]:
    return {"small": [_trial(number, state) for number, state in enumerate(states)]}


def _trial(number: int, state: TrialState) -> FrozenTrial:
    trial = optuna.create_trial(state=state, value=1.0 if state == TrialState.COMPLETE else None)
    trial.number = number
    return trial


COMPLETE = [TrialState.COMPLETE] * 3
OPEN = [*COMPLETE[:2], TrialState.RUNNING]


def spoilt(run: int, **changes: object) -> Callable[[tuple[Run, ...]], tuple[Run, ...]]:
    return lambda runs: tuple(dataclasses.replace(r, **changes) if r.id == run else r for r in runs)  # type: ignore[arg-type]


def with_other_loss(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    points = (*runs[1].points[:1], dataclasses.replace(runs[1].points[1], val_loss=3.5000000000000004))
    return spoilt(1, points=points)(runs)


@pytest.mark.parametrize(
    ("spoil", "states", "expected"),
    [
        (lambda runs: runs, COMPLETE, {}),
        (lambda runs: runs[:2], COMPLETE[:2], {"lost": 1}),
        (lambda runs: runs[:2], COMPLETE, {"lost": 1, "orphans": 1}),
        (spoilt(2, outcome=Outcome.RUNNING), OPEN, {"lost": 1, "orphans": 1, "differing": 1}),
        (lambda runs: runs, COMPLETE[:2], {"lost": 1}),
        (lambda runs: (*runs, dataclasses.replace(runs[0], id=9)), COMPLETE, {"twice": 1}),
        (lambda runs: runs, [*COMPLETE, TrialState.WAITING], {"orphans": 1}),
        (spoilt(1, val_loss=3.0000000000000004), COMPLETE, {"differing": 1}),
        (spoilt(1, params={"dropout": 0.1}), COMPLETE, {"differing": 1}),
        (with_other_loss, COMPLETE, {"differing": 1}),
        (spoilt(1, seconds=7.0, device="cpu:1"), COMPLETE, {}),
    ],
)  # fmt: skip
def test_each_fault_is_counted(
    spoil: Callable[[tuple[Run, ...]], tuple[Run, ...]], states: list[TrialState], expected: dict[str, int]
) -> None:
    found = compare(results(RUNS), results(spoil(RUNS)), trials(*states))
    assert found == dataclasses.replace(NOTHING, trials=3, **expected)


def test_rounds_add_up() -> None:
    one = Comparison(trials=3, lost=1, twice=0, orphans=2, differing=0)
    assert one + one == Comparison(trials=6, lost=2, twice=0, orphans=4, differing=0)
