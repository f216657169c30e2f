"""YAML 1.2 (core schema), read strictly: what a person meant, or an error that names the line.

PyYAML alone reads `1e-4` as text, `no` as false, takes duplicate keys silently and expands any
number of aliases. Its scanner and parser are used here and its resolver is not: plain scalars
are typed by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from trainer.errors import ConfigError

YamlPath = tuple[str | int, ...]

MAX_CHARACTERS = 2**18
MAX_DEPTH = 32
MAX_VALUES = 20_000
"""Values of a document with its aliases written out: nine levels of ten aliases are a billion."""

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NON_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document's value in plain Python (dict, list, str, int, float, bool, None) and its lines."""

    name: str
    value: Any
    lines: dict[YamlPath, int]
    """line (from 1) of each key and list item, by path"""

    def line(self, path: YamlPath) -> int:
        """Line of the value at `path`, or of the nearest thing around it that is in the document."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read(path: str | Path) -> Document:
    """Load the YAML file at `path`. Raises ConfigError for a file that cannot be read or is not UTF-8 or not YAML."""
    path = Path(path)
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        near = _nearest_sibling(path) if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"{path}: cannot be read: {reason}{near}") from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        kind = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "not UTF-8"
        raise ConfigError(f"{path}: is {kind} (byte {error.start}); save it as UTF-8") from error
    return load(text, name=str(path))


def _nearest_sibling(path: Path) -> str:
    names = [other.name for other in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""


def load(text: str, *, name: str) -> Document:
    """Load one YAML document; `name` (a file's path, an option) stands before the line in errors.

    Anchors, aliases and merge keys work within bounds; tags, duplicate keys, keys that are not
    text and more than one document do not. `.inf` and `.nan` are read: refuse them where numbers
    are used. Raises ConfigError, its text beginning with `name:line:`.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{name}: has {len(text)} characters; at most {MAX_CHARACTERS} are read")
    try:
        loader = _Loader(text, name)
        node = loader.get_single_node()
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}:{line}: holds the character U+{ord(text[error.position]):04X}; remove it") from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_explain(error, name)) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML lets "\UFFFFFFFF" reach chr()
        raise ConfigError(f"{name}: is not valid YAML: {error}") from error
    if node is None:
        return Document(name=name, value=None, lines={})
    reading = _Reading(name)
    return Document(name=name, value=reading.value(node, ()), lines=reading.lines)


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML up to nodes, with every scalar left as text, bounded in depth and without tags."""

    def __init__(self, text: str, name: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._name = name
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if getattr(event, "tag", None) is not None:
            raise ConfigError(f"{self._name}:{line}: the tag {event.tag!r} is not read; write the plain value")
        if self._depth > MAX_DEPTH:
            raise ConfigError(f"{self._name}:{line}: nests deeper than {MAX_DEPTH} levels")
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _explain(error: yaml.MarkedYAMLError, name: str) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{name}:{mark.line + 1}" if mark else name
    problem = error.problem or "cannot be parsed"
    if "'\\t'" in problem:
        return f"{where}: a tab is no indentation in YAML; use spaces"
    if error.context == "expected a single document in the stream":
        return f"{where}: begins a second document; one is read"
    return f"{where}: is not valid YAML: {problem}"


_Entries = dict[str, tuple[yaml.Node, int]]


class _Reading:
    """Nodes to plain values, noting lines and counting what aliases multiply."""

    def __init__(self, name: str) -> None:
        self.lines: dict[YamlPath, int] = {}
        self._name = name
        self._count = 0
        self._open: list[yaml.Node] = []

    def value(self, node: yaml.Node, path: YamlPath) -> Any:
        self._spend(node)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        with self._inside(node):
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            result: dict[str, Any] = {}
            for key, (item, line) in self._entries(node).items():
                self.lines[(*path, key)] = line
                result[key] = self.value(item, (*path, key))
            return result

    def _entries(self, node: yaml.Node) -> _Entries:
        """Keys, values and lines of a mapping; its own keys win over merged ones, the first merged over later."""
        own: _Entries = {}
        merged: _Entries = {}
        for key_node, item in node.value:
            self._spend(key_node)
            if isinstance(key_node, yaml.ScalarNode) and key_node.style is None and key_node.value == "<<":
                for source in item.value if isinstance(item, yaml.SequenceNode) else [item]:
                    if not isinstance(source, yaml.MappingNode):
                        raise self._error(source, "'<<' merges mappings, and this is none")
                    with self._inside(source):
                        self._spend(source)
                        merged = {**self._entries(source), **merged}
                continue
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                shown = repr(key_node.value) if isinstance(key_node, yaml.ScalarNode) else f"(a {key_node.id})"
                raise self._error(key_node, f"the key {shown} is not text; quote it or write a name")
            if key in own:
                raise self._error(key_node, f"the key {key!r} is there twice, first at line {own[key][1]}; keep one")
            own[key] = (item, key_node.start_mark.line + 1)
        return {**merged, **own}

    def _spend(self, node: yaml.Node) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._error(node, f"has more than {MAX_VALUES} values with its aliases written out")

    @contextmanager
    def _inside(self, node: yaml.Node) -> Iterator[None]:
        if any(node is other for other in self._open):
            raise self._error(node, "an alias stands inside what it repeats")
        if len(self._open) > MAX_DEPTH:  # aliases of aliases
            raise self._error(node, f"nests deeper than {MAX_DEPTH} levels")
        self._open.append(node)
        yield
        self._open.pop()

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        odd = _UNPRINTABLE.search(text)
        if odd:
            raise self._error(node, f"holds the character U+{ord(odd[0]):04X}; remove it")
        if node.style is not None:  # quoted or a block: text
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if _INT.fullmatch(text):
            return self._integer(node)
        if _FLOAT.fullmatch(text):
            return float(text)
        non_finite = _NON_FINITE.fullmatch(text)
        if non_finite:
            return float("nan") if non_finite[3] else float(f"{non_finite[1]}inf")
        return text

    def _integer(self, node: yaml.ScalarNode) -> int:
        text: str = node.value
        number = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if len(text) <= 64 else 2**63
        if not -(2**63) <= number < 2**63:
            raise self._error(node, f"{text[:24]} does not fit 64 bits")
        return number

    def _error(self, node: yaml.Node, message: str) -> ConfigError:
        return ConfigError(f"{self._name}:{node.start_mark.line + 1}: {message}")
