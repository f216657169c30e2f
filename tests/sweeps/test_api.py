"""The interface for Python: how `run` ends when a signal has paused the study."""

from __future__ import annotations

import dataclasses
import inspect
import signal
from pathlib import Path

import pytest

from sweeps import api
from sweeps.analysis.findings import Findings
from sweeps.engine.progress import Summary
from sweeps.study import load as loading
from tests.helpers import small_sweep, synthetic

SWEPT = api.Sweep(findings=Findings(synthetic.results([])), store=Path("study.db"), report=Path("report.html"))


@pytest.mark.parametrize(
    ("received", "ending"),
    [(None, None), (signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
)
def test_a_paused_study_ends_as_the_signal_asks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, received: signal.Signals | None, ending: type[BaseException] | None
) -> None:
    summary = Summary(finished=False, interrupted=received, truncated=False, counts={}, started=1, seconds=1.0)
    monkeypatch.setattr(api, "warm_up", lambda: None)
    monkeypatch.setattr(api, "sweep", lambda study, paths, *, console: (SWEPT, summary))
    if ending is None:
        assert api.run(small_sweep.study(), out=tmp_path) is SWEPT
    else:
        with pytest.raises(ending):
            api.run(small_sweep.study(), out=tmp_path)


def test_load_takes_what_the_loader_takes() -> None:
    """But for the cards of this machine, which it looks for itself."""
    assert inspect.signature(api.load).parameters.keys() == (
        inspect.signature(loading.load).parameters.keys() - {"devices_have_cuda"}
    )


def test_a_report_that_fails_is_an_error_after_everything_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    summary = Summary(finished=True, interrupted=None, truncated=False, counts={}, started=1, seconds=1.0)
    swept = dataclasses.replace(SWEPT, unpublished=ValueError("no picture"))
    monkeypatch.setattr(api, "warm_up", lambda: None)
    monkeypatch.setattr(api, "sweep", lambda study, paths, *, console: (swept, summary))
    with pytest.raises(ValueError, match="no picture"):
        api.run(small_sweep.study(), out=tmp_path)
