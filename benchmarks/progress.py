"""Progress of a benchmark, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 2.0
"""seconds before the first line"""


def watched(items: Iterable[T], total: int, *, noun: str) -> Iterator[T]:
    """Yield the items, and report progress once they have taken more than 2 seconds.

    A terminal shows one line, rewritten every half second. Anything else gets a new line every 10 seconds.
    """
    begun = reported = time.monotonic()
    on_terminal = sys.stderr.isatty()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - begun > PATIENCE and now - reported > (0.5 if on_terminal else 10):
            seconds_left = (now - begun) / done * (total - done)
            text = f"{done:,} of {total:,} {noun}, about {seconds_left:.0f} s left"
            print(text, end="\r" if on_terminal else "\n", file=sys.stderr, flush=True)
            reported = now
    if on_terminal and reported > begun:
        print("\033[K", end="", file=sys.stderr)
