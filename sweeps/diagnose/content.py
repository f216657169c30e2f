"""The content of a log file as text. Binary files are refused by what they are."""

from __future__ import annotations

import codecs
from pathlib import Path

from sweeps.errors import LogError
from trainer.input_file import open_input

LARGEST = 64 * 2**20
"""bytes of a log that are read, a million lines: reading takes 20 times as much memory"""
_KINDS = (
    (b"PK\x03\x04", "is a zip archive, such as a PyTorch checkpoint, and no log"),
    (b"\x80\x02", "is a pickle, such as an old PyTorch checkpoint, and no log"),
    (b"\x1f\x8b", "is compressed with gzip; decompress it with gunzip first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; decompress it with unzstd first"),
    (b"PAR1", "is a parquet file and no log"),
    (b"SQLite format 3", "is an SQLite database and no log"),
    (b"\x89PNG", "is a picture and no log"),
)
_TENSORBOARD = b"brain.Event:"


def read_text(path: Path, *, expected: str) -> str:
    """Return a file's text. Bytes that aren't text become U+FFFD.

    Raises LogError with the file and `expected` if it can't be read, or is a folder, binary or larger than `LARGEST`.
    """
    if path.is_dir():
        raise LogError(f"{path} is a folder; give the log's file, {expected}")
    try:
        with open_input(path) as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise LogError(f"{path} cannot be read: {error.strerror or error}; expected {expected}") from error
    return text_of(data, name=str(path), expected=expected)


def text_of(data: bytes, *, name: str, expected: str) -> str:
    """Return bytes as text, like `read_text`. At least the first `LARGEST` + 1 must be given. Raises LogError."""
    if _TENSORBOARD in data[:64] or Path(name).name.startswith("events.out.tfevents"):
        raise LogError(
            f"{name} is a TensorBoard event file, which isn't read; download the validation loss as CSV in TensorBoard "
            f'and convert it: awk -F, \'NR > 1 {{ print "step " $2 ": val loss " $3 }}\' loss.csv > loss.log'
        )
    for begin, kind in _KINDS:
        if data.startswith(begin):
            raise LogError(f"{name} {kind}; expected {expected}")
    if len(data) > LARGEST:
        raise LogError(
            f"{name} has more than {LARGEST // 2**20} MiB, which is more than a log of a million lines; give its "
            "evaluations alone: grep -a '^step' LOG > evaluations.log"
        )
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    if data[1:200:2].count(0) > 0.8 * len(data[1:200:2]) > 0 and data[:200:2].count(0) < 0.2 * len(data[:200:2]):
        return data.decode("utf-16-le", errors="replace")
    return data.decode("utf-8-sig", errors="replace")
