"""How commands print: plain lines, or one JSON object on stdout and the lines on stderr."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.analysis.findings import Findings
    from sweeps.store.records import DataFacts


def remarks(data: DataFacts) -> list[str]:
    return [*(f"note: {note}" for note in data.notes), *(f"warning: {warning}" for warning in data.warnings)]


def saying(as_json: bool) -> Callable[[str], None]:
    return lambda text: print(text, file=sys.stderr if as_json else sys.stdout, flush=True)


def preparing(as_json: bool) -> AbstractContextManager[Any]:
    from rich.console import Console

    from sweeps.terminal import preparing

    return preparing(Console(stderr=as_json), saying(as_json))


def wrapped(lines: Iterable[str]) -> Iterator[str]:
    width = max(60, min(120, shutil.get_terminal_size((120, 24)).columns))
    for line in lines:
        yield from textwrap.wrap(line, width, subsequent_indent="  ", drop_whitespace=False) or [""]


def print_answer(findings: Findings, *, full: bool, report: Path, store: Path) -> None:
    """Print the answer, or the whole verdict, and where report and store are."""
    from sweeps.text import encodable
    from sweeps.verdict.screen import last_screen
    from sweeps.verdict.verdict import verdict

    width, encoding = shutil.get_terminal_size((80, 24)).columns, sys.stdout.encoding or "ascii"
    files = {"report": str(report) if report.exists() else findings.results.command("report"), "store": str(store)}
    if full:
        text = "\n\n".join([verdict(findings).text(width=min(120, width)), *map(": ".join, files.items())])
    else:
        text = "\n".join(last_screen(findings, width=width, files=files, encoding=encoding))
    print(encodable(text, encoding))
