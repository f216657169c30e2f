"""The selection of documents and their assignment to splits.

A document's hash alone decides its split. So no document changes its split when shards are added or reordered, and a
text that occurs twice cannot be in both splits.
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
from trainer.data.long_runs import has_endless_accents
from trainer.errors import DataError

_CHUNK = 1 << 19  # characters
DIGEST = 16
"""Bytes of a document's hash: among 10^9 different documents two share a hash with probability 10^-21."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Rules for selecting documents. Raises DataError for a value outside its limits."""

    val_fraction: float = 0.05
    """fraction of the documents for validation"""
    min_chars: int = 200
    """characters of the shortest document that is kept"""
    dedup: bool = True
    """keep only the first of equal documents; takes about 110 bytes of memory per document"""
    seed: int = 1337
    """seed of the split"""

    def __post_init__(self) -> None:
        if not 0.0 < self.val_fraction < 1.0:
            raise DataError(f"data.val_fraction={self.val_fraction!r} must be above 0 and below 1, such as 0.05")
        if self.min_chars < 0:
            raise DataError(f"data.min_chars={self.min_chars!r} must be at least 0")


@dataclass(kw_only=True)
class Counts:
    """Counts of the documents that were kept and left out."""

    documents: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    """kept documents of each split"""
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    """UTF-8 bytes of each split's text"""
    null: int = 0
    undecodable: int = 0
    short: int = 0
    duplicate: int = 0
    left_bytes: dict[str, int] = field(default_factory=lambda: {"short": 0, "duplicate": 0})
    """UTF-8 bytes of the text that was left out"""
    lowest: float = 1.0
    """smallest `place` of a kept document: a val_fraction above it gives a validation document"""
    highest: float = 0.0
    """largest `place` of a kept document: a val_fraction up to it leaves a training document"""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A kept document."""

    split: str
    text: str
    digest: bytes


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Kept documents of one group, in order: about half a million characters, or the rest of the group."""

    documents: list[Document]
    done: int
    """bytes of text read so far, as the source counts them"""
    state: dict[str, Any] | None
    """the sieve's state at the end of a group, else None"""


class Sieve:
    """A filter that takes documents in order and keeps each in a split or leaves it out."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._seen: set[bytes] = set()
        self.counts = Counts()

    def sift(self, source: Documents, *, start: int = 0) -> Iterator[Chunk]:
        """Read a source from group `start` on. The last chunk of each group, possibly empty, has a state."""
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
        """Return the document with its split, or None if it is left out."""
        if len(text) < max(1, self._options.min_chars):
            self.counts.short += 1
            self.counts.left_bytes["short"] += _utf8_bytes(text)
            return None
        digest = hash_document(text, seed=self._options.seed)
        if self._options.dedup:
            if digest in self._seen:
                self.counts.duplicate += 1
                self.counts.left_bytes["duplicate"] += _utf8_bytes(text)
                return None
            self._seen.add(digest)
        position = place(digest)
        split = "val" if position < self._options.val_fraction else "train"
        self.counts.documents[split] += 1
        self.counts.bytes[split] += _utf8_bytes(text)
        self.counts.lowest = min(self.counts.lowest, position)
        self.counts.highest = max(self.counts.highest, position)
        return Document(split=split, text=text, digest=digest)

    def restore(self, state: Mapping[str, Any], digests: bytes) -> None:
        """Resume from a chunk's state. `digests` are the concatenated hashes of the documents kept before it."""
        self.counts = Counts(**state)
        if self._options.dedup:
            self._seen = {digests[at : at + DIGEST] for at in range(0, len(digests), DIGEST)}

    def check_splits(self) -> None:
        """Raise DataError with a remedy unless both splits have a document."""
        counts, options = self.counts, self._options
        kept = sum(counts.documents.values())
        if not kept:
            raise DataError(
                f"none of {counts.null + counts.undecodable + counts.short} documents is usable ({counts.null} null, "
                f"{counts.undecodable} not UTF-8, {counts.short} shorter than data.min_chars={options.min_chars}); "
                "lower data.min_chars or name another column or corpus"
            )
        if kept == 1:
            raise DataError(
                "the corpus has one usable document, but training and validation need at least one each; "
                "add documents, or cut this one into several rows (chapters, pages)"
            )
        if all(counts.documents.values()):
            return
        if not counts.documents["val"]:
            empty, change, start = "validation", "raise", counts.lowest
        else:
            empty, change, start = "training", "lower", counts.highest
        fraction = _fraction_between(counts.lowest, counts.highest, start=start)
        remedy = "add different documents" if fraction is None else f"{change} it to {fraction} or add documents"
        raise DataError(
            f"data.val_fraction={options.val_fraction:g} puts none of the {kept} documents into the {empty} split; "
            f"{remedy}"
        )


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def normalise(text: str) -> str:
    """Return the form in which documents are compared: Unicode NFC, Unix line ends, no surrounding space.

    A text with endless accents keeps its form, because its NFC would take hours.
    """
    composed = text if has_endless_accents(text) else unicodedata.normalize("NFC", text)
    return composed.replace("\r\n", "\n").strip()


def hash_document(text: str, *, seed: int) -> bytes:
    """Return the blake2b hash of the normalised text, salted with the seed; 16 bytes."""
    salt = seed.to_bytes(hashlib.blake2b.SALT_SIZE, "little", signed=True)
    return hashlib.blake2b(normalise(text).encode(), digest_size=DIGEST, salt=salt).digest()


def place(digest: bytes) -> float:
    """Map a document's hash to [0, 1). Documents below val_fraction are for validation."""
    return int.from_bytes(digest[:8], "big") / 2.0**64


def _fraction_between(lowest: float, highest: float, *, start: float) -> float | None:
    """Return a short decimal above `lowest` and at most `highest`, close to `start`, which is one of the two.

    A val_fraction in this range gives both splits a document. It has two significant digits if that suffices. None:
    the range is empty, because all documents are equal.
    """
    if lowest == highest:
        return None
    exponent = math.floor(math.log10(max(start, 1e-9)))
    for decimals in range(1 - exponent, 18 - exponent):
        steps = math.floor(start * 10.0**decimals) + (start == lowest)
        fraction = round(steps * 10.0**-decimals, decimals)
        if lowest < fraction <= highest:
            return fraction
    return highest
