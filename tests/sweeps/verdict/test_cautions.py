"""Cautions beside the verdict."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.verdict.cautions import batch_sentence
from tests.helpers.stories import STORY, story

KNOBS = {"dropout": {"low": 0.0, "high": 0.3}}
BATCHES = {"batch_size": {"choices": [4, 8, 16]}}


def test_short_trials_favour_small_batches() -> None:
    """8 x 8 sequences of 1024 tokens are 65,536; 600 and 20 000 iterations of them are 39.3 and 1311 million."""
    assert batch_sentence(story(knobs=BATCHES)) == (
        "batch_size: an update of the baseline has 65,536 tokens, and at equal tokens a smaller batch makes more "
        "updates. The best batch grows with the tokens trained, about as their power 0.38 (arXiv 2505.13738), so "
        "trials of 39.3M tokens favour a smaller one than a run of 1.31G."
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"knobs": KNOBS}, False),
        ({"knobs": KNOBS, "candidates": [{"batch_size": 16}]}, True),
        ({"knobs": KNOBS, "candidates": [{"gradient_accumulation_steps": 16}]}, True),
        ({"knobs": KNOBS, "candidates": [{"batch_size": 16, "gradient_accumulation_steps": 4}]}, False),  # same tokens
        ({"knobs": BATCHES, "baseline": {**STORY, "max_iters": 600, "lr_decay_iters": 600}}, False),  # same length
        ({"knobs": BATCHES, "baseline": {**STORY, "max_iters": 1200, "lr_decay_iters": 1200}}, True),
    ],
)
def test_only_where_trials_change_the_batch_and_the_run_is_longer(changes: dict[str, Any], said: bool) -> None:
    assert bool(batch_sentence(story(**changes))) is said
