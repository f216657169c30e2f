"""Findings: every part equals what its function computes, and is computed once for all readers."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.analysis import boundaries, calibration, finals, importance, judge, more_data, pruning, screening
from sweeps.analysis.evidence import Evidence
from sweeps.analysis.findings import Findings
from sweeps.export.ladder import ladder
from sweeps.export.nanogpt_config import ExportError
from sweeps.export.trial import check_best, export_run, trial_of
from sweeps.report.dashboard import study_note
from sweeps.report.publish import page_of
from sweeps.store.records import Results
from sweeps.verdict.as_json import summarize
from sweeps.verdict.verdict import verdict
from tests.helpers import attributions, synthetic

STUDIES = {"searched": synthetic.full, "confirmed": attributions.swept}
PARTS: tuple[Callable[..., Any], ...] = (
    judge.judge,
    judge.to_train,
    screening.screen,
    finals.finals,
    boundaries.boundaries,
    pruning.rule_of,
    pruning.balance,
    calibration.calibration,
    importance.importances,
    more_data.amounts,
)


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls of all parts' functions, in every module of sweeps that has imported them."""
    calls: Counter[str] = Counter()

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            calls[function.__qualname__] += 1
            return function(*args, **options)

        return call

    for module in [module for name, module in sys.modules.items() if name.startswith("sweeps.")]:
        for function in PARTS:
            if vars(module).get(function.__name__) is function:
                monkeypatch.setattr(module, function.__name__, counting(function))
    monkeypatch.setattr(Evidence, "__init__", counting(Evidence.__init__))
    return calls


@pytest.mark.parametrize("study", STUDIES)
def test_each_part_is_computed_once_for_all_outputs_of_a_study(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = STUDIES[study]()
    calls = counted(monkeypatch)
    findings = Findings(results)
    assert not calls
    page_of(findings)
    study_note(findings)
    summarize(findings, store=Path("study.db"), report=Path("report.html"))
    verdict(findings)
    with contextlib.suppress(ExportError):  # nothing is shown yet
        check_best(findings)
    best = trial_of(findings, None)
    export_run(findings, best, date="2026-11-24")
    ladder(findings, best)
    once = {"Evidence.__init__", *(function.__qualname__ for function in PARTS)}
    assert calls == dict.fromkeys(once if study == "confirmed" else once - {"judge"}, 1)


@pytest.mark.parametrize("study", STUDIES)
def test_parts_equal_what_their_functions_compute(study: str) -> None:
    results: Results = STUDIES[study]()
    findings = Findings(results)
    known, rule = finals.finals(results), pruning.rule_of(results.study)
    attribution = judge.judge(Evidence(results)) if study == "confirmed" else None
    assert rule is not None
    assert findings.attribution is not None or study == "searched"
    assert findings.study is results.study
    assert findings.evidence.arms.changed == Evidence(results).arms.changed
    assert findings.attribution == attribution
    assert findings.to_train == judge.to_train(results, attribution)
    assert findings.screening == screening.screen(results)
    assert findings.finals == known
    assert findings.boundaries == boundaries.boundaries(results, known)
    assert findings.rule == rule
    assert findings.balance == pruning.balance(results, known, rule)
    assert findings.calibration == calibration.calibration(results, rule)
    assert findings.importances == importance.importances(results, known)
    assert findings.amounts == more_data.amounts(results)


def test_without_a_rule_there_are_no_predictions_to_judge() -> None:
    findings = Findings(synthetic.results([], study=synthetic.study(pruner={"type": "median"})))
    assert findings.rule is findings.calibration is None
