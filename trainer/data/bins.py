"""Bins: files of raw token ids, whose type and vocabulary nothing in them says.

nanoGPT writes uint16. Forks with a larger vocabulary write uint32, others what numpy or torch had at hand. The type is
recognised by the ids: it is the widest type in which all of them fit the vocabulary. Narrower ids read in a wider type
would be beyond it, unless every other token were 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.errors import DataError

DTYPES = ("uint8", "uint16", "uint32", "uint64")
"""types of tokens that can be read; an int64's ids are a uint64's"""
GPT2_PADDED = 50304
"""nanoGPT's vocabulary size without a meta.pkl: GPT-2's 50257 rounded up to a multiple of 64."""
NANOGPT = "uint16"

_LARGEST_VOCABULARY = 1 << 20  # four times the largest in use (Gemma's, 262 144)
_FEWEST = 16  # tokens from which a type can be told
_PIECES, _PIECE = 16, 1 << 18  # bytes looked at, from the beginning to the end
_LLMC = {20240520: "uint16", 20240801: "uint32"}  # magic numbers of llm.c, whose header has 256 int32
_BEGINNINGS = {
    b"\x93NUMPY": "is an .npy file of np.save, whose header would be read as tokens; write it with ids.tofile(path)",
    b"PK\x03\x04": "is a zip archive, such as torch.save or np.savez writes; write raw ids: ids.tofile(path)",
    b"\x1f\x8b": "is compressed with gzip; unpack it first (gunzip)",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; unpack it first (unzstd)",
    b"version https://git-lfs": "is a Git LFS pointer, not the file; fetch it: git lfs pull",
}


def check_beginning(path: Path, *, vocab_size: int) -> None:
    """Raise DataError for a file that is certainly no raw token ids: one with a header, compressed, or a text."""
    with path.open("rb") as file:
        head = file.read(4096)
    for beginning, words in _BEGINNINGS.items():
        if head.startswith(beginning):
            raise DataError(f"{path}: {words}")
    header = np.frombuffer(head[:12].ljust(12, b"\0"), dtype="<i4")
    magic, version, tokens = (int(number) for number in header)
    if magic in _LLMC and len(head) >= 1024:
        raise DataError(
            f"{path}: begins with the 1024-byte header of llm.c (magic number {magic}, version {version}, {tokens:,} "
            f"{_LLMC[magic]} tokens), which nanoGPT's bins don't have; cut it off: tail -c +1025 {path.name} > new.bin"
        )
    if vocab_size > 256 and _reads_as_text(head):  # of a smaller one, the bytes of a text may be the ids
        raise DataError(
            f"{path}: is text ({head[:40].decode(errors='ignore')!r}...), not token ids; tokenize it with nanoGPT's "
            "prepare.py, or name it as data.parquet after converting it"
        )


def _reads_as_text(head: bytes) -> bool:
    """Whether a file's beginning is readable text. Ids of uint16 hold zeros, control characters or invalid UTF-8."""
    if len(head) < 2 * _FEWEST:
        return False
    try:
        text = head[: len(head) - 4].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\r\n" for character in text)


def dtype_of(paths: Mapping[str, Path], *, vocab_size: int | None) -> str:
    """Return the type of the tokens in the bins of all splits.

    `vocab_size` is meta.pkl's; None: there is none, and the ids may be any tokenizer's. Raises DataError for ids that
    were cut to fit a type. In doubt it is nanoGPT's own, and whoever checks every id says what is wrong.
    """
    samples = [sample for sample in map(_sample, paths.values()) if len(sample)]
    sizes = [path.stat().st_size for path in paths.values()]
    known = GPT2_PADDED if vocab_size is None else vocab_size

    def fits(dtype: str) -> bool:
        width = np.dtype(dtype).itemsize
        enough = sum(map(len, samples)) >= _FEWEST * width and all(size % width == 0 for size in sizes)
        ids = [sample.view(dtype) for sample in samples]
        return enough and (_largest(ids) < known or (vocab_size is None and width > 2 and _of_a_large_vocabulary(ids)))

    wide = next((dtype for dtype in ("uint64", "uint32") if fits(dtype)), None)
    if wide is not None:
        return wide
    if fits("uint8") and (_single_bytes(samples) if vocab_size is None else known <= 256 and not fits(NANOGPT)):
        return "uint8"
    if known > 1 << 16 and fits(NANOGPT):
        raise DataError(
            f"{next(iter(paths.values()))}: holds {NANOGPT} ids, but meta.pkl says vocab_size={known}, and {NANOGPT} "
            "ends at 65535: larger ids were cut. Write the bins as uint32, or correct vocab_size"
        )
    return NANOGPT


def _sample(path: Path) -> npt.NDArray[np.uint8]:
    """Return evenly spaced pieces of a file, cut to whole tokens of every type."""
    if not path.stat().st_size:
        return np.empty(0, dtype=np.uint8)
    content = np.memmap(path, dtype=np.uint8, mode="r")
    if len(content) <= _PIECES * _PIECE:
        return np.asarray(content[: len(content) - len(content) % 8])
    step = (len(content) - _PIECE) // (_PIECES - 1) // 8 * 8
    return np.concatenate([content[at * step : at * step + _PIECE] for at in range(_PIECES)])


def _largest(ids: list[npt.NDArray[Any]]) -> int:
    return max(int(of_split.max()) for of_split in ids)


def _of_a_large_vocabulary(ids: list[npt.NDArray[Any]]) -> bool:
    """Whether ids are those of a large vocabulary in a wide type: below a million, and of many different low halves.

    uint16 ids below 16, read in pairs, have the first property too.
    """
    return _largest(ids) < _LARGEST_VOCABULARY and _largest([of_split & 0xFFFF for of_split in ids]) >= 256


def _single_bytes(samples: list[npt.NDArray[np.uint8]]) -> bool:
    """Whether tokens are single bytes below 128: then both bytes of a uint16 would be, and the upper isn't zero."""
    low, high = (_largest([sample[at::2] for sample in samples]) for at in (0, 1))
    return sum(map(len, samples)) >= 512 and low < 128 and 0 < high < 128
