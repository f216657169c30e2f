"""Costs of an arm: parameters, time, memory, and the gain at equal time, each against its closed form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from sweeps.analysis.arms import Arm
from sweeps.analysis.cost import ArmCost, cost_of, memory_ratio
from sweeps.analysis.evidence import Evidence
from sweeps.store.records import Results, Run
from tests.helpers import attributions, synthetic

WIDE = Arm(frozenset(["n_embd"]))


def with_speeds(results: Results, tokens_per_s: Callable[[Run], float | None]) -> Results:
    """Return the study with these speeds at every evaluation, and losses that fall by a line of 1 nat per run."""
    runs = []
    for run in results.runs:
        points = tuple(
            dataclasses.replace(point, tokens_per_s=tokens_per_s(run), val_loss=4.0 - point.step / run.config.max_iters)
            for point in run.points
        )
        runs.append(dataclasses.replace(run, points=points))
    return dataclasses.replace(results, runs=tuple(runs))


def cost(tokens_per_s: Callable[[Run], float | None], arm: Arm = WIDE) -> tuple[ArmCost, Evidence]:
    evidence = Evidence(with_speeds(attributions.swept(), tokens_per_s))
    found = cost_of(evidence, arm, gain=evidence.gain(arm, threshold=0.02))
    assert found is not None
    return found, evidence


def test_a_slower_arm_loses_what_it_falls_after_the_baselines_time() -> None:
    found, evidence = cost(lambda run: 1000.0 if run.config.n_embd == 768 else 4000.0)
    gain = evidence.gain(WIDE, threshold=0.02)
    assert gain is not None
    # twice as wide: 12 * L * C**2 and (V + T + 2 * L + 1) * C, with L 6, V 2048, T 256
    parameters = [12 * 6 * width**2 + (2048 + 256 + 13) * width for width in (384, 768)]
    assert found.parameters == pytest.approx(parameters[1] / parameters[0], rel=1e-3)
    assert found.seconds == pytest.approx(4.0)
    # a quarter of a line of 1 nat is done, so 0.75 nats are missing
    assert found.at_equal_time == pytest.approx(gain.mean - 0.75)
    assert 1.5 < found.memory < 4.0


def test_a_faster_arm_keeps_its_gain_and_no_more() -> None:
    found, evidence = cost(lambda run: 8000.0 if run.config.n_embd == 768 else 4000.0)
    gain = evidence.gain(WIDE, threshold=0.02)
    assert gain is not None
    assert (found.seconds, found.at_equal_time) == (pytest.approx(0.5), gain.mean)


def test_without_a_measured_speed_time_is_unknown() -> None:
    found, _ = cost(lambda run: None)
    assert found.seconds is found.at_equal_time is None
    same, _ = cost(lambda run: None, Arm(frozenset(["learning_rate"])))
    assert (same.parameters, same.seconds, same.memory) == (1.0, 1.0, 1.0)


def test_an_arm_without_a_run_has_no_cost() -> None:
    evidence = Evidence(synthetic.results([]))
    assert cost_of(evidence, Arm(), gain=None) is None


def test_a_larger_batch_takes_more_memory_and_the_same_parameters() -> None:
    config = synthetic.BASELINE.replace(batch_size=64)
    assert memory_ratio(config, synthetic.BASELINE, device="cpu") > 1.2
    assert memory_ratio(config, synthetic.BASELINE, device="cuda:0") > 1.2
    assert memory_ratio(config, config, device="cuda") == 1
