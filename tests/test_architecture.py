"""Imports, read from the syntax trees: they run downward between rooms, and heavy libraries stay in their rooms."""

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
    *("errors", "paths", "signals", "streams", "text", "outputs", "pruning", "pruner", "study", "workers", "store"),
    *("arrow", "diagnose", "analysis", "tables", "engine", "verdict", "export", "terminal", "report"),
    *("api", "commands", "cli", "__main__"),
)
"""rooms of sweeps; a file may import its own room and the rooms before it"""
INDEPENDENT = (
    {"verdict", "engine"},
    {"workers", "store"},
    {"diagnose", "store"},
    {"diagnose", "workers"},
    {"study", "pruning"},
    {"terminal", "export"},
    {"report", "terminal"},
)
"""pairs of rooms that don't import each other"""
TRAINER = (
    *(
        "errors",
        "atomic",
        "input_file",
        "nanogpt",
        "expressions",
        "config_file",
        "config",
        "schedule",
        "points",
        "strict_yaml",
        "digest",
        "data",
        "model",
        "machine",
    ),
    "run",
)
"""rooms of trainer, in the same order"""
IMPORTERS = {
    "optuna": ("study.space", "store", "pruning.pruner", "engine", "analysis.importance", "report.dashboard"),
    "sqlalchemy": ("store",),
    "plotly": ("report",),
    "torch": ("trainer.model", "trainer.run"),
}
"""rooms and files that may import a heavy library; for torch, at the top of a file"""


def imported(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    """Yield the names of the modules that a file imports, without those in TYPE_CHECKING blocks."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in tree.body if top_level_only else ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str:
    """Return a module's room: `study` for sweeps.study.load, and `text` for sweeps.text."""
    return name.split(".")[1] if "." in name else ""


def rooms_of(name: str) -> set[str]:
    """Return the other rooms of its package that a module imports."""
    package = name.split(".")[0]
    names = {other for other in imported(FILES[name]) if other in FILES and other.split(".")[0] == package}
    return {room_of(other) for other in names} - {room_of(name), ""}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("trainer.")])
def test_the_trainer_imports_nothing_of_sweeps_and_its_rooms_import_downward(name: str) -> None:
    assert not [other for other in imported(FILES[name]) if other.split(".")[0] in ("sweeps", "optuna", "plotly")]
    if room_of(name) != "__main__":
        assert rooms_of(name) <= set(TRAINER[: TRAINER.index(room_of(name))])


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("sweeps.")])
def test_rooms_import_downward(name: str) -> None:
    room = room_of(name)
    below = set(ORDER[: ORDER.index(room)])
    assert rooms_of(name) <= below.difference(*(pair for pair in INDEPENDENT if room in pair))


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("sweeps.engine.planning")])
def test_planning_imports_nothing_else_of_the_engine(name: str) -> None:
    assert not [
        other
        for other in imported(FILES[name])
        if other in FILES and other.startswith("sweeps.engine.") and not other.startswith("sweeps.engine.planning")
    ]


@pytest.mark.parametrize("room", ["analysis", "verdict", "export", "report.figures"])
def test_rooms_that_judge_and_show_results_import_records_and_not_the_store(room: str) -> None:
    for name, path in FILES.items():
        if name.startswith(f"sweeps.{room}."):
            assert {other for other in imported(path) if other.startswith("sweeps.store.") and other in FILES} <= {
                "sweeps.store.records"
            }, name


def test_imports_at_the_top_of_files_have_no_cycle() -> None:
    """With a cycle, whether an import works depends on which file is imported first."""
    below = {
        name: {other for other in imported(path, top_level_only=True) if other in FILES} - {name}
        for name, path in FILES.items()
    }
    while below:
        leaves = {name for name, others in below.items() if not others & below.keys()}
        assert leaves, f"a cycle among {sorted(below)}"
        below = {name: others for name, others in below.items() if name not in leaves}


@pytest.mark.parametrize("library", IMPORTERS)
def test_a_heavy_library_stays_in_its_rooms(library: str) -> None:
    allowed = {f"sweeps.{room}" if room.split(".")[0] in ORDER else room for room in IMPORTERS[library]}
    for name, path in FILES.items():
        if library in {other.split(".")[0] for other in imported(path, top_level_only=library == "torch")}:
            assert any(f"{name}.".startswith(f"{room}.") for room in allowed), name


def test_the_pruning_room_imports_nothing_of_this_project_and_optuna_in_its_pruner_alone() -> None:
    for name, path in FILES.items():
        if name.startswith("sweeps.pruning."):
            names = set(imported(path))
            project = {other for other in names if other in FILES}
            libraries = {other.split(".")[0] for other in names} - {*sys.stdlib_module_names, "__future__", "sweeps"}
            allowed = {"numpy", "scipy", "optuna"} if name.endswith(".pruner") else {"numpy", "scipy"}
            assert all(other.startswith("sweeps.pruning") for other in project), name
            assert libraries <= allowed, name


HEAVY = ("torch", "optuna", "plotly", "scipy")
SLOW = ("torch", "scipy.stats", "plotly", "sklearn")


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        *(
            (name, HEAVY)
            for name in ("sweeps.cli", "sweeps.study.load", "sweeps.workers.worker", "sweeps.workers.launch")
        ),
        *((name, HEAVY) for name in ("trainer.config", "trainer.config_file", "trainer.data.prepare")),
        *((name, HEAVY) for name in ("trainer.machine.device", "trainer.machine.memory")),
        *((name, SLOW) for name in ("sweeps.engine.session", "sweeps.verdict.verdict", "sweeps.engine.planning.plan")),
        *((name, SLOW) for name in ("sweeps.store.locate", "sweeps.api")),
        ("sweeps", (*HEAVY, "numpy", "pydantic", "pyarrow")),
    ],
)
def test_modules_load_no_library_that_they_can_do_without(module: str, forbidden: tuple[str, ...]) -> None:
    """So a mistake in a study is reported in half a second, and a verdict doesn't wait for torch."""
    code = f"import sys, {module}; print(*(name for name in {forbidden} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_init_of_a_room_is_a_docstring_alone() -> None:
    for path in (file for name, file in FILES.items() if file.name == "__init__.py" and name != "sweeps"):
        (statement,) = ast.parse(path.read_text(encoding="utf-8")).body
        assert isinstance(statement, ast.Expr), path
        assert isinstance(statement.value, ast.Constant), path
