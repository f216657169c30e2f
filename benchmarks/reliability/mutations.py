"""Mutations of files and of plain values: what a disk, a network, an editor or a stranger makes of them.

All randomness comes from the `random.Random` that is passed in, so an input can be made again from its number.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 255, 65536, 2**31, 2**53, -(2**63), 2**64, 10**400),
    *(0.0, -0.0, 0.5, 1e-300, 1e308, float("inf"), float("-inf"), float("nan")),
    *("", "0", "-1", "nan", "x" * 300, "../../outside", "a\nb", "\x00", "\ud800", "<script>alert(1)</script>"),
    *([], {}, [1], {"a": 1}, [[]], b"", b"\xff"),
)
"""values that a reader may meet where it expects another"""
WORDS = (
    *("0", "-1", "1e400", "-inf", "nan", "NaN", "null", "true", "9" * 30, "9" * 5000, "1e-400", "0x10", "1_000"),
    *('""', "[]", "{}", "[" * 3000, "{" * 3000, "(" * 500, '{"a":' * 3000, "- " * 500, "&a [*a]", "*a", "<<: *a"),
    *("!!python/object/apply:os.system [id]", "\t", "\r\n", "\n", "\0", "\ufeff", "\u2028", "\x85", "\x1b[2J", "�"),
    *("../../etc/passwd", "<script>", "%s", "{}", "exec('1')", "import os", "x" * 20_000, "'", '"', "\\", ",", ":"),
)
"""texts that are put into a file of text"""
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def mutated(content: bytes, draw: random.Random, *, others: Sequence[bytes]) -> bytes:
    """Return a file with one to four mutations. `others` are files of its kind, of which it may get a part."""
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        content = draw.choice(_MUTATIONS)(content, draw, draw.choice(others))
    return content


def _place(content: bytes, draw: random.Random) -> int:
    return draw.randrange(len(content) + 1)


def _span(content: bytes, draw: random.Random) -> tuple[int, int]:
    """Return the ends of a part, usually a short one."""
    begin = _place(content, draw)
    return begin, min(len(content), begin + draw.choice((1, 2, 4, 8, 16, 64, 256, len(content))))


def _flip_a_bit(content: bytes, draw: random.Random, _: bytes) -> bytes:
    if not content:
        return b"\x01"
    changed = bytearray(content)
    changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _write_bytes(content: bytes, draw: random.Random, _: bytes) -> bytes:
    begin, end = _span(content, draw)
    written = draw.choice((b"\0", b"\xff", draw.randbytes(1))) * (end - begin)
    return content[:begin] + (written if draw.random() < 0.7 else draw.randbytes(end - begin)) + content[end:]


def _insert_bytes(content: bytes, draw: random.Random, _: bytes) -> bytes:
    place = _place(content, draw)
    return content[:place] + draw.randbytes(draw.choice((1, 2, 4, 8, 64))) + content[place:]


def _delete(content: bytes, draw: random.Random, _: bytes) -> bytes:
    begin, end = _span(content, draw)
    return content[:begin] + content[end:]


def _repeat(content: bytes, draw: random.Random, _: bytes) -> bytes:
    begin, end = _span(content, draw)
    return content[:begin] + content[begin:end] * draw.choice((2, 2, 3, 20)) + content[end:]


def _truncate(content: bytes, draw: random.Random, _: bytes) -> bytes:
    return content[: _place(content, draw)]


def _splice(content: bytes, draw: random.Random, other: bytes) -> bytes:
    begin, end = _span(other, draw)
    place = _place(content, draw)
    return content[:place] + other[begin:end] + content[place:]


def _change_a_number(content: bytes, draw: random.Random, _: bytes) -> bytes:
    numbers = list(_NUMBER.finditer(content))
    if not numbers:
        return _insert_a_word(content, draw, _)
    number = draw.choice(numbers)
    return content[: number.start()] + draw.choice(WORDS).encode() + content[number.end() :]


def _insert_a_word(content: bytes, draw: random.Random, _: bytes) -> bytes:
    place = _place(content, draw)
    return content[:place] + draw.choice(WORDS).encode() + content[place:]


def _swap_lines(content: bytes, draw: random.Random, _: bytes) -> bytes:
    lines = content.split(b"\n")
    one, two = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[one], lines[two] = lines[two], lines[one]
    return b"\n".join(lines)


_MUTATIONS: tuple[Callable[[bytes, random.Random, bytes], bytes], ...] = (
    *(_flip_a_bit, _write_bytes, _insert_bytes, _delete, _repeat, _truncate, _splice),
    *(_change_a_number, _change_a_number, _insert_a_word, _swap_lines),
)


def mutated_value(value: Any, draw: random.Random, *, odd: Sequence[Any] = ODD) -> Any:
    """Return a copy of plain dicts, lists and values with one to three changes: odd values, lost and foreign keys."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        value = _changed(value, draw, odd)
    return value


def _changed(value: Any, draw: random.Random, odd: Sequence[Any]) -> Any:
    if not isinstance(value, dict | list | tuple) or not value or draw.random() < 0.1:
        return draw.choice(odd)
    if isinstance(value, dict):
        key = draw.choice(list(value))
        match draw.randrange(10):
            case 0:
                return {name: inner for name, inner in value.items() if name is not key}
            case 1:
                return {**value, _key(draw, odd): draw.choice(odd)}
            case 2:
                return {_key(draw, odd) if name is key else name: inner for name, inner in value.items()}
        return {**value, key: _changed(value[key], draw, odd)}
    items = list(value)
    place = draw.randrange(len(items))
    match draw.randrange(10):
        case 0:
            del items[place]
        case 1:
            items.insert(place, draw.choice(odd))
        case _:
            items[place] = _changed(items[place], draw, odd)
    return type(value)(items)


def _key(draw: random.Random, odd: Sequence[Any]) -> Any:
    return draw.choice([value for value in odd if not isinstance(value, dict | list | bytes)])
