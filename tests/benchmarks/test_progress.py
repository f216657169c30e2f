"""Progress of a benchmark on stderr."""

from __future__ import annotations

import sys

import pytest

from benchmarks import progress


@pytest.mark.parametrize(("on_terminal", "noun"), [(False, "sweeps"), (True, "sweeps"), (False, "orders")])
def test_progress_is_reported_after_two_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], on_terminal: bool, noun: str
) -> None:
    clock = iter([0.0, 1.0, 11.0, 12.0, 22.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_terminal)
    items = list(progress.watched("abcd", 4, noun=noun))
    monkeypatch.undo()
    assert items == list("abcd")
    second, third, last = (
        f"2 of 4 {noun}, about 11 s left",
        f"3 of 4 {noun}, about 4 s left",
        f"4 of 4 {noun}, about 0 s left",
    )
    text = capsys.readouterr().err
    assert text == (f"{second}\r{third}\r{last}\r\033[K" if on_terminal else f"{second}\n{last}\n")
