"""The sensitivity of a study: from the runs of its baseline, at the length that they have."""

from __future__ import annotations

import dataclasses
import math
import statistics

import pytest

from sweeps.analysis.evidence import Evidence
from sweeps.analysis.sensitivity import sensitivity
from sweeps.store.records import Results
from tests.helpers import small_sweep


def results(*losses: float, max_trials: int = 9, seeds: int = 5) -> Results:
    """Return a study of 40 iterations with the baseline's final losses on seeds 1337, 1338, ..."""
    config = small_sweep.baseline().replace(max_iters=40)
    runs = [
        small_sweep.run(
            number, config=config.replace(seed=1337 + number), seed=1337 + number, val_loss=loss,
            phase="baseline", origin="baseline", params={"learning_rate": 1e-3, "dropout": 0.0},
        )
        for number, loss in enumerate(losses)
    ]  # fmt: skip
    confirm = {"max_trials": max_trials, "seeds": seeds, "min_effect": 0.05}
    study = small_sweep.study(confirm=confirm)
    return Results(study=study, data=small_sweep.FACTS, runs=tuple(runs), provenance={}, seconds=0.0)


def test_it_is_that_of_the_baselines_runs() -> None:
    losses = (3.0, 3.02, 3.07, 3.01)
    known = sensitivity(Evidence(results(*losses)))
    assert known is not None
    sd = statistics.stdev(losses)
    assert dataclasses.asdict(known) == {
        "sd": pytest.approx(sd),
        "seeds": 4,
        "horizon": 40,
        "detects": pytest.approx(0.05 + 2.70525 * sd, rel=1e-4),  # the factor of five seeds, see test_noise
    }


def test_more_seeds_of_the_confirm_phase_detect_more() -> None:
    few, many = (sensitivity(Evidence(results(3.0, 3.1, seeds=seeds))) for seeds in (3, 8))
    assert few is not None
    assert many is not None
    assert few.detects is not None
    assert many.detects is not None
    assert math.isclose((few.detects - 0.05) / (many.detects - 0.05), 5.77811 / 1.80040, rel_tol=1e-4)


def test_without_a_confirm_phase_nothing_is_detected() -> None:
    known = sensitivity(Evidence(results(3.0, 3.1, max_trials=0)))
    assert known is not None
    assert known.detects is None


@pytest.mark.parametrize("losses", [(), (3.0,), (3.0, 3.0)])
def test_unknown_noise(losses: tuple[float, ...]) -> None:
    assert sensitivity(Evidence(results(*losses))) is None
