"""Expressions of a Python config, computed without executing it: literals, names with known values, arithmetic,
comparisons, conditional expressions, f-strings, and a few builtins on these.

Anything else is refused with the reason. Results are small by construction, so no config can exhaust time or memory.
"""

from __future__ import annotations

import ast
import enum
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from trainer.errors import ConfigError

Constant = bool | int | float | str | None


class Unknown(enum.Enum):
    """The value of a name that is assigned and can't be read."""

    UNKNOWN = enum.auto()


Names = Mapping[str, Constant | Unknown]

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_BUILTINS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (abs, bool, float, int, max, min, round, str)
}
_CONVERSIONS: dict[int, Callable[[Any], str]] = {
    -1: lambda value: value,
    ord("s"): str,
    ord("r"): repr,
    ord("a"): ascii,
}
_LARGEST_POWER = 64
_MOST_BITS = 1024
_LONGEST = 10_000
"""characters of a text"""
_SHOWN = 60


def evaluate(node: ast.expr, names: Names) -> Constant:
    """Return the value of an expression in which `names` are known. Raises ConfigError, without a place."""
    try:
        return _value(node, names)
    except RecursionError:
        raise ConfigError("is nested too deeply to be read; write its value") from None


def source_of(node: ast.AST) -> str:
    """Return an expression or statement as text, cut to a line."""
    try:
        text = " ".join(ast.unparse(node).split())
    except RecursionError:
        return "..."
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _value(node: ast.expr, names: Names) -> Constant:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.Name(id=name) if not isinstance(known := names.get(name, Unknown.UNKNOWN), Unknown):
            return known
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, names)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _short(_computed(_UNARY[type(op)], node, _number(operand, names)))
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _BINARY:
            return _binary(node, _value(left, names), _value(right, names))
        case ast.Compare():
            return _compared(node, names)
        case ast.BoolOp(op=op, values=values):
            return _any_or_all(values, names, stops_at=isinstance(op, ast.Or))
        case ast.IfExp(test=test, body=body, orelse=otherwise):
            return _value(body if _value(test, names) else otherwise, names)
        case ast.JoinedStr(values=parts):
            return _short("".join(str(_value(part, names)) for part in parts))
        case ast.FormattedValue():
            return _formatted(node, names)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _BUILTINS and name not in names:
            return _short(_computed(_BUILTINS[name], node, *(_value(argument, names) for argument in arguments)))
    raise _unreadable(node)


def _unreadable(node: ast.expr) -> ConfigError:
    shown = source_of(node)
    if isinstance(node, ast.Name):
        return ConfigError(f"{shown!r} has no value that can be read above this line; write its value")
    return ConfigError(f"{shown!r} would have to be executed, and a config is read as data; write its value")


def _number(node: ast.expr, names: Names) -> float:
    value = _value(node, names)
    if not isinstance(value, int | float):
        raise ConfigError(f"arithmetic on {value!r}; only numbers can be computed with")
    return value


def _binary(node: ast.BinOp, left: Constant, right: Constant) -> Constant:
    if isinstance(left, str) and isinstance(right, str) and isinstance(node.op, ast.Add):
        return _short(left + right)
    for value in (left, right):
        if not isinstance(value, int | float):
            raise ConfigError(f"arithmetic on {value!r}; only numbers can be computed with")
    if isinstance(node.op, ast.Pow) and isinstance(right, int | float) and abs(right) > _LARGEST_POWER:
        raise ConfigError(f"exponent {right} is above {_LARGEST_POWER}")
    result = _computed(_BINARY[type(node.op)], node, left, right)
    if isinstance(result, complex):
        raise ConfigError(f"{source_of(node)} is not a real number")
    return _short(result)


def _computed(function: Callable[..., Any], node: ast.expr, *values: Constant) -> Any:
    try:
        return function(*values)
    except (ArithmeticError, ValueError, TypeError) as error:
        raise ConfigError(f"{source_of(node)}: {error}") from error


def _short(value: Any) -> Constant:
    """Return a result that is small enough to compute with. Raises ConfigError."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ConfigError(f"a number of {value.bit_length()} bits is above {_MOST_BITS}")
    if isinstance(value, str) and len(value) > _LONGEST:
        raise ConfigError(f"a text of {len(value)} characters is above {_LONGEST}")
    result: Constant = value
    return result


def _compared(node: ast.Compare, names: Names) -> bool:
    left = _value(node.left, names)
    for op, right_node in zip(node.ops, node.comparators, strict=True):
        right = _value(right_node, names)
        if isinstance(op, ast.In | ast.NotIn) and isinstance(left, str) and isinstance(right, str):
            holds = (left in right) is isinstance(op, ast.In)
        elif type(op) in _COMPARED:
            holds = bool(_computed(_COMPARED[type(op)], node, left, right))
        else:
            raise _unreadable(node)
        if not holds:
            return False
        left = right
    return True


def _any_or_all(values: list[ast.expr], names: Names, *, stops_at: bool) -> Constant:
    value: Constant = None
    for part in values:
        value = _value(part, names)
        if bool(value) is stops_at:
            break
    return value


def _formatted(node: ast.FormattedValue, names: Names) -> str:
    value = _CONVERSIONS[node.conversion](_value(node.value, names))
    spec = "" if node.format_spec is None else str(_value(node.format_spec, names))
    if re.search(r"\d{4}", spec):
        raise ConfigError(f"the format {spec!r} is too wide")
    return str(_computed(format, node, value, spec))
