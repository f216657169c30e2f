"""The house's rules, held over the syntax trees of its files: imports run downward, heavy ones where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("trainer", "sweeps")
    for path in sorted((ROOT / package).rglob("*.py"))
}
ORDER = (
    *(
        "errors",
        "paths",
        "signals",
        "text",
        "pruning",
        "pruner",
        "study",
        "workers",
        "store",
        "analysis",
        "engine",
        "verdict",
        "export",
    ),
    *("terminal", "report", "cli", "__main__"),
)
"""The rooms of sweeps. A file may import its own room and those that stand before it."""
APART = {
    ("verdict", "engine"),
    ("workers", "store"),
    ("study", "pruning"),
    ("terminal", "export"),
    ("report", "terminal"),
}
"""Rooms that import each other neither way."""
TRAINER = (
    "errors",
    "atomic",
    "nanogpt",
    "config",
    "schedule",
    "points",
    "strict_yaml",
    "data",
    "model",
    "machine",
    "run",
)
"""The rooms of trainer, in the same sense."""
WHO = {
    "optuna": ("study.space", "store", "pruning.pruner", "engine", "analysis.importance", "report.dashboard"),
    "sqlalchemy": ("store",),
    "plotly": ("report",),
    "torch": ("trainer.model", "trainer.run"),
}
"""Who may import a heavy library at the top of a file."""


def imported(path: Path, *, at_the_top_alone: bool = False) -> Iterator[str]:
    """Names of modules that a file imports, TYPE_CHECKING blocks left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in tree.body if at_the_top_alone else ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str:
    """`study` of sweeps.study.load; the file's own name at the top of a package."""
    return name.split(".")[1] if "." in name else ""


def rooms_of(name: str) -> set[str]:
    """Other rooms of its own package that a module imports."""
    package, own = name.split(".")[0], room_of(name)
    names = {other for other in imported(FILES[name]) if other in FILES and other.split(".")[0] == package}
    return {room_of(other) for other in names} - {own, ""}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("trainer.")])
def test_the_trainer_knows_nothing_of_sweeps_and_its_rooms_are_in_order(name: str) -> None:
    assert not [other for other in imported(FILES[name]) if other.split(".")[0] in ("sweeps", "optuna", "plotly")]
    if room_of(name) != "__main__":
        assert rooms_of(name) <= set(TRAINER[: TRAINER.index(room_of(name))])


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("sweeps.")])
def test_rooms_are_in_order(name: str) -> None:
    own = room_of(name)
    below = set(ORDER[: ORDER.index(own)])
    apart = {other for pair in APART if own in pair for other in pair}
    assert rooms_of(name) <= below - apart


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("sweeps.engine.planning")])
def test_planning_lies_below_the_engine(name: str) -> None:
    assert not [
        other
        for other in imported(FILES[name])
        if other in FILES and other.startswith("sweeps.engine.") and not other.startswith("sweeps.engine.planning")
    ]


@pytest.mark.parametrize("room", ["analysis", "verdict", "export", "report.figures"])
def test_results_are_read_as_records(room: str) -> None:
    """What judges and shows a study takes plain records; only the engine and the commands open its store."""
    for name, path in FILES.items():
        if name.startswith(f"sweeps.{room}."):
            assert {other for other in imported(path) if other.startswith("sweeps.store.") and other in FILES} <= {
                "sweeps.store.records"
            }, name


def test_there_are_no_circles() -> None:
    """Of imports at the top of files; a circle would hang on who is imported first."""
    below = {
        name: {other for other in imported(path, at_the_top_alone=True) if other in FILES} - {name}
        for name, path in FILES.items()
    }
    while below:
        leaves = {name for name, others in below.items() if not others & below.keys()}
        assert leaves, f"these import each other: {sorted(below)}"
        below = {name: others for name, others in below.items() if name not in leaves}


@pytest.mark.parametrize("library", WHO)
def test_few_rooms_know_a_heavy_library(library: str) -> None:
    allowed = {f"sweeps.{room}" if room.split(".")[0] in ORDER else room for room in WHO[library]}
    for name, path in FILES.items():
        if library in {other.split(".")[0] for other in imported(path, at_the_top_alone=library == "torch")}:
            assert any(f"{name}.".startswith(f"{room}.") for room in allowed), name


def test_the_pruning_rule_is_pure_and_its_pruner_serves_any_study() -> None:
    for name, path in FILES.items():
        if name.startswith("sweeps.pruning."):
            names = set(imported(path))
            own = {other for other in names if other in FILES}
            foreign = {other.split(".")[0] for other in names} - set(sys.stdlib_module_names) - {"__future__", "sweeps"}
            assert all(other.startswith("sweeps.pruning") for other in own), name
            assert foreign <= {"numpy", "scipy"} | ({"optuna"} if name.endswith(".pruner") else set()), name


HEAVY = ("torch", "optuna", "plotly", "scipy")
SLOW = ("torch", "scipy.stats", "plotly", "sklearn")


@pytest.mark.parametrize(
    ("module", "left_out"),
    [
        *(
            (name, HEAVY)
            for name in ("sweeps.cli", "sweeps.study.load", "sweeps.workers.worker", "sweeps.workers.launch")
        ),
        *((name, HEAVY) for name in ("trainer.config", "trainer.nanogpt", "trainer.data.prepare")),
        *((name, HEAVY) for name in ("trainer.machine.device", "trainer.machine.memory")),
        *((name, SLOW) for name in ("sweeps.engine.session", "sweeps.verdict.verdict", "sweeps.engine.planning.plan")),
        ("sweeps.store.locate", SLOW),
    ],
)
def test_modules_load_nothing_heavier_than_they_need(module: str, left_out: tuple[str, ...]) -> None:
    """A mistake in a study is told in half a second, and a verdict not after torch has loaded."""
    code = f"import sys, {module}; print(*(name for name in {left_out} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_importing_a_room_is_free() -> None:
    """An `__init__` is a docstring that says what the room is for."""
    for path in (file for file in FILES.values() if file.name == "__init__.py"):
        (statement,) = ast.parse(path.read_text(encoding="utf-8")).body
        assert isinstance(statement, ast.Expr), path
        assert isinstance(statement.value, ast.Constant), path
