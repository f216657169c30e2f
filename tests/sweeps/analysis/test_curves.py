"""Curves of runs: what the pruner sees in Optuna of the same trial, and the places of their knobs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.analysis.curves import histories, losses_of, schedule_of
from sweeps.pruning import pruner
from sweeps.pruning.grid import Grid
from sweeps.study import space
from tests.helpers import synthetic
from trainer.schedule import learning_rates

CURVE = synthetic.points(synthetic.BASELINE, 3.5)
KNOBS = {**synthetic.KNOBS, "batch_size": {"choices": [8, 16, 32]}}
STUDY = synthetic.study(knobs=KNOBS)


@given(st.randoms(use_true_random=False))
def test_histories_are_what_the_pruner_sees(random: Any) -> None:
    """Knobs, schedule and losses equal those of a trial with the same history in Optuna."""
    ranges = space.distributions(STUDY)
    config = synthetic.BASELINE.replace(eval_interval=random.choice([20, 23]), warmup_iters=random.randrange(100))
    values = {point.step: random.choice([point.val_loss, math.nan]) for point in CURVE}
    steps = [*range(0, 600, config.eval_interval), 600]
    points = tuple(
        dataclasses.replace(CURVE[0], step=step, val_loss=values.get(step, 4.0))
        for step in steps
        if random.random() < 0.9 or step == 600
    )
    params: dict[str, Any] = {
        "learning_rate": math.exp(random.uniform(math.log(1e-4), math.log(6e-3))),
        "min_lr_ratio": random.uniform(0, 0.3),
        "warmup_fraction": random.uniform(0.01, 0.2),
        "dropout": random.uniform(0, 0.3),
        "weight_decay": math.exp(random.uniform(math.log(1e-3), math.log(0.5))),
        "n_embd": random.randrange(192, 769, 64),
        "batch_size": random.choice([8, 16, 32]),
    }
    trial = optuna.trial.create_trial(
        params=params,
        distributions=ranges,
        user_attrs={"plateau:lr": learning_rates(config)},
        intermediate_values={math.ceil(point.step / config.eval_interval): point.val_loss for point in points},
        value=3.5,
    )
    evaluations = Grid.of([range(len(steps))])
    expected = pruner._curve(trial, dict(sorted(ranges.items())), grid=evaluations)
    curve = histories([synthetic.run(0, config=config, params=params, points=points)], STUDY)[0]
    reported = sorted(trial.intermediate_values)
    np.testing.assert_array_equal(curve.losses[reported], expected.losses[reported])
    # what is missing between reports is a gap here, and interpolated there
    assert np.isnan(np.delete(curve.losses, reported)).all()
    np.testing.assert_allclose(curve.schedule.progress, expected.schedule.progress)
    np.testing.assert_allclose(curve.schedule.annealing, expected.schedule.annealing)
    assert curve.schedule.warm == expected.schedule.warm
    np.testing.assert_allclose(curve.knobs, expected.knobs)
    assert curve.final == expected.final


def test_knobs_that_some_runs_lack_are_left_out() -> None:
    whole = synthetic.run(0)
    old = dataclasses.replace(whole, params={"dropout": 0.15})
    assert [list(curve.knobs) for curve in histories([whole, old], STUDY)] == [[0.0], [0.5]]
    assert histories([], STUDY) == []


def test_places_of_choices_are_as_far_apart_as_ends() -> None:
    knob = space.distributions(STUDY)["batch_size"]
    assert math.dist(pruner.places(8, knob), pruner.places(32, knob)) == pytest.approx(1)
    assert math.dist(pruner.places(8, knob), pruner.places(8, knob)) == 0


def test_a_run_without_points_has_no_losses() -> None:
    assert losses_of(synthetic.run(0, points=())).shape == (0,)
    assert schedule_of(synthetic.BASELINE).end == synthetic.EVALUATIONS
