"""Datasets on disk: a folder with `train.bin` and `val.bin`, which hold raw token ids.

Two kinds of folder can be opened: those that `trainer.data.prepare` writes, described by a `meta.json`, and those of
nanoGPT and its forks, with or without a `meta.pkl`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.data import meta_pkl
from trainer.data.bins import DTYPES, GPT2_PADDED, NANOGPT, check_beginning, dtype_of
from trainer.data.left_out import LeftOut
from trainer.errors import DataError
from trainer.input_file import check_input, read_input

SPLITS = ("train", "val")
META = "meta.json"
JOURNAL = "journal.jsonl"
"""Name of the record that a preparation keeps beside its unfinished bins. A folder that holds one is not ready."""
FORMAT = "plateau-sweep/1"
_CHUNK = 4 << 20  # tokens read at a time while scanning
_LARGEST_META = 1 << 20  # bytes; ours has 1 KB
_WHOLE = 64 << 20  # bytes; the fingerprint of a larger file covers samples only
_SAMPLES, _SAMPLE = 64, 1 << 20


@dataclass(frozen=True, kw_only=True)
class Split:
    """The contents of one split. None: not known, because nanoGPT's folders don't record it."""

    tokens: int
    documents: int | None
    bytes: int | None
    """UTF-8 bytes of the text, without the end-of-document tokens"""
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A checked folder of tokens."""

    path: Path
    """absolute path of the folder with train.bin and val.bin"""
    vocab_size: int
    """vocabulary size of the model, as nanoGPT would choose it"""
    dtype: str
    """type of the tokens in the bins: uint8, uint16, uint32 or uint64"""
    fingerprint: str
    """hex digest, equal for equal tokens and vocabulary"""
    train: Split
    val: Split
    eot: int | None = None
    """token after each document; None: not known, because nanoGPT's folders don't record it"""
    notes: tuple[str, ...] = ()
    """what a person should know about the data: what was assumed, and what was left out of it"""
    warnings: tuple[str, ...] = ()
    """what probably is not as the person wants it"""

    def tokens(self, split: str) -> np.memmap[Any, np.dtype[Any]]:
        """Map the token ids of "train" or "val": read only, 1-D, not loaded into memory. Raises DataError."""
        if split not in SPLITS:
            raise ValueError(f"split={split!r} is none of {', '.join(SPLITS)}")
        path = self.path / f"{split}.bin"
        try:
            return np.memmap(path, dtype=self.dtype, mode="r")
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be opened: {error}") from error

    @property
    def bytes_per_token(self) -> float | None:
        """UTF-8 bytes of text per token of the validation split; None: not known.

        A loss of L nats per token is L / (ln 2 x bytes_per_token) bits per byte, which is comparable between
        vocabularies.
        """
        return None if self.val.bytes is None else self.val.bytes / self.val.tokens


def file_states(dataset: Dataset) -> dict[Path, tuple[int, int, int] | None]:
    """Return what changes with each bin's content: its number, its size and the time of its last change. None: gone."""
    states: dict[Path, tuple[int, int, int] | None] = {}
    for split in SPLITS:
        path = dataset.path / f"{split}.bin"
        try:
            stat = path.stat()
        except OSError:
            states[path] = None
        else:
            states[path] = stat.st_ino, stat.st_size, stat.st_mtime_ns
    return states


def open_dataset(path: str | Path) -> Dataset:
    """Open and check a folder that `prepare` wrote, or an unchanged nanoGPT folder.

    In a folder with our `meta.json` only the sizes of the bins are checked. In a nanoGPT folder every token id is
    checked against the vocabulary size. The fingerprint there covers the sizes and contents of both bins; above 64 MiB
    it covers 64 evenly spaced samples of 1 MiB. Raises DataError.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {problem}; name the folder that holds train.bin and val.bin")
    try:
        meta = _read_meta(folder)
        return _open_nanogpt(folder) if meta is None else _open_prepared(folder, meta)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be read: {error.strerror or error}") from error


def _read_meta(folder: Path) -> dict[str, Any] | None:
    """Read our meta.json. Returns None for a folder that another program wrote."""
    path = folder / META
    try:
        meta = json.loads(read_input(path, most=_LARGEST_META))
    except FileNotFoundError:
        if (folder / JOURNAL).exists():
            raise DataError(
                f"{folder}: its preparation is running or was interrupted; prepare it again, and it will resume"
            ) from None
        return None
    except (RecursionError, ValueError) as error:
        raise DataError(f"{path}: is not JSON ({error}); delete the folder and prepare it again") from error
    if not isinstance(meta, dict) or "plateau-sweep" not in str(meta.get("format")):
        return None
    if meta["format"] != FORMAT:
        raise DataError(
            f"{path}: has the format {meta['format']!r}, but this version reads {FORMAT!r}; prepare it again"
        )
    return meta


def _open_prepared(folder: Path, meta: Mapping[str, Any]) -> Dataset:
    try:
        dtype, vocab_size = str(meta["dtype"]), _count(meta["vocab_size"])
        splits = {
            name: Split(
                tokens=_count(meta["splits"][name]["tokens"]),
                documents=_count(meta["splits"][name]["documents"]),
                bytes=_count(meta["splits"][name]["bytes"]),
                sha256=str(meta["splits"][name]["sha256"]),
            )
            for name in SPLITS
        }
        fingerprint, eot = str(meta["fingerprint"]), _count(meta["tokenizer"]["eot"])
        if eot >= vocab_size:
            raise ValueError(f"eot={eot} is not below vocab_size={vocab_size}")
        left_out = _left_out(meta, splits)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder / META}: is incomplete ({error!r}); delete the folder and prepare it again"
        ) from error
    if dtype not in DTYPES:
        raise DataError(f"{folder / META}: dtype={dtype!r} is none of {', '.join(DTYPES)}; prepare the folder again")
    for name, split in splits.items():
        tokens = _bin_size(folder, name, dtype)
        if tokens != split.tokens:
            raise DataError(
                f"{folder / name}.bin: holds {tokens} tokens, but {META} says {split.tokens}: the file has changed "
                "since it was prepared; delete the folder and prepare it again"
            )
    _check_unchanged(folder, splits)
    return Dataset(
        path=folder,
        vocab_size=vocab_size,
        dtype=dtype,
        fingerprint=fingerprint,
        train=splits["train"],
        val=splits["val"],
        eot=eot,
        notes=tuple(left_out.notes()),
        warnings=tuple(left_out.warnings()),
    )


def _count(value: Any) -> int:
    """Return a number of things as JSON holds it. Raises ValueError for anything else."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{value!r:.60} is not a whole number of at least 0")
    return value


def _left_out(meta: Mapping[str, Any], splits: Mapping[str, Split]) -> LeftOut:
    """Return what was left out. Raises AttributeError, KeyError, TypeError and ValueError."""
    known = meta.get("left_out_bytes")  # an older version didn't write it
    return LeftOut(
        kept=sum(split.documents or 0 for split in splits.values()),
        kept_bytes=sum(split.bytes or 0 for split in splits.values()),
        bytes=None if known is None else {reason: _count(known[reason]) for reason in ("short", "duplicate")},
        min_chars=_count(meta.get("options", {}).get("min_chars", 0)),
        **{reason: _count(number) for reason, number in meta.get("left_out", {}).items()},
    )


def _open_nanogpt(folder: Path) -> Dataset:
    paths = {name: folder / f"{name}.bin" for name in SPLITS}
    for path in paths.values():
        _check_exists(path)
    meta_path = folder / meta_pkl.NAME
    has_meta = meta_path.exists()
    meta = meta_pkl.read(meta_path) if has_meta else {"vocab_size": GPT2_PADDED}
    vocab_size = meta.get("vocab_size")
    if type(vocab_size) is not int or vocab_size < 1:
        raise DataError(f"{meta_path}: vocab_size={vocab_size!r} must be a whole number of at least 1")
    for path in paths.values():
        check_beginning(path, vocab_size=vocab_size)
    dtype = dtype_of(paths, vocab_size=vocab_size if has_meta else None)
    lengths = meta_pkl.character_bytes(meta, vocab_size)
    fingerprint = hashlib.sha256(f"nanogpt {vocab_size}{'' if dtype == NANOGPT else dtype}".encode())
    splits = {}
    for name, path in paths.items():
        tokens = _bin_size(folder, name, dtype)
        text_bytes = _scan(path, dtype, vocab_size, lengths, has_meta=has_meta)
        splits[name] = Split(tokens=tokens, documents=None, bytes=text_bytes, sha256=None)
        fingerprint.update(f" {name} {tokens} {sampled_sha256(path)}".encode())
    notes = () if dtype == NANOGPT else (f"the bins hold {dtype}, as their ids show; nanoGPT itself reads uint16",)
    return Dataset(
        path=folder,
        vocab_size=vocab_size,
        dtype=dtype,
        fingerprint=fingerprint.hexdigest(),
        train=splits["train"],
        val=splits["val"],
        notes=notes,
    )


def _check_exists(path: Path) -> None:
    """Raise DataError if a bin is missing, with the folders below that have one. Raises OSError for no plain file."""
    if path.exists():
        check_input(path)
        return
    below = token_folders(path.parent)
    hint = (
        f"name a folder below it: {', '.join(map(str, below))}"
        if below
        else "a data folder holds train.bin and val.bin"
    )
    raise DataError(f"{path}: no such file; {hint}")


def token_folders(folder: Path) -> list[Path]:
    """Return the folders up to two levels below `folder` that hold a train.bin, at most 8, sorted."""
    found = {path.parent for pattern in ("*/train.bin", "*/*/train.bin") for path in folder.glob(pattern)}
    return sorted(found)[:8]


def _check_unchanged(folder: Path, splits: Mapping[str, Split]) -> None:
    """Raise DataError for a bin that was written after its description and holds something else.

    Reading it takes seconds per gigabyte. So a bin that is older isn't read, and one that is newer, because the folder
    was copied, only once.
    """
    meta = folder / META
    described = meta.stat().st_mtime_ns
    newer = [name for name in SPLITS if (folder / f"{name}.bin").stat().st_mtime_ns > described]
    for name in newer:
        path = folder / f"{name}.bin"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != splits[name].sha256:
                raise DataError(
                    f"{path}: has changed since it was prepared (its sha256 is not that in {META}); put it back as it "
                    "was, or delete the folder and prepare it again"
                )
    if newer:
        with contextlib.suppress(OSError):  # a folder that can only be read is checked each time
            os.utime(meta)


def _bin_size(folder: Path, split: str, dtype: str) -> int:
    """Return the tokens in a split's file. Raises DataError if it is missing, empty or ends within a token."""
    path = folder / f"{split}.bin"
    _check_exists(path)
    size = path.stat().st_size
    width = np.dtype(dtype).itemsize
    if not size:
        raise DataError(f"{path}: is empty; prepare the data again")
    if size % width:
        raise DataError(
            f"{path}: is {size} bytes long, not a multiple of the {width} bytes of a {dtype} token: "
            "it was cut short or is not a token file; prepare the data again"
        )
    return size // width


def _scan(
    path: Path, dtype: str, vocab_size: int, lengths: npt.NDArray[np.int64] | None, *, has_meta: bool
) -> int | None:
    """Check every id against `vocab_size`, which a meta.pkl says, or else is nanoGPT's default. Raises DataError.

    Returns the bytes of the text, or None if `lengths`, the bytes of each token, is None.
    """
    text_bytes = 0
    with path.open("rb") as file:
        while (chunk := np.fromfile(file, dtype=dtype, count=_CHUNK)).size:
            largest = int(chunk.max())
            if largest >= vocab_size:
                origin, remedy = (
                    f"nanoGPT's default without a {meta_pkl.NAME}",
                    (
                        "write the vocabulary's size beside the bins: "
                        "python -c \"import pickle; pickle.dump({'vocab_size': SIZE}, open('meta.pkl', 'wb'))\""
                    ),
                )
                if has_meta:
                    origin = meta_pkl.NAME
                    remedy = "the bins and meta.pkl belong to different vocabularies; prepare them together"
                raise DataError(
                    f"{path}: holds the {dtype} token id {largest}, but vocab_size={vocab_size} ({origin}): {remedy}"
                )
            if lengths is not None:
                text_bytes += int(lengths[chunk].sum())
    return None if lengths is None else text_bytes


def sampled_sha256(path: Path) -> str:
    """Return the sha256 of a file's size and contents.

    Above 64 MiB it covers 64 evenly spaced samples of 1 MiB, from the beginning to the end.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= _WHOLE:
            while block := file.read(_SAMPLE):
                digest.update(block)
        else:
            for index in range(_SAMPLES):
                file.seek((size - _SAMPLE) * index // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
