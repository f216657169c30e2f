"""What a preparation has left out: how many documents, why, and how much of the text went with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MUCH = 0.5
"""share of the text, or of the documents where their text isn't known, from which a person is warned"""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Counts of the documents of a corpus."""

    kept: int
    null: int = 0
    undecodable: int = 0
    short: int = 0
    duplicate: int = 0
    kept_bytes: int = 0
    bytes: Mapping[str, int] | None = None
    """UTF-8 bytes of the short and the repeated documents; None: not known, an older version has prepared them"""
    min_chars: int = 0

    @property
    def documents(self) -> int:
        """Documents left out."""
        return self.null + self.undecodable + self.short + self.duplicate

    @property
    def share(self) -> float:
        """Share of the text that was left out; of the documents, where their text isn't known."""
        if self.bytes is None:
            return self.documents / max(1, self.documents + self.kept)
        gone = sum(self.bytes.values())
        return gone / max(1, gone + self.kept_bytes)

    def notes(self) -> Iterator[str]:
        """Say what was left out, unless it was nothing, or so much that `warnings` says it."""
        if self.documents and self.share < MUCH:
            yield f"left out of the data: {self._counted()}"

    def warnings(self) -> Iterator[str]:
        """Say what was left out if it is most of the text, with the remedy."""
        if not self.documents or self.share < MUCH:
            return
        gone = self.bytes or {"short": self.short, "duplicate": self.duplicate}
        remedy = "keep repetitions with data.dedup=false"
        if gone["short"] >= gone["duplicate"]:
            remedy = f"lower data.min_chars={self.min_chars}, or join the lines of each document into one row"
        yield f"most of the data is left out: {self._counted()}; {remedy}"

    def _counted(self) -> str:
        reasons = {
            f"shorter than data.min_chars={self.min_chars}": self.short,
            "repeated": self.duplicate,
            "without a text": self.null,
            "not UTF-8": self.undecodable,
        }
        why = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items() if number)
        total = self.documents + self.kept
        text = "" if self.bytes is None else f", {_percent(self.share)} of the text"
        return f"{self.documents:,} of {total:,} documents{text} ({why})"


def _percent(share: float) -> str:
    if share == 0:
        return "none"
    return "under 0.1%" if share < 0.001 else f"{100 * share:.2g}%" if share < 0.995 else f"{100 * share:.1f}%"
