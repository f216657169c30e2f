"""The data that a nanoGPT setting `dataset` names: a folder, looked for where nanoGPT and its users keep them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path


def folders_of(dataset: str, *, beside: Path | None, roots: Iterable[Path]) -> Iterator[Path]:
    """Yield where a data set may be: the path itself, NAME in `beside`, or data/NAME below each of `roots`."""
    name = Path(dataset).expanduser()
    if name.is_absolute():
        yield name
        return
    candidates = [] if beside is None else [beside / name]
    candidates += [root / "data" / name for root in roots]
    seen: set[Path] = set()
    for folder in candidates:
        if folder.resolve() not in seen:
            seen.add(folder.resolve())
            yield folder


def kind_of(folder: Path) -> str | None:
    """Return the key of a study's data for a folder: bin, or parquet. None: it holds neither."""
    if (folder / "train.bin").is_file():
        return "bin"
    return "parquet" if any(folder.glob("*.parquet")) else None
