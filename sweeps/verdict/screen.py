"""The answer on one screen: at most 25 lines of plain text, for 80 columns or more.

What doesn't fit gives way in this order: changes that show nothing share a line, notes, further unknowns, blank lines,
the last rows of the table. `sweep verdict --full` has everything.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from sweeps.analysis.findings import Findings
from sweeps.text import count, encodable, joined
from sweeps.verdict.answer import Advice, Answer, Row
from sweeps.verdict.glance import answer_of
from sweeps.verdict.table import table

LINES = 25
NARROWEST, WIDEST = 80, 140
"""columns"""
_MARKS = {"do": "do", "dont": "don't", "unknown": "unknown", "note": "note"}
_INDENT = 9


def last_screen(findings: Findings, *, width: int, files: Mapping[str, str], encoding: str) -> list[str]:
    """Return the lines that a command ends with: the answer, where the files are, and what shows more."""
    more = findings.results.command("verdict", "--full")
    return screen(answer_of(findings), width=width, files={**files, "more": more}, encoding=encoding)


def screen(answer: Answer, *, width: int, files: Mapping[str, str], encoding: str = "utf-8") -> list[str]:
    """Return the lines for a terminal of `width` columns, in ASCII where `encoding` lacks a character.

    `files`: where report and store are, by name.
    """
    width = min(WIDEST, max(NARROWEST, width))
    head = [*_wrapped(answer.sentence, width), *_wrapped(answer.scale, width)]
    tail = [_marked(name, text) for name, text in files.items()]
    lines: list[str] = []
    for rows, quiet, advice, gaps in _ever_shorter(answer):
        body = table(rows, width=width, arrow=encodable("→", encoding)) if rows else []
        left = len(answer.rows) - len(rows) - len(quiet)
        body += [f"{count(left, 'more row')} with --full"] if left else []
        body += (
            _wrapped(f"nothing shown of these alone: {joined(f'{row.knob} {row.after}' for row in quiet)}", width)
            if quiet
            else []
        )
        blocks = [head, body, [line for each in advice for line in _advised(each, width)], tail]
        lines = [
            line for index, block in enumerate(blocks) for line in ([""] * (index in gaps and bool(block)) + block)
        ]
        if len(lines) <= LINES:
            break
    return [encodable(line, encoding) for line in lines]


_Layout = tuple[Sequence[Row], Sequence[Row], Sequence[Advice], Sequence[int]]
"""rows of the table, rows that share a line, advice, parts with a blank line before them (table, advice, files)"""


def _ever_shorter(answer: Answer) -> Iterator[_Layout]:
    """Yield layouts that leave out more and more."""
    rows, advice, gaps = answer.rows, list(answer.advice), (1, 2, 3)
    yield rows, (), advice, gaps
    quiet = tuple(row for row in rows if row.knob is not None and not row.shown)
    rows = tuple(row for row in rows if row not in quiet)
    yield rows, quiet, advice, gaps
    for kind, least in (("note", 0), ("unknown", 1)):
        while sum(each.kind == kind for each in advice) > least:
            advice.remove([each for each in advice if each.kind == kind][-1])
            yield rows, quiet, advice, gaps
    yield from ((rows, quiet, advice, fewer) for fewer in ((1, 2), (2,), ()))
    for left in range(len(rows) - 1, -1, -1):
        yield rows[:left], quiet, advice, ()


def _advised(advice: Advice, width: int) -> Iterator[str]:
    """Yield an advice with its command on the same line, or below it where that is too long."""
    line = _marked(_MARKS[advice.kind], advice.text)
    both = f"{line}: {advice.command}"
    if advice.command and len(both) <= width:
        yield both
        return
    yield from textwrap.wrap(line, width, subsequent_indent=" " * _INDENT, break_on_hyphens=False)
    if advice.command:
        yield _marked("", advice.command)


def _marked(mark: str, text: str) -> str:
    return f"{mark:<{_INDENT}}{text}"


def _wrapped(text: str, width: int) -> list[str]:
    kept = text.replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.wrap(kept, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
