"""A check that a value parsed from JSON has a type: the fields of a TypedDict or a dataclass, no more and no fewer."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from docs.json_objects import fields_of, is_object

_NUMBERS = {int: int, float: (int, float), str: str, bool: bool, types.NoneType: types.NoneType}


def has_fields(value: Any, kinds: tuple[type, ...], met: set[type], where: str = "") -> None:
    """Assert that `value` is an object with the fields of `kinds`. Adds every class of an object found to `met`."""
    met.update(kinds)
    fields = fields_of(kinds)
    assert isinstance(value, dict), where
    assert value.keys() == fields.keys(), (where, value.keys() ^ fields.keys())
    for name, hint in fields.items():
        has_type(value[name], hint, met, f"{where}.{name}")


def has_type(value: Any, hint: Any, met: set[type], where: str) -> None:
    """Assert that `value` has the type `hint`."""
    kind, inner = typing.get_origin(hint), [each for each in typing.get_args(hint) if each is not Ellipsis]
    if hint is Any:
        return
    if is_object(hint):
        has_fields(value, (hint,), met, where)
    elif kind is typing.Literal:
        assert value in inner, where
    elif kind in (types.UnionType, typing.Union):
        if value is None:
            assert types.NoneType in inner, where
        else:
            (other,) = (each for each in inner if each is not types.NoneType)
            has_type(value, other, met, where)
    elif isinstance(kind, type) and issubclass(kind, Mapping):
        assert isinstance(value, dict), where
        for name, each in value.items():
            has_type(each, inner[1], met, f"{where}.{name}")
    elif isinstance(kind, type) and issubclass(kind, Sequence):
        assert isinstance(value, list), where
        for index, each in enumerate(value):
            has_type(each, inner[0], met, f"{where}[{index}]")
    else:
        assert isinstance(value, _NUMBERS[hint]), (where, value)
        assert isinstance(value, bool) is (hint is bool), (where, value)
