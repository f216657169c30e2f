"""A fixed fraction of the training tokens: the same documents for every run on the same data.

Prepared documents keep the order of their source, so the beginning of the file would be a biased sample. Documents are
therefore taken in one shuffled order up to the fraction, and the last is cut to meet it exactly. A smaller fraction
lies within a larger one. If documents aren't marked (nanoGPT's folders), pieces of `PIECE` tokens take their place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ORDER_SEED = 20_240_301
"""Seed of the order of documents. It is the same for all runs, so that they train on the same documents."""
PIECE = 2**13
"""Tokens per piece of unmarked text, small enough that even a small corpus has many pieces."""
_CHUNK = 4 << 20  # tokens read at a time while searching for document ends


class Subset:
    """`round(fraction * n)` of n tokens, joined in the file's order into one stream with an array's length and slices.

    Only the documents' positions are held in memory, 16 bytes per document. A slice is a copy.
    """

    def __init__(self, tokens: npt.NDArray[Any], *, fraction: float, eot: int | None) -> None:
        ends = document_ends(tokens, eot)
        starts = np.concatenate([[0], ends[:-1]])
        order = np.random.Generator(np.random.Philox(key=ORDER_SEED)).permutation(len(ends))
        cumulative = np.cumsum((ends - starts)[order])
        size = size_of(len(tokens), fraction=fraction)
        last = int(np.searchsorted(cumulative, size))
        ends[order[last]] -= cumulative[last] - size
        chosen = np.sort(order[: last + 1])
        self._tokens = tokens
        self._ends = np.cumsum(ends[chosen] - starts[chosen])
        self._shifts = ends[chosen] - self._ends  # file position minus stream position

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, part: slice) -> npt.NDArray[Any]:
        positions = np.arange(*part.indices(len(self)))
        documents = np.searchsorted(self._ends, positions, side="right")
        tokens: npt.NDArray[Any] = self._tokens[positions + self._shifts[documents]]
        return tokens


def size_of(tokens: int, *, fraction: float) -> int:
    """Return the tokens that a fraction of a training split holds."""
    return tokens if fraction == 1 else max(1, round(fraction * tokens))


def document_ends(tokens: npt.NDArray[Any], eot: int | None) -> npt.NDArray[np.int64]:
    """Return the ends of documents: one past each `eot`, and the end of the tokens.

    Without an `eot` they are the ends of pieces of `PIECE` tokens. The tokens are read once, a few megabytes at a time.
    """
    if eot is None:
        ends = np.arange(PIECE, len(tokens), PIECE)
    else:
        ends = np.concatenate(
            [np.flatnonzero(tokens[at : at + _CHUNK] == eot) + at + 1 for at in range(0, len(tokens), _CHUNK)]
        )
    return ends if len(ends) and ends[-1] == len(tokens) else np.append(ends, len(tokens))
