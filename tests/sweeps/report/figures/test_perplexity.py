"""Final perplexities: the rows of the figure."""

from __future__ import annotations

import math

import pytest

from sweeps.report.figures.perplexity import perplexity_rows
from tests.helpers import synthetic


def test_perplexity_rows() -> None:
    results = synthetic.full()
    rows = perplexity_rows(results)
    assert [row.kind for row in rows] == ["baseline", "best", "candidate", "candidate", "candidate"]
    losses = [run.val_loss for run in results.baseline_runs]
    assert [math.log(value) for value in rows[0].perplexities] == pytest.approx(losses)
