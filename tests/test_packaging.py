"""The package as others see it: commands, types, versions, and what is said of it in several places."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import sweeps

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CI: dict[Any, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())


def test_both_names_are_the_command() -> None:
    """`uvx plateau-sweep` runs the command that is called as the package is."""
    assert PROJECT["scripts"].keys() == {"sweep", PROJECT["name"]}
    for target in PROJECT["scripts"].values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_types_are_seen_though_names_are_imported_on_first_use() -> None:
    """A type checker reads the imports under TYPE_CHECKING, and a program those of `__getattr__`."""
    assert all((ROOT / package / "py.typed").exists() for package in ("sweeps", "trainer"))
    tree = ast.parse(Path(sweeps.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {
        alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert {*seen, "__version__"} == set(sweeps.__all__)
    for name, module in seen.items():
        assert getattr(importlib.import_module(module), name) is getattr(sweeps, name)


def test_the_citation_says_what_the_package_says() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    for here, there in (("version", "version"), ("license", "license"), ("abstract", "description"), ("title", "name")):
        assert str(citation[here]) == PROJECT[there], here
    assert citation["repository-code"] == PROJECT["urls"]["Source"]
    assert citation["keywords"] == PROJECT["keywords"]


def test_public_ci_tries_what_the_package_promises() -> None:
    promised = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)]
    matrix = CI["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"
    systems = {"ubuntu-latest": "Operating System :: POSIX :: Linux", "macos-latest": "Operating System :: MacOS"}
    assert {systems[name] for name in matrix["os"]} == {each for each in PROJECT["classifiers"] if "Operating" in each}


@pytest.mark.parametrize("job", CI["jobs"])
def test_public_ci_calls_targets_that_exist(job: str) -> None:
    makefile = (ROOT / "Makefile").read_text().replace("$(VENV)", ".venv")
    called = [
        target for step in CI["jobs"][job]["steps"] for target in re.findall(r"^make (\S+)", step.get("run", ""), re.M)
    ]
    assert called
    assert all(re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE) for target in called)
