"""A study of candidates without knobs: no sampler, straight to paired seeds, a verdict and a report."""

from __future__ import annotations

from pathlib import Path

from sweeps.analysis.attribution import CandidateWord
from sweeps.analysis.findings import Findings
from sweeps.report.publish import page_of
from sweeps.verdict.glance import answer_of
from tests.helpers import small_sweep
from tests.helpers.small_sweep import results_in, sweep


def test_candidates_alone_are_judged_on_paired_seeds(tmp_path: Path) -> None:
    """Of the fake training's closed form, a rate of 3e-3 is 0.046 nats better than 1e-3, and dropout 0.2 worse."""
    study = small_sweep.study(
        knobs={},
        candidates=[{"learning_rate": 3e-3}, {"dropout": 0.2}, {"weight_decay": 0.2}],
        trials=3,
        confirm={"seeds": 4, "max_trials": 20},
    )
    sweep(tmp_path, study)
    findings = Findings(results_in(tmp_path))
    runs = findings.results.runs
    assert {run.origin for run in runs} == {"baseline", "candidate", "confirm"}
    assert findings.attribution is not None
    words = [candidate.word for candidate in findings.attribution.candidates]
    assert words == [CandidateWord.RIGHT, CandidateWord.WRONG, CandidateWord.NO_EFFECT]
    assert all(candidate.effect and candidate.effect.n >= 2 for candidate in findings.attribution.candidates)
    assert "learning_rate" in page_of(findings)
    answer = answer_of(findings)
    assert answer.sentence.startswith("Learning_rate 0.003 gains 0.04")
    assert [(row.after, row.does, row.shown) for row in answer.rows] == [
        ("learning_rate 0.003", "gains", True),
        ("weight_decay 0.2", "no effect shown", False),
        ("dropout 0.2", "hurts", True),
    ]
