"""The schedule against rates that nanoGPT printed, and against closed forms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import TrainConfig
from trainer.schedule import evaluation_of, learning_rates, lr_at

RECORDED = TrainConfig(learning_rate=3e-3, min_lr=3e-4, warmup_iters=8, lr_decay_iters=90, max_iters=100)


@pytest.mark.parametrize(
    ("step", "rate"),
    # printed by nanoGPT 3adf61e for these settings
    [
        (0, 0.0003333333333333333),
        (7, 0.0026666666666666666),
        (8, 0.003),
        (9, 0.0029990093444185934),
        (11, 0.002991092821175561),
        (89, 0.0003009906555814065),
        (90, 0.0003),
        (100, 0.0003),
    ],
)
def test_recorded_rates(step: int, rate: float) -> None:
    assert lr_at(step, RECORDED) == pytest.approx(rate, rel=1e-15)


def test_half_way_down_the_cosine_is_the_middle() -> None:
    assert lr_at((8 + 90) // 2, RECORDED) == pytest.approx((3e-3 + 3e-4) / 2)


def test_without_decay_it_is_constant() -> None:
    config = RECORDED.replace(decay_lr=False)
    assert {lr_at(step, config) for step in range(0, 101, 10)} == {3e-3}


@given(st.integers(0, 200))
def test_rates_stay_between_zero_and_the_peak(step: int) -> None:
    assert 0 < lr_at(step, RECORDED) <= RECORDED.learning_rate


@pytest.mark.parametrize(
    ("max_iters", "evaluated"),
    [
        (90, [0, 30, 60, 90]),  # max_iters is on the grid
        (100, [0, 30, 60, 90, 100]),
        (20, [0, 20]),
    ],
)
def test_learning_rates_are_those_at_the_evaluations(max_iters: int, evaluated: list[int]) -> None:
    """In closed form: a line of 9 steps up to the peak, then half a cosine over 82 steps, then min_lr."""
    closed_form = [
        3e-3 * (step + 1) / 9 if step < 8 else 3e-4 + 2.7e-3 * math.cos(math.pi / 2 * min(1.0, (step - 8) / 82)) ** 2
        for step in evaluated
    ]
    config = RECORDED.replace(max_iters=max_iters, eval_interval=30)
    assert learning_rates(config) == pytest.approx(closed_form, rel=1e-12)


@pytest.mark.parametrize(
    ("step", "evaluation"), [(0, 0), (1, 1), (29, 1), (30, 1), (31, 2), (90, 3), (91, 4), (100, 4)]
)
def test_the_evaluation_at_or_after_a_step(step: int, evaluation: int) -> None:
    config = RECORDED.replace(eval_interval=30)
    assert evaluation_of(step, config) == evaluation
    assert [0, 30, 60, 90, 100][evaluation] >= step
