"""The process that opens footers of parquet files first. It imports pyarrow only; `parquet_probe` starts it.

It reads pairs of a length (8 bytes, little-endian) and a footer, and answers each footer that it survives with a line.
An error that Arrow raises counts as survived: whoever opens the file next meets it again, and can say what it is.
"""

import contextlib
import io
import struct
import sys

import pyarrow.parquet as pq


def walk(footer: bytes) -> None:
    """Open a footer and look at everything in it: Arrow parses the metadata of a column only when asked for it."""
    metadata = pq.ParquetFile(io.BytesIO(b"PAR1" + footer)).metadata
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            column.to_dict()


def main() -> None:
    """Answer footers until there are no more."""
    while head := sys.stdin.buffer.read(8):
        footer = sys.stdin.buffer.read(*struct.unpack("<q", head))
        with contextlib.suppress(Exception):  # damaged metadata raises whatever it leads to
            walk(footer)
        print("survived", flush=True)


if __name__ == "__main__":
    main()
