"""The search space of a study as Optuna's distributions."""

from __future__ import annotations

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.study import space
from tests.helpers.stories import story


def test_distributions() -> None:
    study = story(
        knobs={
            "learning_rate": {"low": 1e-4, "high": 6e-3, "log": True},
            "min_lr": {"ratio_of": "learning_rate", "low": 0, "high": 0.3},
            "dropout": {"low": 0.0, "high": 0.3, "step": 0.1},
            "n_embd": {"low": 192, "high": 768, "step": 64},
            "n_layer": {"low": 6, "high": 24, "log": True},
            "beta2": {"choices": [0.95, 0.99]},
        }
    )
    assert space.distributions(study) == {
        "learning_rate": FloatDistribution(1e-4, 6e-3, log=True),
        "min_lr_ratio": FloatDistribution(0.0, 0.3),
        "dropout": FloatDistribution(0.0, 0.3, step=0.1),
        "n_embd": IntDistribution(192, 768, step=64),
        "n_layer": IntDistribution(6, 24, log=True),
        "beta2": CategoricalDistribution((0.95, 0.99)),
    }
