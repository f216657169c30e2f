"""A report's HTML, parsed, and the pages of three made-up studies, each rendered once per test process."""

from __future__ import annotations

import functools
from html.parser import HTMLParser

from sweeps.analysis.findings import Findings
from sweeps.report.publish import page_of
from tests.helpers import attributions, branches, synthetic


class Page(HTMLParser):
    """Elements with their attributes, and the texts of scripts, in document order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """The visible text, with single plain spaces."""
        return " ".join("".join(self.texts).replace("\u00a0", " ").split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of that tag."""
        return [attributes for name, attributes in self.elements if name == tag]


@functools.cache
def searched_html() -> str:
    """Return the report of a study before its confirm phase."""
    return page_of(Findings(synthetic.full()))


@functools.cache
def confirmed_html() -> str:
    """Return the report of a study whose verdict is confirmed."""
    return page_of(Findings(attributions.swept()))


@functools.cache
def forked_html() -> str:
    """Return the report of a study of branches."""
    return page_of(Findings(branches.forked()))
