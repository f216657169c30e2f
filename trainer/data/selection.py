"""Which documents are kept, and in which split.

A document's hash alone decides its split, so adding shards, or reading them in another order, moves no
document from one split to the other, and a text that occurs twice cannot be in both.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from trainer.data.dataset import SPLITS
from trainer.data.documents import Documents
from trainer.errors import DataError

_CHUNK = 1 << 19  # characters
DIGEST = 16
"""Bytes of a document's hash: with 10^9 documents two different ones share one with probability 10^-21."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How documents are chosen. Raises DataError for a value out of its limits."""

    val_fraction: float = 0.05
    """of the documents, for validation"""
    min_chars: int = 200
    """shorter documents are left out, characters"""
    dedup: bool = True
    """leave out all but the first of equal documents; takes about 110 bytes of memory a document"""
    seed: int = 1337
    """of the split"""

    def __post_init__(self) -> None:
        if not 0.0 < self.val_fraction < 1.0:
            raise DataError(f"data.val_fraction={self.val_fraction!r} must be above 0 and below 1, such as 0.05")
        if self.min_chars < 0:
            raise DataError(f"data.min_chars={self.min_chars!r} must be at least 0")


@dataclass(kw_only=True)
class Counts:
    """What has passed and what was left out."""

    documents: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    """UTF-8 bytes of the documents' text"""
    null: int = 0
    undecodable: int = 0
    short: int = 0
    duplicate: int = 0
    lowest: float = 1.0
    """the smallest place of a document, in [0, 1]: a val_fraction above it has a validation document"""
    highest: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document that is kept."""

    split: str
    text: str
    digest: bytes


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Kept documents of one group, in order: about half a million characters, or what is left of the group."""

    documents: list[Document]
    done: int
    """bytes of text read so far, as the source counts them"""
    state: dict[str, Any] | None
    """at the end of a group, the sieve's state there"""


class Sieve:
    """Takes documents in order, and says for each the split it belongs to or that it is left out."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._seen: set[bytes] = set()
        self.counts = Counts()

    def sift(self, source: Documents, *, start: int = 0) -> Iterator[Chunk]:
        """Read a source from group `start` on; the last chunk of each group, perhaps empty, has a state."""
        documents: list[Document] = []
        size = 0
        group, read = start, sum(source.groups[:start])
        for batch in source.read(start):
            self.counts.null += batch.nulls
            self.counts.undecodable += batch.undecodable
            for text in batch.texts:
                if document := self.admit(text):
                    documents.append(document)
                    size += len(text)
                    if size >= _CHUNK:
                        yield Chunk(documents=documents, done=read, state=None)
                        documents, size = [], 0
            read += batch.size
            if batch.ends_group:
                group += 1
                read = sum(source.groups[:group])
                yield Chunk(documents=documents, done=read, state=asdict(self.counts))
                documents, size = [], 0

    def admit(self, text: str) -> Document | None:
        """The document with its split, or None if it is left out."""
        if len(text) < max(1, self._options.min_chars):
            self.counts.short += 1
            return None
        digest = hash_document(text, seed=self._options.seed)
        if self._options.dedup:
            if digest in self._seen:
                self.counts.duplicate += 1
                return None
            self._seen.add(digest)
        where = place(digest)
        split = "val" if where < self._options.val_fraction else "train"
        self.counts.documents[split] += 1
        self.counts.bytes[split] += len(text) if text.isascii() else len(text.encode())
        self.counts.lowest = min(self.counts.lowest, where)
        self.counts.highest = max(self.counts.highest, where)
        return Document(split=split, text=text, digest=digest)

    def restore(self, state: Mapping[str, Any], digests: bytes) -> None:
        """Go on from a chunk's state, with the hashes of the documents kept until then, one after another."""
        self.counts = Counts(**state)
        if self._options.dedup:
            self._seen = {digests[at : at + DIGEST] for at in range(0, len(digests), DIGEST)}

    def check_splits(self) -> None:
        """Raise DataError, with what to change, unless both splits have a document."""
        counts, options = self.counts, self._options
        kept = sum(counts.documents.values())
        if not kept:
            raise DataError(
                f"no document is left of {counts.null + counts.undecodable + counts.short} ({counts.null} null, "
                f"{counts.undecodable} no UTF-8, {counts.short} shorter than data.min_chars={options.min_chars}); "
                "lower data.min_chars or name another column or corpus"
            )
        if kept == 1:
            raise DataError(
                "the corpus has one document that is kept, and training and validation need one each; "
                "give more, or cut it into several rows (chapters, pages)"
            )
        if not counts.documents["val"]:
            remedy = f"raise it to {_above(counts.lowest)}"
        elif not counts.documents["train"]:
            remedy = f"lower it to {_below(counts.highest)}"
        else:
            return
        empty = "validation" if not counts.documents["val"] else "training"
        raise DataError(
            f"data.val_fraction={options.val_fraction:g} puts none of the {kept} documents into the {empty} split; "
            f"{remedy} or give more documents"
        )


def normalise(text: str) -> str:
    """What two documents must share to be the same: Unicode NFC, Unix line ends, no space around it."""
    return unicodedata.normalize("NFC", text).replace("\r\n", "\n").strip()


def hash_document(text: str, *, seed: int) -> bytes:
    """blake2b of the normalised text, salted with the seed; 16 bytes."""
    salt = seed.to_bytes(hashlib.blake2b.SALT_SIZE, "little", signed=True)
    return hashlib.blake2b(normalise(text).encode(), digest_size=DIGEST, salt=salt).digest()


def place(digest: bytes) -> float:
    """Where in [0, 1) a document lies; those below val_fraction are for validation."""
    return int.from_bytes(digest[:8], "big") / 2.0**64


def _above(number: float) -> float:
    """A number of two digits after the leading zeros, above `number` and below 1 where there is one."""
    unit = 10.0 ** (math.floor(math.log10(max(number, 1e-9))) - 1)
    rounded = (math.floor(number / unit) + 1) * unit
    return float(f"{rounded:.10g}") if rounded < 1.0 else (number + 1.0) / 2


def _below(number: float) -> float:
    """A number of two digits after the leading zeros, below or at `number`."""
    unit = 10.0 ** (math.floor(math.log10(max(number, 1e-9))) - 1)
    return float(f"{max(math.floor(number / unit), 1) * unit:.10g}")
