"""How far the preparation of the data is: a progress bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from sweeps.words import duration
from trainer.prepare import Progress

LINE_SECONDS = 2.0


def line(progress: Progress) -> str:
    """`tokenizing: 42 %, 1,200,000 tokens, 9.1 MB/s, about 8 s left`"""
    parts = [f"{progress.stage}: {progress.done / progress.total:.0%}" if progress.total else progress.stage]
    if progress.tokens:
        parts.append(f"{progress.tokens:,} tokens")
    if progress.rate:
        parts.append(f"{progress.rate / 1e6:.1f} MB/s")
    if progress.seconds_left:
        parts.append(f"about {duration(progress.seconds_left)} left")
    return ", ".join(parts)


@contextmanager
def preparing(console: Console, say: Callable[[str], None]) -> Iterator[Callable[[Progress], None]]:
    """The callback for `trainer.prepare.prepare`."""
    if not console.is_terminal:
        yield _lines(say)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(progress: Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, total=progress.total or None, rate="")
            rate = f"{progress.rate / 1e6:.1f} MB/s" if progress.rate else ""
            bar.update(tasks[progress.stage], completed=progress.done, rate=rate)

        yield show


def _lines(say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Callable[[Progress], None]:
    said = clock()

    def show(progress: Progress) -> None:
        nonlocal said
        if clock() - said >= LINE_SECONDS:
            said = clock()
            say(line(progress))

    return show
