"""The runs that a figure draws when there are too many: a browser shows some hundred lines, not ten thousand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from sweeps.store.records import Run

T = TypeVar("T")

MOST_DRAWN = 300
"""lines or marks of one kind in a figure"""
LOWEST = 50
"""of the sampler's trials that end lowest, this many are always drawn"""


def sample(items: Sequence[T], run_of: Callable[[T], Run]) -> list[T]:
    """Return the items to draw, in their order: all of them, or of more than MOST_DRAWN a part.

    The part has every run that the sampler did not propose, the LOWEST of the sampler's trials, and then others of the
    sampler's at even distances. Runs that the sampler did not propose are at even distances too if they are too many.
    """
    if len(items) <= MOST_DRAWN:
        return list(items)
    runs = [run_of(item) for item in items]
    others = [index for index, run in enumerate(runs) if run.origin != "sampler"]
    chosen = set(_spread(others, MOST_DRAWN - LOWEST))
    sampled = [index for index, run in enumerate(runs) if run.origin == "sampler"]
    by_loss = sorted(sampled, key=lambda index: _final(runs[index]))
    chosen |= set(by_loss[:LOWEST])
    rest = [index for index in sampled if index not in chosen]
    chosen |= set(_spread(rest, MOST_DRAWN - len(chosen)))
    return [items[index] for index in sorted(chosen)]


def note_on(number: int) -> str:
    """Return the sentence, with a space before it, that says what a figure of so many lines leaves out, if it does."""
    if number <= MOST_DRAWN:
        return ""
    return (
        f" Only {MOST_DRAWN} of {number:,} are drawn: the runs that the sampler did not propose, its {LOWEST} trials "
        "that ended lowest, and others at even distances."
    )


def _final(run: Run) -> float:
    return run.val_loss if run.val_loss is not None and math.isfinite(run.val_loss) else math.inf


def _spread(indices: Sequence[int], most: int) -> list[int]:
    """Return at most `most` of the indices, at even distances."""
    if len(indices) <= most:
        return list(indices)
    return [indices[place * len(indices) // most] for place in range(most)]
