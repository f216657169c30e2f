"""A fixed part of the training tokens: the same documents for every run on the same data.

Prepared documents lie in their source's order, of which the beginning would be a biased part. So they are taken in one
shuffled order until they make the fraction that is wanted, the last one cut to make it exactly; a smaller fraction lies
within a larger one. Where documents aren't marked (nanoGPT's own folders) pieces of `PIECE` tokens stand in for them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ORDER_SEED = 20_240_301
"""Seed of the order in which documents are taken: one for all runs, so that they train on the same ones."""
PIECE = 2**13
"""Tokens that stand in for a document: few enough that the pieces of a small corpus are many."""
_CHUNK = 4 << 20  # tokens read at a time while looking for ends


class Subset:
    """`round(fraction * n)` of n tokens as one stream of its own, with the length and the slices of an array.

    What was taken follows in the file's order, as if the rest weren't there. Only documents' places are held in
    memory, 16 bytes each; a slice is a copy.
    """

    def __init__(self, tokens: npt.NDArray[Any], *, fraction: float, eot: int | None) -> None:
        ends = document_ends(tokens, eot)
        starts = np.concatenate([[0], ends[:-1]])
        order = np.random.Generator(np.random.Philox(key=ORDER_SEED)).permutation(len(ends))
        reached = np.cumsum((ends - starts)[order])
        size = max(1, round(fraction * len(tokens)))
        last = int(np.searchsorted(reached, size))
        ends[order[last]] -= reached[last] - size
        taken = np.sort(order[: last + 1])
        self._tokens = tokens
        self._ends = np.cumsum(ends[taken] - starts[taken])
        self._shifts = ends[taken] - self._ends  # from a place in the stream to the one in the file

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, part: slice) -> npt.NDArray[Any]:
        places = np.arange(*part.indices(len(self)))
        read: npt.NDArray[Any] = self._tokens[places + self._shifts[np.searchsorted(self._ends, places, side="right")]]
        return read


def document_ends(tokens: npt.NDArray[Any], eot: int | None) -> npt.NDArray[np.int64]:
    """Where documents end: one past each `eot`, and the end of the tokens. None: pieces of equal size.

    The tokens are read once, a few megabytes at a time.
    """
    if eot is None:
        ends = np.arange(PIECE, len(tokens), PIECE)
    else:
        ends = np.concatenate(
            [np.flatnonzero(tokens[at : at + _CHUNK] == eot) + at + 1 for at in range(0, len(tokens), _CHUNK)]
        )
    return ends if len(ends) and ends[-1] == len(tokens) else np.append(ends, len(tokens))
