"""Effects of single changes: the order of their rows."""

from __future__ import annotations

from sweeps.analysis.findings import Findings
from sweeps.report.figures.effects import effect_rows
from tests.helpers import synthetic


def test_effect_rows_begin_with_the_knob_that_moves_most_and_end_with_advice() -> None:
    labels = [row.label for row in effect_rows(Findings(synthetic.full()))]
    assert labels[0] == "learning_rate 0.001 → 1e-4"
    assert labels[-3:] == [
        "advice: learning_rate 0.0005, min_lr 5e-05",
        "advice: warmup_iters 60",
        "advice: dropout 0.2, weight_decay 0.2",
    ]
