"""The interface of a text source: documents in a fixed order, in groups that a preparation finishes one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """Some documents of one group, in order."""

    texts: list[str]
    nulls: int = 0
    """documents without a text"""
    undecodable: int = 0
    """documents that are not UTF-8"""
    size: int = 0
    """the batch's share of the group's bytes"""
    ends_group: bool = False


class Documents(Protocol):
    """A text source that can be read again from any group, with the same result every time."""

    @property
    def name(self) -> str:
        """Short name, valid in the name of a folder."""

    @property
    def fingerprint(self) -> str:
        """Hex digest that changes with the text."""

    @property
    def files(self) -> tuple[str, ...]:
        """Origin of the text, for display."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about the files that were found."""

    @property
    def groups(self) -> tuple[int, ...]:
        """Approximate bytes of each group, used for progress only."""

    def read(self, start: int) -> Iterator[TextBatch]:
        """Read batches from group `start` on. The last batch of each group has `ends_group`. Raises DataError."""
