"""How far a benchmark is, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 2.0
"""seconds before the first line"""


def watched(items: Iterable[T], total: int, *, noun: str) -> Iterator[T]:
    """The same items, with a line of progress when they take over 2 seconds: every half second on a terminal, where
    one line is written over and over, else every 10."""
    begun = shown = time.monotonic()
    live = sys.stderr.isatty()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - begun > PATIENCE and now - shown > (0.5 if live else 10):
            left = (now - begun) / done * (total - done)
            text = f"{done:,} of {total:,} {noun}, about {left:.0f} s left"
            print(text, end="\r" if live else "\n", file=sys.stderr, flush=True)
            shown = now
    if live and shown > begun:
        print("\033[K", end="", file=sys.stderr)
