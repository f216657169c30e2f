"""The encoding of documents into a journal's files, which takes most of a preparation's time.

One thread reads, selects and writes, in order. Other threads encode (tiktoken releases the GIL). At most
2 x threads + 2 chunks are in flight, so memory is bounded whatever the size of the source.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.data.dataset import SPLITS
from trainer.data.documents import Documents
from trainer.data.journal import Journal
from trainer.data.selection import Chunk, Document, Sieve
from trainer.data.tokenizer import Tokenizer

HASHES = "hashes"
"""Name of the journal's file with the hashes of the kept documents; the other files are named after the splits."""

_REPORT = 4 << 20  # bytes of text between two progress reports


@dataclass(frozen=True, kw_only=True)
class PrepareProgress:
    """Progress of a preparation. `done`, `total` and `resumed` are bytes of text, roughly, as parquet counts them."""

    stage: str
    done: int
    total: int
    tokens: int
    """tokens written so far, both splits together"""
    seconds: float
    """time spent on this stage in this process"""
    resumed: int = 0
    """bytes that an earlier, interrupted preparation had done"""

    @property
    def rate(self) -> float | None:
        """Bytes per second of this process; None before any work is done."""
        done = self.done - self.resumed
        return done / self.seconds if done > 0 and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Remaining seconds at the rate so far; None before any work is done."""
        return (self.total - self.done) / self.rate if self.rate else None


def token_dtype(tokenizer: Tokenizer) -> np.dtype[Any]:
    """Return uint16, nanoGPT's type, if every id fits, else uint32."""
    return np.dtype(np.uint16 if tokenizer.n_tokens <= 1 << 16 else np.uint32)


def write_tokens(
    documents: Documents,
    tokenizer: Tokenizer,
    sieve: Sieve,
    journal: Journal,
    *,
    threads: int,
    report: Callable[[PrepareProgress], None],
) -> None:
    """Encode the documents that the journal lacks, and commit each of their groups to it."""
    started = time.monotonic()
    total = sum(documents.groups)
    resumed = reported = sum(documents.groups[: journal.done])
    width = token_dtype(tokenizer).itemsize

    def report_progress(done: int) -> None:
        tokens = sum(journal.size(split) for split in SPLITS) // width
        seconds = time.monotonic() - started
        report(
            PrepareProgress(stage="tokenizing", done=done, total=total, tokens=tokens, seconds=seconds, resumed=resumed)
        )

    if journal.done:
        sieve.restore(journal.state, journal.read(HASHES))
    report_progress(resumed)
    chunks = sieve.sift(documents, start=journal.done)
    with closing(_encoded(chunks, tokenizer, threads=threads)) as encoded:
        for piece in encoded:
            for split, tokens in piece.tokens.result().items():
                journal.append(split, tokens.data)
            journal.append(HASHES, b"".join(document.digest for document in piece.chunk.documents))
            if piece.chunk.state is not None:
                journal.commit(piece.chunk.state)
            if piece.chunk.state is not None or piece.chunk.done - reported >= _REPORT:
                reported = piece.chunk.done
                report_progress(reported)


@dataclass(frozen=True, kw_only=True)
class _Piece:
    chunk: Chunk
    tokens: Future[dict[str, npt.NDArray[Any]]]


def _encoded(chunks: Iterator[Chunk], tokenizer: Tokenizer, *, threads: int) -> Generator[_Piece]:
    """Yield the chunks in order, while threads encode a few chunks ahead."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
    waiting: deque[_Piece] = deque()
    try:
        for chunk in chunks:
            waiting.append(_Piece(chunk=chunk, tokens=pool.submit(_encode, chunk.documents, tokenizer)))
            if len(waiting) > 2 * threads + 2:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


def _encode(documents: list[Document], tokenizer: Tokenizer) -> dict[str, npt.NDArray[Any]]:
    """Return the ids of each split's documents, every document followed by the end-of-document token."""
    dtype = token_dtype(tokenizer)
    end = np.array([tokenizer.eot], dtype=dtype)
    pieces: dict[str, list[npt.NDArray[Any]]] = {}
    for document in documents:
        pieces.setdefault(document.split, []).extend((tokenizer.encode_to_numpy(document.text), end))
    return {split: np.concatenate(arrays, dtype=dtype, casting="unsafe") for split, arrays in pieces.items()}
