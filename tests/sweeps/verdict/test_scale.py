"""The scale: when trials are a miniature of the baseline's own run, and what is said then."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.study.study import Study
from sweeps.verdict.scale import scale_of
from tests.helpers import branches
from tests.helpers.stories import STORY, story

SMALL = {**STORY, "n_layer": 6, "n_embd": 64}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        # 12 blocks of 12 * 384**2 are 21 million parameters
        ({"horizon": {"iters": 2000}}, "Short: a trial has 2,000 of the baseline's 20,000 iterations."),
        ({"horizon": {"iters": 2001}}, ""),
        (
            {"horizon": {"iters": 600}, "baseline": SMALL, "knobs": {"dropout": {"low": 0.0, "high": 0.3}}},
            "A miniature: 6 layers of width 64; a trial has 600 of the baseline's 20,000 iterations.",
        ),
        ({"horizon": {"iters": 4000}, "baseline": SMALL, "knobs": {"dropout": {"low": 0.0, "high": 0.3}}}, ""),
        ({"horizon": {"minutes": 5.0}}, ""),  # not fitted yet
        ({"start": {"train": {"max_iters": 2000}}}, "Short: it goes flat after 2,000 of the baseline's 20,000"),
        ({"start": {"train": {"max_iters": 3000}}}, ""),
        ({"start": {"checkpoint": "out/ckpt.pt"}}, ""),
    ],
)
def test_scale(changes: dict[str, Any], says: str) -> None:
    if "start" in changes:
        changes = {**changes, "knobs": {"dropout": {"low": 0.0, "high": 0.3}}}
    said = scale_of(story(**changes))
    assert said.startswith(says)
    assert bool(said) == bool(says)


def test_an_origin_counts_with_the_iterations_that_it_has_done() -> None:
    study: Study = branches.forked_study()
    assert scale_of(study) == ""
    assert study.origin is not None
    short = study.model_copy(update={"origin": study.origin.model_copy(update={"step": 60})})
    assert "it goes flat after 60 of the baseline's 600 iterations" in scale_of(short)
