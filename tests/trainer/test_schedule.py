"""The learning rate against nanoGPT's own rates and the closed form's corners."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import TrainConfig
from trainer.schedule import lr_at

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
