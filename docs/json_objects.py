"""The objects that commands print with `--json`, read from the classes that the code makes them with."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import sys
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sweeps import outputs
from sweeps.diagnose.as_json import DiagnosisJson, EarlierJson
from sweeps.engine.planning.plan import Plan
from sweeps.store.records import DataFacts
from sweeps.tables.as_json import JudgeJson

Kinds = tuple[type, ...]
COMMANDS: Mapping[str, Kinds] = {
    "run": (outputs.StudyJson,),
    "confirm": (outputs.StudyJson,),
    "plan": (Plan, outputs.PlanMoreJson),
    "prepare": (DataFacts,),
    "status": (outputs.StatusJson,),
    "verdict": (outputs.FoundJson,),
    "report": (outputs.ReportJson,),
    "export": (outputs.ExportJson,),
    "diagnose": (DiagnosisJson, EarlierJson),
    "judge": (JudgeJson,),
    "dashboard": (outputs.DashboardJson,),
    "init": (outputs.InitJson,),
}
"""the object of each command with `--json`: a TypedDict or a dataclass, or the fields of several together"""
_WORDS = {bool: "true or false", int: "integer", float: "number", str: "string", types.NoneType: "null", Any: "any"}


def page() -> str:
    """Return a table of the commands, then the fields of each object."""
    rows = ["| command | object |", "|---|---|"]
    rows += [f"| `sweep {command} --json` | {_type(kinds[0])} |" for command, kinds in COMMANDS.items()]
    return "\n\n".join(["\n".join(rows), *map(_section, every_object())])


def every_object() -> list[Kinds]:
    """Return the objects of all commands, then those within them, each once."""
    found = list(dict.fromkeys(COMMANDS.values()))
    for kinds in found:  # which grows meanwhile
        within = [kind for hint in fields_of(kinds).values() for kind in _objects_in(hint)]
        found += [(kind,) for kind in dict.fromkeys(within) if (kind,) not in found]
    return found


def fields_of(kinds: Kinds) -> Mapping[str, Any]:
    """Return the types of an object's fields by name."""
    return {name: hint for kind in kinds for name, hint in typing.get_type_hints(kind).items()}


def words_of(kind: type) -> dict[str, str]:
    """Return the words of a class's fields: the string below a field, or else the comment above it.

    Fields without a class body, as those called `from`, have theirs in Annotated.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    words = {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}
    lines = textwrap.dedent(inspect.getsource(kind)).splitlines()
    (body,) = ast.parse("\n".join(lines)).body
    assert isinstance(body, ast.ClassDef)
    for base in body.bases:
        above = vars(sys.modules[kind.__module__])[ast.unparse(base)]
        if above.__module__ == kind.__module__ and above.__name__.isidentifier() and not above.__name__.startswith("_"):
            words |= words_of(above)
    for field, below in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            is_string = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            words[field.target.id] = str(below.value.value) if is_string else _comment_above(lines, field.lineno - 1)
    return words


def _comment_above(lines: Sequence[str], line: int) -> str:
    above = itertools.takewhile(lambda text: text.lstrip().startswith("#"), reversed(lines[:line]))
    return " ".join(text.strip(" #") for text in [*above][::-1])


def _section(kinds: Kinds) -> str:
    words = {name: text for kind in kinds for name, text in words_of(kind).items()}
    rows = ["| field | type | meaning |", "|---|---|---|"]
    rows += [
        f"| `{name}` | {_type(hint)} | {_cell(words[name]).replace('None', 'null')} |"
        for name, hint in fields_of(kinds).items()
    ]
    about = " ".join((kinds[0].__doc__ or "").split()).replace("None", "null")
    return f"## {title(kinds[0])}\n\n{textwrap.fill(about, 120)}\n\n" + "\n".join(rows)


def title(kind: type) -> str:
    """Return an object's name on the page."""
    return kind.__name__.removesuffix("Json")


def is_object(hint: Any) -> bool:
    """Whether a type is that of an object with known fields."""
    return typing.is_typeddict(hint) or (isinstance(hint, type) and dataclasses.is_dataclass(hint))


def _objects_in(hint: Any) -> Iterator[type]:
    if is_object(hint):
        yield hint
    for inner in typing.get_args(hint):
        yield from _objects_in(inner)


def _type(hint: Any) -> str:
    """Return a type in the words of JSON; objects with known fields are links."""
    kind, inner = typing.get_origin(hint), [each for each in typing.get_args(hint) if each is not Ellipsis]
    if is_object(hint):
        return f"[{title(hint)}](#{title(hint).lower()})"
    if kind is typing.Literal:
        return ", ".join(f"`{each}`" for each in inner)
    if kind in (types.UnionType, typing.Union):
        return " or ".join(map(_type, inner))
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "object" if inner[1] is Any else f"object of {_type(inner[1])}"
    if isinstance(kind, type) and issubclass(kind, Sequence):
        return f"list of {_type(inner[0])}"
    return _WORDS[hint]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
