"""HTML of sentences, lists and tables. Functions take plain text, which they escape, and return markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_EXPONENT = re.compile(r"\d[\d.]*e-\d+")
_COMMAND = re.compile(r"`([^`]+)`")
_NBSP = "\u00a0"
_LONGEST_LEAD = 60


def escaped(plain: str) -> str:
    """Return plain text as markup."""
    return html.escape(plain)


def breakable(name: str) -> str:
    """Return a name such as gradient_accumulation_steps, with line breaks allowed after each "_"."""
    return escaped(name).replace("_", "_<wbr>")


def prose(sentence: str) -> str:
    """Return a sentence in which 1e-4 and 95 % stay on one line and text between backticks is code."""
    whole = _EXPONENT.sub(r'<span class="whole">\g<0></span>', escaped(sentence.replace(" %", f"{_NBSP}%")))
    return _COMMAND.sub(lambda match: f"<code>{_words(match[1])}</code>", whole)


def _words(code: str) -> str:
    """Return escaped code that is broken only between its words, not after an option's hyphen."""
    return " ".join(f'<span class="whole">{word}</span>' for word in code.split(" "))


def items(sentences: Iterable[str]) -> str:
    """Return sentences as a list."""
    listed = "\n".join(f"<li>{_item(sentence)}</li>" for sentence in sentences)
    return f"<ul>\n{listed}\n</ul>"


def _item(sentence: str) -> str:
    """Return a sentence with its subject, the text before the first colon, in bold."""
    lead, colon, rest = sentence.partition(": ")
    if not colon or len(lead) > _LONGEST_LEAD or any(mark in lead for mark in ";(`"):
        return prose(sentence)
    return f"<strong>{prose(lead)}</strong>: {prose(rest)}"


def terms(facts: Iterable[tuple[str, str]]) -> str:
    """Return names and their values as a description list."""
    listed = "\n".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in facts)
    return f"<dl>\n{listed}\n</dl>"


def command(text: str) -> str:
    """Return a command on a line of its own; the page's script adds a button that copies it."""
    return f'<div class="command"><code data-copy>{_words(escaped(text))}</code></div>'


def block(text: str) -> str:
    """Return lines of code; the page's script adds a button that copies them."""
    return f'<div class="command"><pre tabindex="0" data-copy>{escaped(text)}</pre></div>'


def fold(key: str, title: str, about: str, inner: str) -> str:
    """Return a folded part of the page: its title, a few words on what is in it, and its markup `inner`."""
    return (
        f'<details class="fold" id="{key}"><summary><h3>{escaped(title)}</h3> '
        f'<span class="about">{escaped(about)}</span></summary>\n<div class="inner">\n{inner}\n</div></details>'
    )


def table(caption: str, columns: str, rows: Iterable[str], *, kind: str = "", foot: str = "") -> str:
    """Return a table, sorted by its headers, in a box that scrolls on a narrow screen.

    `columns` comes from `head`, each row and the `foot` from `row`; `kind` is a class.
    """
    body = "\n".join(rows)
    end = f"\n<tfoot>{foot}</tfoot>" if foot else ""
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{escaped(caption)}"><table class="{kind}">\n'
        f"<caption>{escaped(caption)}</caption>\n{columns}\n<tbody>\n{body}\n</tbody>{end}\n</table></div>"
    )


def head(columns: Sequence[tuple[str, str]]) -> str:
    """Return the head of a table that sorts, from the columns' names and kinds (number, aside, words)."""
    cells = [
        f'<th scope="col" class="{kind}"><button type="button">{breakable(name)}</button></th>'
        for name, kind in columns
    ]
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def row(cells: Iterable[str], *, kind: str = "") -> str:
    """Return a row of a table; `kind` is a class."""
    mark = f' class="{kind}"' if kind else ""
    return f"<tr{mark}>{''.join(cells)}</tr>"


def row_head(inner: str, *, value: str) -> str:
    """Return the cell that names its row, sorted by `value`; `inner` is markup."""
    return f'<th scope="row" data-value="{escaped(value)}">{inner}</th>'


def cell(plain: str, kind: str = "") -> str:
    """Return a cell of text, sorted by that text."""
    return f'<td class="{kind}" data-value="{escaped(plain)}">{escaped(plain)}</td>'


def number(shown: str, kind: str = "", *, value: float | int | str | bool | None = None) -> str:
    """Return a cell of a number, sorted by its full `value`; None sorts last."""
    exact = "" if value is None else escaped(str(value))
    return f'<td class="number {kind}" data-value="{exact}">{escaped(shown)}</td>'
