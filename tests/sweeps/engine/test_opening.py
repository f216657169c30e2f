"""Opening a stored study: grown or finished it goes on, changed it is refused, and one driver runs it at a time."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from sweeps.engine.opening import stored_study
from sweeps.errors import StoreBusy, StudyChanged
from sweeps.store.store import Store
from sweeps.workers.pool import Job, Report
from tests.helpers import small_sweep
from tests.helpers.small_sweep import Watcher, four_runs, reproducible_part, results_in, sweep
from trainer.points import Result


@pytest.fixture
def swept(tmp_path: Path, uninterrupted: Path) -> Path:
    """Return a copy of the folder in which `four_runs()` has been run."""
    return Path(shutil.copytree(uninterrupted, tmp_path / "swept"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"horizon": {"iters": 40}}, "horizon"),
        ({"knobs": {"dropout": {"low": 0.0, "high": 0.3}}}, "dropout"),
        ({"seed": 1}, "seed"),
    ],
)
def test_changed_settings_are_refused(swept: Path, changed: dict[str, Any], words: str) -> None:
    before = results_in(swept)
    with pytest.raises(StudyChanged, match=rf"begun with other settings: .*{words}.*another name"):
        sweep(swept, four_runs(**changed))
    assert results_in(swept) == before


def test_other_data_are_refused(swept: Path) -> None:
    with pytest.raises(StudyChanged, match=r"data: was .*ffff.*, is .*0000"):
        sweep(swept, four_runs(), data=small_sweep.dataset(fingerprint="0" * 64))


def test_what_was_measured_of_the_data_stays_when_the_study_goes_on(tmp_path: Path) -> None:
    study, measured = four_runs(), dataclasses.replace(small_sweep.FACTS, unigram_loss=5.0)
    with Store(small_sweep.url_of(tmp_path)) as store:
        store.add_study(study, data=measured, provenance={})
        assert stored_study(study, store, data=dataclasses.replace(small_sweep.FACTS, path="/moved")) is not None
        assert store.results("small").data == dataclasses.replace(measured, path="/moved")


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    with Store(small_sweep.url_of(tmp_path)) as store, store.lock("small"):
        with pytest.raises(StoreBusy, match="is being run by process"):
            sweep(tmp_path, four_runs())
        assert store.names() == []


def test_a_grown_study_ends_as_one_that_was_larger_from_the_start(tmp_path: Path) -> None:
    sweep(tmp_path / "grown", four_runs(trials=2))
    sweep(tmp_path / "grown", four_runs(trials=4, baseline_seeds=2))
    assert results_in(tmp_path / "grown").study.trials == 4
    sweep(tmp_path / "whole", four_runs(trials=4, baseline_seeds=2))
    grown, whole = results_in(tmp_path / "grown"), results_in(tmp_path / "whole")
    assert reproducible_part(grown) == reproducible_part(whole)


def test_a_finished_study_is_reported_and_trains_nothing(swept: Path) -> None:
    def refuse(job: Job, report: Report) -> Result:
        raise AssertionError("a finished study must train nothing")

    before, watcher = results_in(swept), Watcher()
    summary = sweep(swept, four_runs(), observer=watcher, work=refuse)
    assert summary.finished
    assert (summary.started, summary.counts["complete"]) == (0, 4)
    assert "is finished: 4 runs; to continue, raise trials (now 3)" in watcher.notes[0]
    assert results_in(swept).runs == before.runs
