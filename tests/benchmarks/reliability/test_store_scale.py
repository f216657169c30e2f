"""The store of a benchmark: as many trials and evaluations as it says, in our tables and in Optuna's; and its table."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from benchmarks.reliability.filled_store import EVALUATIONS, fill, study_of
from benchmarks.reliability.store_scale import Timing, growth, lines
from sweeps.analysis.findings import Findings
from sweeps.store.store import Store


def test_a_filled_store_is_a_study_that_has_ended(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = study_of("scale", trials=60, url=url)
    with Store(url) as store:
        fill(store, study)
        results = store.results("scale")
        trials = {
            name: optuna.load_study(study_name=name, storage=store.storage).get_trials()
            for name in ("scale", "scale-confirm")
        }
    sampled = [run for run in results.runs if run.origin == "sampler"]
    assert len(sampled) == 60
    complete = [run for run in results.runs if run.outcome == "complete"]
    assert {len(run.points) for run in complete} == {EVALUATIONS + 1}
    assert 0 < len(results.runs) - len(complete) < 30
    assert sum(map(len, trials.values())) == len(results.runs)
    for run in results.runs:
        assert trials[run.optuna_study][run.trial].value == run.val_loss
        assert trials[run.optuna_study][run.trial].params == run.params
    assert Findings(results).screening.best is not None


def row(trials: int, cpu: float, command: str = "status") -> Timing:
    return Timing(database="sqlite", trials=trials, command=command, wall=2 * cpu, cpu=cpu)


def test_growth_is_between_the_smallest_store_and_the_largest() -> None:
    measured = [row(100, 1.0), row(1000, 7.0), row(10_100, 3.0), row(100, 5.0, "report"), row(10_100, 25.0, "report")]
    assert growth(measured) == {"sqlite": {"status": pytest.approx(0.2), "report": pytest.approx(2.0)}}
    assert growth(measured[:1]) == {}


def test_the_table_names_every_measurement() -> None:
    fed = {"stored": 1000.0, "milliseconds per trial": 50.0, "workers": 400.0}
    said = list(lines([row(100, 1.0), row(1100, 3.0)], fed))
    assert said[2] == "| sqlite | 100 | status | 2.00 | 1.00 |"
    assert said[-2] == "sqlite: CPU milliseconds per further trial: status 2.00"
    assert said[-1].endswith("50 ms per trial, enough for 400 workers with trials of 20 s")
