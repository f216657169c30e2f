"""The vocabulary that nanoGPT keeps as meta.pkl beside its bins.

nanoGPT unpickles it, which can execute any code of its author's. Here an unpickler without classes reads it.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from trainer.errors import DataError
from trainer.input_file import read_input

NAME = "meta.pkl"

# pickle raises any of these for damaged input
_DAMAGED = (
    AssertionError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
_LARGEST = 64 << 20  # bytes; a character vocabulary takes a few KB


def read(path: Path) -> dict[str, Any]:
    """Return the content of a meta.pkl: a dict of plain values. Raises DataError, OSError."""
    remedy = "write it again with plain dicts, lists, text and numbers, as nanoGPT's prepare.py does"
    content = read_input(path, most=_LARGEST)
    try:
        for _ in pickletools.genops(content):
            pass  # checks every length in the pickle against the bytes present
        meta = _PlainUnpickler(io.BytesIO(content)).load()
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: refused: {error}. A pickle can run any code, so only plain values are read; {remedy}"
        ) from error
    except _DAMAGED as error:
        raise DataError(f"{path}: is not a pickle, or is damaged ({error!r}); {remedy}") from error
    if not isinstance(meta, dict):
        raise DataError(f"{path}: holds a {type(meta).__name__}, not a dict with vocab_size; {remedy}")
    return meta


def character_bytes(meta: Mapping[str, Any], vocab_size: int) -> npt.NDArray[np.int64] | None:
    """Return the UTF-8 bytes of each token if meta.pkl spells all of them (`itos` or `stoi`), else None."""
    itos = meta.get("itos")
    if isinstance(itos, (list, tuple)):
        itos = dict(enumerate(itos))
    if not isinstance(itos, dict):
        stoi = meta.get("stoi")
        found = stoi.items() if isinstance(stoi, dict) else ()
        itos = {index: text for text, index in found if type(index) is int}
    texts = [itos.get(index) for index in range(vocab_size)] if len(itos) >= vocab_size else []
    lengths = [len(text.encode("utf-8", "surrogatepass")) for text in texts if isinstance(text, str)]
    return np.array(lengths, dtype=np.int64) if len(lengths) == vocab_size else None


class _PlainUnpickler(pickle._Unpickler):
    """A reader of dicts, lists, tuples, text, numbers, bytes and None. Anything else would need to run code.

    Based on the unpickler written in Python: a damaged pickle makes the C version allocate gigabytes.
    """

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")
