"""How much is computed at a time: what the computation and the forecast of its memory share. Without torch, which
takes seconds to import and a plan doesn't need."""

from __future__ import annotations

CHUNK = 512
"""Rows at a time on a CPU: at V 512 to 4000 as fast as any or faster; from 128 down the small products cost more than
the cache saves."""

_LINE = 16
"""float32 in a cache line"""

_CARD_LOGITS = 2**26
"""Logits at a time on a card, where large products are what counts: 0.7 GB in float16 and float32 together."""

QUERIES = 64
"""Queries a block: of 32, 64 and 128 the fastest at T 128 and 256, heads of 32."""

LONGEST_WRITTEN_OUT = 256
"""Context up to which attention without dropout is written out: its weights, T*T a head, stay for the backward pass."""


def evaluated_rows(kind: str, *, vocab_size: int) -> int:
    """Rows whose logits an evaluation has at once on a "cpu" or a "cuda" device."""
    return CHUNK if kind == "cpu" else max(CHUNK, _CARD_LOGITS // vocab_size)


def padded(vocab_size: int) -> int:
    """Length of a row of logits in memory: an odd number of cache lines, with one to spare at least.

    Rows that lie a power of two apart compete for the same places in the cache: at V 1024 and 4096 the product that
    makes the weight's gradient is a third slower without.
    """
    lines = -(-vocab_size // _LINE)
    return _LINE * (lines + 1 + lines % 2)
