"""Sentences of the screening: what each says, and how strongly."""

from __future__ import annotations

import dataclasses

import pytest

from sweeps.analysis.findings import Findings
from sweeps.verdict.verdict import verdict
from tests.helpers import synthetic


def test_verdict_of_a_whole_study() -> None:
    judged = verdict(Findings(synthetic.full()))
    text = "\n".join(judged.lines)
    assert judged.headline.startswith("Width 384 → 768 alone lowers the loss most, by ")
    assert "; so does changing learning rate. Screened, not yet proven." in judged.headline
    assert "dropout 0 → 0.3 raises the loss by" in text
    assert "min_lr, warmup_iters and weight_decay are within the noise of seeds" in text
    assert "Advice dropout 0.2, weight_decay 0.2: ended higher" in text
    assert "Advice warmup_iters 60: no effect shown" in text
    assert "Of 47 runs: 37 complete, 8 pruned, 1 diverged and 1 infeasible." in text
    assert "Diverged: trial 20 (loss 6.9 at iteration 160)." in text
    assert "Baseline: 3 seeds" in text
    assert "perplexity" in text
    assert "bits per byte" in text


def test_verdict_tells_how_single_runs_ended_and_what_was_not_tried() -> None:
    results = synthetic.family([3.49, 3.5, 3.51], [3.2])
    config = synthetic.BASELINE.replace(learning_rate=6e-3)
    diverged = synthetic.run(
        7,
        "one-at-a-time",
        knob="learning_rate",
        config=config,
        val_loss=None,
        outcome="diverged",
        reason="loss 11 at 40",
    )
    advice = synthetic.run(
        8, "candidate", label="candidate: n_layer 24", val_loss=None, outcome="infeasible", reason="no memory"
    )
    lines = verdict(Findings(dataclasses.replace(results, runs=(*results.runs, diverged, advice)))).lines
    assert "learning_rate 0.001 → 0.006 diverged (loss 11 at 40)." in lines
    assert "Advice n_layer 24 did not fit in memory (no memory)." in lines
    assert "Not tried alone: min_lr, warmup_iters, weight_decay and n_embd." in lines


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (3.499, "dropout 0 → 0.3 at +0.001 nats, is too small for single runs to show"),
        (3.46, "dropout 0 → 0.3 at +0.040 nats, would be shown with 4 baseline seeds"),  # t(0.975, 3) sqrt(5/4) = 3.56
    ],
)
def test_verdict_says_what_would_decide(loss: float, sentence: str) -> None:
    judged = verdict(Findings(synthetic.family([3.49, 3.5, 3.51], [loss])))
    assert sentence in " ".join(judged.knobs)
