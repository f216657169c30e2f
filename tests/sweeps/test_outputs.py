"""The types of what `--json` prints: every object within it, made of results of all kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.json_objects import COMMANDS, every_object
from sweeps.analysis.findings import Findings
from sweeps.diagnose.as_json import several
from sweeps.engine.planning.plan import plan
from sweeps.outputs import StudyJson
from sweeps.tables import as_json
from sweeps.tables.keeps import is_keep_log, keep_log
from sweeps.tables.rows import read_table
from sweeps.tables.ruling import rule
from sweeps.tables.runs import runs_of
from sweeps.verdict.as_json import summarize
from tests.helpers import attributions, branching, small_sweep, synthetic
from tests.helpers.json_types import has_fields
from tests.helpers.logged_runs import Simulated, flat
from trainer.machine.device import Device

LAPTOP = Device(kind="cpu", name="laptop", count=2, peak=1e11, memory=2**33, free=2**32)
TABLES = (
    "arm,loss\nbaseline,3.5\nwide,3.4\n",
    "arm,seed,loss,seconds\nbaseline,1,3.5,9\nbaseline,2,3.6,9\nwide,1,3.4,8\nwide,2,3.4,8\nnarrow,1,nan,1\n",
    "status,val_bpb,commit\nkeep,1.0,a\nkeep,0.9,b\ncrash,0,c\n",
)
"""tables of runs and a log of keeps"""
RACES = {name: lambda step: 5 - step / 400 for name in ("origin", "n_embd=768", "dropout=0.2")}


def studies() -> Iterator[Findings]:
    yield from (attributions.findings_of(judged()) for judged in attributions.CASES.values())
    yield Findings(attributions.swept())
    yield Findings(synthetic.results([]))
    yield Findings(branching.results())
    yield Findings(synthetic.results(branching.race_runs(branching.study(), RACES), study=branching.study()))


def parsed(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def judged_table(path: Path, text: str) -> Any:
    path.write_text(text)
    table = read_table(path)
    if is_keep_log(table):
        return as_json.of_keep_log(keep_log(table))
    return as_json.of_ruling(rule(runs_of(table), min_effect=0.0))


def test_every_object_of_a_study_a_plan_a_diagnosis_or_a_table_is_as_documented(tmp_path: Path) -> None:
    met: set[type] = set()
    for findings in studies():
        has_fields(parsed(summarize(findings, store=Path("s.db"), report=Path("r.html"))), (StudyJson,), met)
    kinds = COMMANDS["plan"]
    for changes in ({}, {"baseline_seeds": 3, "pilot": {"effect": 0.1, "max_iters": 80}}):
        study = small_sweep.study(**changes)
        planned = {**plan(study, small_sweep.FACTS, LAPTOP).as_json(), "resolved": study.as_written()}
        has_fields(parsed(planned), kinds, met)
    for text in TABLES:
        has_fields(parsed(judged_table(tmp_path / "runs.csv", text)), COMMANDS["judge"], met)
    for run in (Simulated(last=1400), Simulated(train=flat, val=flat, settings={"n_embd": 16}), Simulated(known=False)):
        has_fields(parsed(several([run.diagnosis()])), COMMANDS["diagnose"], met)
    printed = {kind for kinds in COMMANDS.values() for kind in kinds}
    within = {kind for kinds in every_object() for kind in kinds} - printed
    assert within <= met, within - met


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda study: study.pop("races"), "races"),
        (lambda study: study.update(more=1), "more"),
        (lambda study: study["start"].update(step="3"), "start.step"),
        (lambda study: study["trials"].update(complete=True), "trials.complete"),
        (lambda study: study["verdict"]["knobs"][0].pop("from"), "knobs"),
    ],
)
def test_the_check_can_fail(change: Any, where: str) -> None:
    study = parsed(summarize(Findings(branching.results()), store=Path("s.db"), report=Path("r.html")))
    has_fields(study, (StudyJson,), set())
    change(study)
    with pytest.raises(AssertionError, match=where):
        has_fields(study, (StudyJson,), set())
