"""nanoGPT's configuration file, read as data.

nanoGPT executes the file inside train.py's globals without checks, so a misspelt key silently trains the default.
Here the file is parsed with `ast` and never executed. What can be computed from literals, from names assigned above and
from nanoGPT's defaults is read (`trainer.expressions`). The rest is named: a key that isn't read, a name that nanoGPT
has not, a line that is passed over. Who reads decides what matters.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainer.errors import ConfigError
from trainer.expressions import Constant, Unknown, evaluate, source_of
from trainer.input_file import read_input
from trainer.nanogpt import DEFAULTS, Value, misspelt, typed

_SETS_ANYTHING = ("exec", "globals", "locals", "vars", "setattr")
_BOM = "\ufeff"
LARGEST = 2**18
"""bytes of a config that are read; nanoGPT's own have 1 KB"""


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A value that can't be read."""

    line: int
    source: str
    """the value as it is written, cut to a line"""
    why: str


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a config sets."""

    settings: dict[str, Value] = field(default_factory=dict)
    """nanoGPT's keys, in the types of their defaults"""
    unread: dict[str, Unread] = field(default_factory=dict)
    """nanoGPT's keys whose value can't be read, or has another type than nanoGPT's"""
    others: dict[str, str] = field(default_factory=dict)
    """names that nanoGPT has not and that no other line uses, with their values as written"""
    passed: dict[int, str] = field(default_factory=dict)
    """statements that are passed over, by line"""
    wrong: dict[int, str] = field(default_factory=dict)
    """misspelt keys, and statements that could set any key, by line, with the remedy"""
    lines: dict[str, int] = field(default_factory=dict)
    """the line of each name that is assigned, the last one where there are several"""

    @property
    def remarks(self) -> dict[int, str]:
        """Whatever is not read, by line."""
        others = {self.lines[name]: f"nanoGPT has no key {name!r}" for name in self.others}
        unread = {value.line: f"{key}: {value.why}" for key, value in self.unread.items()}
        return dict(sorted((self.passed | others | unread | self.wrong).items()))


def read_config(path: str | Path, *, needed: Iterable[str] = tuple(DEFAULTS)) -> dict[str, Value]:
    """Read a nanoGPT config file without executing it. Returns the keys it sets, in nanoGPT's types.

    Raises ConfigError with file and line for every misspelt key, and for each key of `needed` that can't be read.
    """
    reading = read_file(path)
    needed = set(needed)
    mistakes = reading.wrong | {
        value.line: f"{key}: {value.why}" for key, value in reading.unread.items() if key in needed
    }
    if mistakes:
        raise ConfigError("\n".join(f"{path}:{line}: {text}" for line, text in sorted(mistakes.items())))
    return reading.settings


def read_file(path: str | Path) -> Reading:
    """Read a config file without executing it. Raises ConfigError for a file that is not a text in Python."""
    path = Path(path)
    try:
        source = read_input(path, most=LARGEST).decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if source.startswith(_BOM):
        raise ConfigError(
            f"{path}:1: begins with a byte-order mark (U+FEFF), which nanoGPT refuses as well; "
            "save the file as UTF-8 without a byte-order mark"
        )
    try:
        tree = ast.parse(source, filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        where = f"{path}:{line}" if line else str(path)
        raise ConfigError(f"{where}: is not a Python config file: {getattr(error, 'msg', error)}") from error
    return _Reader().read((statement.lineno, statement) for statement in tree.body)


def read_text(source: str) -> Reading:
    """Read a config's text, from a log perhaps, whose lines that aren't Python are passed over. Raises nothing."""
    passed: dict[int, str] = {}
    reading = _Reader().read(_statements(source, passed))
    reading.passed.update(passed)
    return reading


def _statements(source: str, passed: dict[int, str]) -> Iterator[tuple[int, ast.stmt]]:
    """Yield the statements with their lines; line by line where the whole isn't Python. Other lines go to `passed`."""
    try:
        yield from ((statement.lineno, statement) for statement in ast.parse(source).body)
        return
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    for number, line in enumerate(source.splitlines(), start=1):
        try:
            yield from ((number, statement) for statement in ast.parse(line.strip()).body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            passed[number] = f"{line.strip()[:60]!r} is not a line of a Python config"


class _Reader:
    """Reads statements in their order, as nanoGPT would execute them in train.py's globals."""

    def __init__(self) -> None:
        # dtype's default depends on the machine
        self._names: dict[str, Constant | Unknown] = {**DEFAULTS, "dtype": Unknown.UNKNOWN}
        self._sources: dict[str, Unread] = {}
        self._used: set[str] = set()
        self._reading = Reading()

    def read(self, statements: Iterable[tuple[int, ast.stmt]]) -> Reading:
        """Return what the statements set."""
        for line, statement in statements:
            self._statement(statement, line)
        for name, value in self._sources.items():
            if name not in DEFAULTS and name not in self._used:
                self._unknown(name, value)
        return self._reading

    def _unknown(self, name: str, value: Unread) -> None:
        near = misspelt(name)
        if near is None:
            self._reading.others[name] = value.source
        else:
            self._reading.wrong[value.line] = (
                f"nanoGPT has no key {name!r} and would ignore it silently; did you mean {near}?"
            )

    def _statement(self, statement: ast.stmt, line: int) -> None:
        match statement:
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                return  # a docstring
            case ast.Assign(targets=targets, value=value) if all(_pairs(target, value) for target in targets):
                for name, part in [pair for target in targets for pair in _pairs(target, value)]:
                    self._assign(name, part, line)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                self._assign(name, value, line)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                self._assign(name, ast.BinOp(ast.Name(name, ast.Load()), op, value), line)
            case ast.If(test=test, body=body, orelse=otherwise):
                self._if(statement, body, otherwise, test)
            case _:
                self._pass_over(statement)

    def _assign(self, name: str, value: ast.expr, line: int) -> None:
        self._used |= {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
        try:
            known = evaluate(value, self._names)
        except ConfigError as error:
            self._forget(name, line, source_of(value), why=str(error))
            return
        self._names[name], self._sources[name] = known, Unread(line=line, source=source_of(value), why="")
        self._reading.lines[name] = line
        self._reading.unread.pop(name, None)
        if name in DEFAULTS:
            try:
                self._reading.settings[name] = typed(name, known)
            except ConfigError as error:
                self._reading.settings.pop(name, None)
                self._reading.unread[name] = Unread(line=line, source=source_of(value), why=str(error))

    def _forget(self, name: str, line: int, source: str, *, why: str) -> None:
        """Note that a name's value isn't known from here on."""
        self._names[name] = Unknown.UNKNOWN
        self._reading.settings.pop(name, None)
        self._reading.lines[name] = line
        self._sources[name] = Unread(line=line, source=source, why=why)
        if name in DEFAULTS:
            self._reading.unread[name] = self._sources[name]

    def _if(self, statement: ast.If, body: list[ast.stmt], otherwise: list[ast.stmt], test: ast.expr) -> None:
        self._used |= {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
        try:
            taken = body if evaluate(test, self._names) else otherwise
        except ConfigError:
            self._pass_over(statement)
            return
        for inner in taken:
            self._statement(inner, inner.lineno)

    def _pass_over(self, statement: ast.stmt) -> None:
        """Note a statement that isn't read, and forget the names that it may set."""
        line, shown = statement.lineno, source_of(statement)
        self._reading.passed[line] = f"{shown!r} sets nothing that can be read"
        if _may_set_anything(statement):
            self._reading.wrong[line] = f"{shown!r} could set any key, and nothing is executed; write the settings out"
        for name in _bound(statement):
            imported = isinstance(statement, ast.Import | ast.ImportFrom)
            why = f"{shown!r} would have to be executed, and a config is read as data; write its value"
            self._forget(name, line, shown, why=why)
            if imported:
                self._used.add(name)  # no setting of a fork


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[str, ast.expr]]:
    """Return what an assignment assigns to which name. Empty: it assigns to something else than names."""
    match target, value:
        case ast.Name(id=name), _:
            return [(name, value)]
        case ast.Tuple(elts=names), ast.Tuple(elts=values) if len(names) == len(values):
            pairs = [(one.id, part) for one, part in zip(names, values, strict=True) if isinstance(one, ast.Name)]
            read = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
            return pairs if len(pairs) == len(names) and not read & {name for name, _ in pairs} else []
    return []


def _bound(statement: ast.stmt) -> list[str]:
    """Return the names that a statement may set in the config's globals."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in statement.names if alias.name != "*"]
    inside = list(ast.walk(statement))
    declared = [name for node in inside if isinstance(node, ast.Global) for name in node.names]
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name, *declared]
    stored = [node.id for node in inside if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)]
    return list(dict.fromkeys((*stored, *declared)))


def _may_set_anything(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names):
        return True
    return any(isinstance(node, ast.Name) and node.id in _SETS_ANYTHING for node in ast.walk(statement))
