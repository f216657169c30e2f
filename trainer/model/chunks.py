"""Sizes of the chunks that kernels compute at a time, shared with the estimate of their memory.

This module doesn't import torch, which takes seconds, so that a plan can use it.
"""

from __future__ import annotations

CHUNK = 512
"""Rows at a time on a CPU. For vocabularies of 512 to 4000 it is as fast as any other or faster. At 128 rows and below
the small products cost more than the cache saves."""

_LINE = 16
"""float32 in a cache line"""

_CARD_LOGITS = 2**26
"""Logits at a time on a card, where large products matter: 0.7 GB in float16 and float32 together."""

QUERIES = 64
"""Queries per block: the fastest of 32, 64 and 128 at contexts of 128 and 256 with heads of 32."""

LONGEST_WRITTEN_OUT = 256
"""Longest context for written-out attention without dropout, whose T*T weights per head stay in memory."""


def evaluated_rows(kind: str, *, vocab_size: int) -> int:
    """Return the number of rows whose logits an evaluation holds at once on a "cpu" or a "cuda" device."""
    return CHUNK if kind == "cpu" else max(CHUNK, _CARD_LOGITS // vocab_size)


def padded(vocab_size: int) -> int:
    """Return the length of a row of logits in memory: an odd number of cache lines, at least one more than needed.

    Rows a power of two apart compete for the same places in the cache. Without the padding the product for the weight's
    gradient is a third slower at vocabularies of 1024 and 4096.
    """
    lines = -(-vocab_size // _LINE)
    return _LINE * (lines + 1 + lines % 2)
