"""Files that hold text, or stand for it, but are no parquet: what they are, and the command that converts them."""

from __future__ import annotations

import re
from pathlib import PurePath

_LFS = b"version https://git-lfs.github.com/spec/"
_PACKED = r"(?:\.(?:gz|bz2|zst))?"  # pyarrow unpacks these itself
_PYARROW = "python -c \"import pyarrow.{module} as r, pyarrow.parquet as p; p.write_table(r.{call}, '{new}')\""
_TEXT = (
    "python -c \"import pyarrow as a, pyarrow.parquet as p; t = open('{old}', encoding='utf-8').read(); "
    "p.write_table(a.table({{'text': [t[i:i+10000] for i in range(0, len(t), 10000)]}}), '{new}')\""
)
_FORMATS = {
    rf"\.(?:jsonl|ndjson|json){_PACKED}$": (
        "a file of JSON lines",
        _PYARROW.format(module="json", call="read_json('{old}')", new="{new}"),
    ),
    rf"\.csv{_PACKED}$": ("a CSV file", _PYARROW.format(module="csv", call="read_csv('{old}')", new="{new}")),
    r"\.(?:txt|text)$": ("a text file", _TEXT),
    r"\.arrow$": (
        "an Arrow file",
        _PYARROW.format(module="ipc", call="open_stream(open('{old}', 'rb')).read_all()", new="{new}"),
    ),
}
"""formats by the end of a file's name: their names, and the command that makes parquet of them"""


def conversion(name: str) -> str | None:
    """Say what a file is, by its name, and how to convert it. None: parquet, or unknown."""
    for ending, (words, command) in _FORMATS.items():
        if re.search(ending, name, flags=re.IGNORECASE):
            new = re.sub(ending, "", PurePath(name).name, flags=re.IGNORECASE) + ".parquet"
            return f"{words} can't be read; convert it to parquet: {command.format(old=name, new=new)}"
    return None


def pointer(head: bytes) -> str | None:
    """Say that a file's beginning is that of a Git LFS pointer; None: it isn't."""
    if not head.startswith(_LFS):
        return None
    return "is a Git LFS pointer of 130 bytes or so, not the file itself; fetch it: git lfs pull"
