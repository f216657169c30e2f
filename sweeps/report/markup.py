"""Pieces of the report's HTML: sentences, lists, tables. They are given text, which they escape, and give markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_EXPONENT = re.compile(r"\d[\d.]*e-\d+")
_COMMAND = re.compile(r"`([^`]+)`")
_NBSP = "\u00a0"
_LONGEST_LEAD = 60


def text(plain: str) -> str:
    """Text as it stands."""
    return html.escape(plain)


def breakable(name: str) -> str:
    """A name such as gradient_accumulation_steps, which may go over to the next line after a "_"."""
    return text(name).replace("_", "_<wbr>")


def prose(sentence: str) -> str:
    """A sentence: numbers such as 1e-4 and 95 % stay on one line, what is between backticks is code."""
    whole = _EXPONENT.sub(r'<span class="whole">\g<0></span>', text(sentence.replace(" %", f"{_NBSP}%")))
    return _COMMAND.sub(_command, whole)


def _command(found: re.Match[str]) -> str:
    """A command, which breaks between its words alone: not after the hyphen of an option."""
    words = " ".join(f'<span class="whole">{word}</span>' for word in found[1].split(" "))
    return f"<code>{words}</code>"


def items(sentences: Iterable[str]) -> str:
    """Sentences as a list."""
    listed = "\n".join(f"<li>{_item(sentence)}</li>" for sentence in sentences)
    return f"<ul>\n{listed}\n</ul>"


def _item(sentence: str) -> str:
    """A sentence; what it is about, before its first colon, stands out."""
    lead, colon, rest = sentence.partition(": ")
    if not colon or len(lead) > _LONGEST_LEAD or any(mark in lead for mark in ";(`"):
        return prose(sentence)
    return f"<strong>{prose(lead)}</strong>: {prose(rest)}"


def terms(facts: Iterable[tuple[str, str]]) -> str:
    """Names and what they stand for."""
    listed = "\n".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in facts)
    return f"<dl>\n{listed}\n</dl>"


def table(caption: str, columns: str, rows: Iterable[str], *, attributes: str = "") -> str:
    """A table in a box that scrolls where the screen is too narrow; `columns` is of `head`, each row of `row`."""
    body = "\n".join(rows)
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{text(caption)}"><table {attributes}>\n'
        f"<caption>{text(caption)}</caption>\n{columns}\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def head(columns: Sequence[tuple[str, str]], *, sortable: bool = False) -> str:
    """The head of a table: names of columns and their kinds (number, aside, words)."""
    cells = []
    for name, kind in columns:
        label = breakable(name)
        shown = f'<button type="button">{label}</button>' if sortable else label
        cells.append(f'<th scope="col" class="{kind}">{shown}</th>')
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def row(cells: Iterable[str], *, changed: bool = False) -> str:
    """A row of a table."""
    mark = ' class="changed"' if changed else ""
    return f"<tr{mark}>{''.join(cells)}</tr>"


def row_head(inner: str) -> str:
    """The cell that names its row; `inner` is markup."""
    return f'<th scope="row">{inner}</th>'


def cell(plain: str, kind: str = "") -> str:
    """A cell of text, which a sort goes by."""
    return f'<td class="{kind}" data-value="{text(plain)}">{text(plain)}</td>'


def number(shown: str, kind: str = "", *, value: float | int | str | bool | None = None) -> str:
    """A cell of a number, and its full value, which a sort goes by; None goes last."""
    exact = "" if value is None else text(str(value))
    return f'<td class="number {kind}" data-value="{exact}">{text(shown)}</td>'
