"""What a source of text looks like to the preparation: documents in a fixed order, in groups that are done or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some documents of one group, in order."""

    texts: list[str]
    nulls: int = 0
    undecodable: int = 0
    """documents that are no UTF-8 text"""
    size: int = 0
    """its share of the group's bytes"""
    ends_group: bool = False


class Documents(Protocol):
    """Text that can be read again from any group on, the same each time."""

    @property
    def name(self) -> str:
        """A short word for it, fit for a folder's name."""

    @property
    def fingerprint(self) -> str:
        """Hex; changes with the text."""

    @property
    def files(self) -> tuple[str, ...]:
        """Where it comes from, for people."""

    @property
    def groups(self) -> tuple[int, ...]:
        """Bytes of each group, roughly: only progress is measured by it."""

    def read(self, start: int) -> Iterator[Batch]:
        """Batches from group `start` on; the last of each group ends it. Raises DataError."""
