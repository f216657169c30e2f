"""The study of the run whose plateau started this project, and random studies like it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from sweeps.study.study import Study
from trainer.config import TrainConfig

STORY = {
    "n_layer": 12,
    "n_embd": 384,
    "head_size": 32,
    "learning_rate": 1e-3,
    "min_lr": 1e-4,
    "warmup_iters": 500,
    "lr_decay_iters": 20000,
    "max_iters": 20000,
    "dropout": 0.1,
    "beta2": 0.99,
    "batch_size": 8,
    "gradient_accumulation_steps": 8,
}

FOLLOWERS = {"learning_rate": {"min_lr"}, "n_embd": {"n_head"}, "batch_size": {"max_iters", "lr_decay_iters",
             "warmup_iters", "eval_interval"}, "data_fraction": {"seed"}}  # fmt: skip
"""settings that change together with a knob"""


def story(**changes: Any) -> Study:
    """Return the study of that run; `changes` replace its top-level fields."""
    settings = {
        "name": "story",
        "baseline": STORY,
        "horizon": {"iters": 600},
        "knobs": {
            "learning_rate": {"low": 1e-4, "high": 6e-3, "log": True},
            "min_lr": {"ratio_of": "learning_rate", "low": 0.0, "high": 0.3},
            "warmup_iters": {"fraction_of": "max_iters", "low": 0.01, "high": 0.2},
            "dropout": {"low": 0.0, "high": 0.3},
            "weight_decay": {"low": 1e-3, "high": 0.5, "log": True},
            "n_embd": {"low": 192, "high": 768, "step": 64},
        },
    }
    return Study.model_validate({**settings, **changes})


def differing(config: TrainConfig, baseline: TrainConfig) -> set[str]:
    """Return the names of the settings that differ."""
    reference = baseline.as_dict()
    return {name for name, value in config.as_dict().items() if value != reference[name]}


@st.composite
def studies(draw: st.DrawFn) -> Study:
    """Draw a study: any knobs, baseline values of many digits, candidates inside and outside of the space."""
    digits = draw(st.integers(2, 17))

    def number(low: float, high: float) -> float:
        return float(f"{draw(st.floats(low, high)):.{digits}g}")

    max_iters = draw(st.sampled_from([1000, 2000, 20000, 600000]))
    rate = number(1.1e-4, 5.9e-3)
    baseline = {
        **STORY,
        "learning_rate": rate,
        "min_lr": number(0, 0.29) * rate,
        "max_iters": max_iters,
        "lr_decay_iters": draw(st.sampled_from([max_iters, max_iters * 2, max_iters // 2 + 1])),
        "warmup_iters": draw(st.integers(max_iters // 100 + 1, max_iters // 6)),
        "dropout": number(0, 0.29),
        "weight_decay": number(2e-3, 0.49),
        "beta2": draw(st.sampled_from([0.95, 0.99])),
    }
    knobs = {
        **story().model_dump()["knobs"],
        "beta2": {"choices": [0.95, 0.99, 0.999]},
        "batch_size": {"choices": [4, 8, 16]},
        "n_layer": {"low": 2, "high": 24, "log": True},
    }
    names = draw(st.lists(st.sampled_from(sorted(knobs)), min_size=1, unique=True))
    if draw(st.booleans()):
        names.append("data_fraction")
        knobs["data_fraction"] = {"choices": [0.25, 0.5, 1.0]}
    candidates = draw(
        st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "learning_rate": st.floats(1e-4, 1e-2),
                    "min_lr": st.floats(0, 1e-4),
                    "warmup_iters": st.integers(0, max_iters // 3),
                    "dropout": st.floats(0, 0.5),
                    "n_embd": st.sampled_from([192, 256, 320, 352]),
                    "batch_size": st.sampled_from([4, 8, 16]),
                    "n_layer": st.integers(1, 30),
                },
            ),
            max_size=3,
        )
    )
    return Study.model_validate(
        {
            "name": "drawn",
            "baseline": baseline,
            "horizon": {"iters": draw(st.sampled_from([120, 400, 600, 1000]))},
            "knobs": {name: knobs[name] for name in names},
            "candidates": candidates,
        }
    )
