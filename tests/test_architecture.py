"""The house's rules, held over the syntax trees of its files: imports run down, the heavy ones where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    f"{package}.{path.stem}": path
    for package in ("trainer", "sweeps")
    for path in sorted((ROOT / package).glob("*.py"))
}
LAYERS = [
    {"__main__"},
    {"cli"},
    {"session", "summary", "locate", "preparing", "template", "live", "export", "ladder", "dashboard", "plan", "report"}
    | {"publish", "closing"},
    {"runner", "verdict", "plots", "pruning_plots", "confirm_plots", "forest", "outlooks", "best_curve", "curves"}
    | {"schedules", "slices", "parallel", "maps", "importance_plot", "figure"},
]
"""Uppermost first. A layer imports nothing of the layers above it; what isn't named lies below all of them."""
OPTUNA = {
    "space",
    "pruner",
    "store",
    "optuna_storage",
    "mirror",
    "tpe",
    "sqlite",
    "schema",
    "trials",
    "runner",
    "importance",
    "dashboard",
    "publish",
}
PURE = {"law", "plateau", "gaussian_process", "prospects"}
"""The pruning rule: arrays in, decisions out."""


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


def layer_of(name: str) -> int:
    return next((index for index, layer in enumerate(LAYERS) if name in layer), len(LAYERS))


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith("trainer.")])
def test_the_trainer_knows_nothing_of_sweeps(module: str) -> None:
    assert not [name for name in imported(FILES[module]) if name.split(".")[0] in ("sweeps", "optuna", "plotly")]


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith("sweeps.")])
def test_imports_run_down(module: str) -> None:
    own = layer_of(module.removeprefix("sweeps."))
    above = {
        name
        for name in imported(FILES[module])
        if name in FILES and name.startswith("sweeps.") and layer_of(name.removeprefix("sweeps.")) < own
    }
    assert not above


def test_there_are_no_circles() -> None:
    """Of imports at the top of files; a circle would hang on who is imported first."""
    below = {
        name: {other for other in imported(path, at_the_top_alone=True) if other in FILES}
        for name, path in FILES.items()
    }
    while below:
        leaves = {name for name, others in below.items() if not others & below.keys()}
        assert leaves, f"these import each other: {sorted(below)}"
        below = {name: others for name, others in below.items() if name not in leaves}


@pytest.mark.parametrize("module", [name for name in FILES if name.startswith("sweeps.")])
def test_few_files_know_optuna(module: str) -> None:
    if module.removeprefix("sweeps.") not in OPTUNA:
        assert not [name for name in imported(FILES[module]) if name.split(".")[0] in ("optuna", "optuna_dashboard")]


@pytest.mark.parametrize("module", [*sorted(PURE), "pruner"])
def test_the_pruning_rule_is_pure_and_its_pruner_serves_any_study(module: str) -> None:
    names = list(imported(FILES[f"sweeps.{module}"]))
    own = {name.removeprefix("sweeps.") for name in names if name in FILES}
    foreign = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"__future__", "sweeps"}
    assert own <= PURE
    assert foreign <= {"numpy", "scipy"} | ({"optuna"} if module == "pruner" else set())


HEAVY = ("torch", "optuna", "plotly", "scipy")
SLOW = ("torch", "scipy.stats", "plotly", "sklearn")


@pytest.mark.parametrize(
    ("module", "left_out"),
    [
        *((name, HEAVY) for name in ("sweeps.cli", "sweeps.spec", "sweeps.worker", "sweeps.processes")),
        *((name, HEAVY) for name in ("trainer.config", "trainer.nanogpt", "trainer.prepare", "trainer.memory")),
        *((name, SLOW) for name in ("sweeps.session", "sweeps.verdict", "sweeps.plan", "sweeps.locate")),
    ],
)
def test_modules_load_nothing_heavier_than_they_need(module: str, left_out: tuple[str, ...]) -> None:
    """A mistake in a study is told in half a second, and a verdict not after torch has loaded."""
    code = f"import sys, {module}; print(*(name for name in {left_out} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
