"""How the preparation of data is shown: a line every two seconds, a bar on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sweeps.preparing import line, preparing
from trainer.prepare import Progress


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (Progress(stage="tokenizing", done=0, total=10, tokens=0, seconds=0.0), "tokenizing: 0%"),
        (
            Progress(stage="tokenizing", done=40_000_000, total=100_000_000, tokens=1_500_000, seconds=4.0),
            "tokenizing: 40%, 1,500,000 tokens, 10.0 MB/s, about 6 s left",
        ),
        # what an interrupted preparation had done doesn't count towards this one's rate
        (
            Progress(stage="tokenizing", done=60, total=100, tokens=5, seconds=2.0, resumed=20),
            "tokenizing: 60%, 5 tokens, 0.0 MB/s, about 2 s left",
        ),
        (
            Progress(stage="waiting for another preparation", done=0, total=0, tokens=0, seconds=3.0),
            "waiting for another preparation",
        ),
    ],
)
def test_line(progress: Progress, shown: str) -> None:
    assert line(progress) == shown


def test_a_terminal_has_a_bar() -> None:
    file = io.StringIO()
    with preparing(Console(file=file, force_terminal=True, width=100), pytest.fail) as show:
        show(Progress(stage="training the vocabulary", done=1, total=2, tokens=0, seconds=1.0))
        show(Progress(stage="tokenizing", done=30_000_000, total=100_000_000, tokens=9, seconds=2.0))
    assert "training the vocabulary" in file.getvalue()
    assert "15.0 MB/s" in file.getvalue()
