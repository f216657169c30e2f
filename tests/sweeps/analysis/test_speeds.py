"""Measured speeds: what is equally fast, medians, and what was not measured."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.analysis.speeds import relative_time, speeds
from sweeps.store.records import Run
from tests.helpers import branching, synthetic

BASE = synthetic.BASELINE.replace(dropout=0.1)


def run(speed: float, **changes: Any) -> Run:
    config = BASE.replace(**changes)
    return synthetic.run(0, config=config, points=branching.falling(config, 0.01, speed=speed))


def test_the_median_over_runs_counts() -> None:
    measured = speeds([run(speed) for speed in (10.0, 40.0, 1000.0)] + [run(20.0, n_embd=768)])
    assert relative_time(BASE.replace(n_embd=768), BASE, measured) == 2.0
    assert relative_time(BASE, BASE.replace(n_embd=768), measured) == 0.5


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": 1e-2}, {"min_lr": 1e-5}, {"weight_decay": 0.5}, {"beta2": 0.99}, {"dropout": 0.3}, {"seed": 2}],
)
def test_what_changes_no_computation_takes_the_same_time_however_fast_it_happened_to_run(
    changes: dict[str, Any],
) -> None:
    measured = speeds([run(40.0), run(15.0, **changes)])
    assert relative_time(BASE.replace(**changes), BASE, measured) == 1.0


@pytest.mark.parametrize("changes", [{"dropout": 0.0}, {"n_layer": 12}, {"n_head": 6}, {"batch_size": 32}])
def test_what_changes_the_computation_is_measured(changes: dict[str, Any]) -> None:
    measured = speeds([run(40.0), run(16.0, **changes)])
    assert relative_time(BASE.replace(**changes), BASE, measured) == pytest.approx(2.5)
    assert relative_time(BASE.replace(**changes), BASE, speeds([run(40.0)])) is None


def test_a_run_that_has_trained_nothing_has_no_speed() -> None:
    assert speeds([synthetic.run(0, points=())]) == {}
