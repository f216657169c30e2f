"""A strict reader of YAML 1.2 (core schema) whose errors name the line.

PyYAML alone reads `1e-4` as text and `no` as false, accepts duplicate keys silently and expands any number of aliases.
This reader uses PyYAML's scanner and parser, but not its resolver: plain scalars get their types from the core schema
of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema).
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
from trainer.input_file import read_input

YamlPath = tuple[str | int, ...]

MAX_CHARACTERS = 2**18
MAX_DEPTH = 32
MAX_VALUES = 20_000
"""Largest number of values with all aliases expanded: nine levels of ten aliases would be a billion."""

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NON_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document's value in plain Python (dict, list, str, int, float, bool, None) and its line numbers."""

    name: str
    value: Any
    lines: dict[YamlPath, int]
    """line number (from 1) of each key and list item, by path"""

    def line(self, path: YamlPath) -> int:
        """Return the line of the value at `path`, or of its nearest ancestor in the document."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read(path: str | Path) -> Document:
    """Load the YAML file at `path`. Raises ConfigError if it cannot be read, is not UTF-8 or is not YAML."""
    path = Path(path)
    try:
        raw = read_input(path, most=4 * MAX_CHARACTERS)  # UTF-8 takes at most four bytes for one
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
    names = [sibling.name for sibling in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""


def load(text: str, *, name: str) -> Document:
    """Load one YAML document. Errors begin with `name`, such as a file's path or an option.

    Anchors, aliases and merge keys are read, within bounds. Tags, duplicate keys, keys that are not text, and second
    documents are refused. `.inf` and `.nan` are read, so a caller that needs finite numbers must check them. Raises
    ConfigError, whose text begins with `name:line:`.
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
    converter = _Converter(name)
    return Document(name=name, value=converter.value(node, ()), lines=converter.lines)


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML's stages up to nodes: scalars stay text, the depth is bounded, and tags are refused."""

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
        return f"{where}: YAML is not indented with tabs; use spaces"
    if error.context == "expected a single document in the stream":
        return f"{where}: begins a second document; only one is read"
    return f"{where}: is not valid YAML: {problem}"


def _is_merge(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value == "<<"


_Entries = dict[str, tuple[yaml.Node, int]]


class _Converter:
    """Conversion of nodes to plain values. It records line numbers and counts values with aliases expanded."""

    def __init__(self, name: str) -> None:
        self.lines: dict[YamlPath, int] = {}
        self._name = name
        self._count = 0
        self._ancestors: list[yaml.Node] = []

    def value(self, node: yaml.Node, path: YamlPath) -> Any:
        """Return the plain value of a node at `path`."""
        self._count_value(node)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        with self._inside(node):
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            mapping: dict[str, Any] = {}
            for key, (item, line) in self._entries(node).items():
                self.lines[(*path, key)] = line
                mapping[key] = self.value(item, (*path, key))
            return mapping

    def _entries(self, node: yaml.Node) -> _Entries:
        """Return a mapping's keys, values and lines. Explicit keys win over merged keys, earlier merges over later."""
        explicit: _Entries = {}
        merged: _Entries = {}
        for key_node, item in node.value:
            self._count_value(key_node)
            if _is_merge(key_node):
                for source in item.value if isinstance(item, yaml.SequenceNode) else [item]:
                    merged = {**self._merged(source), **merged}
                continue
            key = self._key(key_node)
            if key in explicit:
                first_line = explicit[key][1]
                raise self._error(key_node, f"the key {key!r} appears twice, first at line {first_line}; keep one")
            explicit[key] = (item, key_node.start_mark.line + 1)
        return {**merged, **explicit}

    def _merged(self, source: yaml.Node) -> _Entries:
        """Return the entries of a mapping that `<<` merges."""
        if not isinstance(source, yaml.MappingNode):
            raise self._error(source, "'<<' merges mappings, and this is not one")
        with self._inside(source):
            self._count_value(source)
            return self._entries(source)

    def _key(self, node: Any) -> str:
        key = self._scalar(node) if isinstance(node, yaml.ScalarNode) else None
        if isinstance(key, str):
            return key
        shown = repr(node.value) if isinstance(node, yaml.ScalarNode) else f"(a {node.id})"
        raise self._error(node, f"the key {shown} is not text; quote it or write a name")

    def _count_value(self, node: yaml.Node) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._error(node, f"has more than {MAX_VALUES} values with its aliases written out")

    @contextmanager
    def _inside(self, node: yaml.Node) -> Iterator[None]:
        if any(node is ancestor for ancestor in self._ancestors):
            raise self._error(node, "an alias refers to a value that contains it")
        if len(self._ancestors) > MAX_DEPTH:  # aliases of aliases
            raise self._error(node, f"nests deeper than {MAX_DEPTH} levels")
        self._ancestors.append(node)
        yield
        self._ancestors.pop()

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        unprintable = _UNPRINTABLE.search(text)
        if unprintable:
            raise self._error(node, f"holds the character U+{ord(unprintable[0]):04X}; remove it")
        if node.style is not None:  # quoted text or a block
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
            raise self._error(node, f"{text[:24]} does not fit into 64 bits")
        return number

    def _error(self, node: yaml.Node, message: str) -> ConfigError:
        return ConfigError(f"{self._name}:{node.start_mark.line + 1}: {message}")
