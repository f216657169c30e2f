"""The tokens that a run needs: more than one sequence and its targets in each split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

NAMES = {"train": "training", "val": "validation"}


def shortages(tokens: Mapping[str, int], *, block_size: int, data_fraction: float = 1.0) -> Iterator[str]:
    """Say of each split with too few `tokens` for sequences of `block_size` how many it holds and needs.

    The training split's tokens are those that `data_fraction` leaves.
    """
    for split, held in tokens.items():
        if held <= block_size + 1:
            part = f"data_fraction={data_fraction:g} of " if split == "train" and data_fraction < 1 else ""
            yield (
                f"{part}the {NAMES[split]} split holds {held:,} tokens, but needs more than block_size={block_size} + 1"
            )
