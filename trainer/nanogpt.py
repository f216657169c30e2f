"""nanoGPT's configuration file (karpathy/nanoGPT at 3adf61e, November 2025), read as data.

nanoGPT executes the file inside train.py's globals without checks, so a misspelt key silently trains the default.
Here the file is parsed with `ast` and never executed. It may assign literals, and arithmetic on literals, to the 33
keys that nanoGPT knows.
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Iterator
from pathlib import Path

from trainer.errors import ConfigError

Value = bool | int | float | str

DEFAULTS: dict[str, Value] = {
    "out_dir": "out",
    "eval_interval": 2000,
    "log_interval": 1,
    "eval_iters": 200,
    "eval_only": False,
    "always_save_checkpoint": True,
    "init_from": "scratch",
    "wandb_log": False,
    "wandb_project": "owt",
    "wandb_run_name": "gpt2",
    "dataset": "openwebtext",
    "gradient_accumulation_steps": 40,
    "batch_size": 12,
    "block_size": 1024,
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "dropout": 0.0,
    "bias": False,
    "learning_rate": 6e-4,
    "max_iters": 600000,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "grad_clip": 1.0,
    "decay_lr": True,
    "warmup_iters": 2000,
    "lr_decay_iters": 600000,
    "min_lr": 6e-5,
    "backend": "nccl",
    "device": "cuda",
    "dtype": "bfloat16",
    "compile": True,
}
"""The 33 keys with their defaults, in train.py's order. The type of the default is the type of the key."""

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_LARGEST_POWER = 64


def read_config(path: str | Path) -> dict[str, Value]:
    """Read a nanoGPT config file without executing it. Returns the keys it sets, in nanoGPT's types.

    Raises ConfigError with the file and line for anything but assignments of literals, or of arithmetic on literals,
    to keys that nanoGPT knows.
    """
    path = Path(path)
    settings: dict[str, Value] = {}
    for statement in _parse(path).body:
        where = f"{path}:{statement.lineno}"
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a docstring
        targets, value = _assignment(statement, where)
        for target in targets:
            if not isinstance(target, ast.Name):
                raise ConfigError(f"{where}: only 'key = value' lines are read; write the value out")
            settings[target.id] = _typed(target.id, _literal(value, where), where)
    return settings


def read_assignments(source: str) -> tuple[dict[str, Value], dict[int, str]]:
    """Read what a config's text sets, and pass over what can't be read: for a run that has already been trained.

    Values may also use names assigned above them. Returns the keys that nanoGPT knows, in nanoGPT's types, and for each
    line that was passed over its number, from 1, and the reason. Raises nothing.
    """
    settings: dict[str, Value] = {}
    passed: dict[int, str] = {}
    names: dict[str, Value] = {}
    for line, statement in _statements(source, passed):
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a docstring
        try:
            targets, value = _assignment(statement, "")
            number = _literal(_Known(names).visit(value), "")
        except ConfigError as error:
            passed[line] = str(error).removeprefix(": ")
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                names[target.id] = number
                try:
                    settings[target.id] = _typed(target.id, number, "")
                except ConfigError as error:
                    passed[line] = str(error).removeprefix(": ")
    return settings, passed


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


class _Known(ast.NodeTransformer):
    """Puts the values of known names in place of the names."""

    def __init__(self, names: dict[str, Value]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(self._names[node.id]) if node.id in self._names else node


def _parse(path: Path) -> ast.Module:
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    try:
        return ast.parse(source, filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        where = f"{path}:{line}" if line else str(path)
        raise ConfigError(f"{where}: is not a Python config file: {error}") from error


def _assignment(statement: ast.stmt, where: str) -> tuple[list[ast.expr], ast.expr]:
    """Return the targets and the value of an assignment. Raises ConfigError for another statement."""
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        return [statement.target], statement.value
    if isinstance(statement, ast.Assign):
        return statement.targets, statement.value
    raise ConfigError(
        f"{where}: only 'key = value' lines are read from a nanoGPT config, "
        f"and this is {_describe(statement)}; write the value out"
    )


def _describe(statement: ast.stmt) -> str:
    name = type(statement).__name__.lower()
    return {"import": "an import", "importfrom": "an import", "if": "an 'if'"}.get(name, f"a Python statement ({name})")


def _literal(node: ast.expr, where: str) -> Value:
    """Return the value of a literal or of arithmetic on literals. Raises ConfigError for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        number = _number(node.operand, where)
        return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _number(node.left, where), _number(node.right, where)
        if isinstance(node.op, ast.Pow) and abs(right) > _LARGEST_POWER:
            raise ConfigError(f"{where}: exponent {right} is above {_LARGEST_POWER}")
        try:
            result = _BINARY[type(node.op)](left, right)
        except (ArithmeticError, ValueError) as error:
            raise ConfigError(f"{where}: {ast.unparse(node)}: {error}") from error
        if isinstance(result, complex):
            raise ConfigError(f"{where}: {ast.unparse(node)} is not a real number")
        return result
    shown = ast.unparse(node)
    raise ConfigError(
        f"{where}: {shown[:60]!r} is neither a literal nor arithmetic on literals; "
        "a config is read as data and never executed; write its value"
    )


def _number(node: ast.expr, where: str) -> float:
    value = _literal(node, where)
    if isinstance(value, bool | str):
        raise ConfigError(f"{where}: arithmetic on {value!r}; only numbers can be computed with")
    return value


def _typed(key: str, value: Value, where: str) -> Value:
    """Return `value` in the type of nanoGPT's default. Raises ConfigError with the correct spelling."""
    if key not in DEFAULTS:
        near = difflib.get_close_matches(key, DEFAULTS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{where}: nanoGPT has no key {key!r} and would ignore it silently{hint}")
    expected = type(DEFAULTS[key])
    if type(value) is expected:
        return value
    if expected is float and type(value) is int:
        return float(value)
    remedy = f"write {key} = {int(value)}" if expected is int and _whole(value) else f"default: {DEFAULTS[key]!r}"
    raise ConfigError(
        f"{where}: {key} = {value!r} has the type {type(value).__name__}, not {expected.__name__} ({remedy})"
    )


def _whole(value: Value) -> bool:
    return isinstance(value, float) and value.is_integer()
