"""README and docs tell the truth: commands that exist, options that exist, links that lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from sweeps.cli import app
from trainer.__main__ import _parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]  # a group has them


def code_lines(page: Path) -> list[str]:
    """Commands shown in a page: indented lines, and code in backticks."""
    text = page.read_text(encoding="utf-8")
    return [line.strip() for line in re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)] + re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    for line in code_lines(page):
        words = line.split()
        if words[:1] == ["sweep"] and len(words) > 1 and words[1].isalpha():
            assert words[1] in COMMANDS, line
            known = {option for parameter in COMMANDS[words[1]].params for option in parameter.opts} | {"--debug"}
        elif words[:3] == ["python", "-m", "trainer"]:
            words = words[3:]
            known = {option for action in _parser()._actions for option in action.option_strings}
        else:
            continue
        assert {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"`sweep {name}" in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert all(getattr(parameter, "help", None) for parameter in command.params)


def test_the_make_targets_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^ {4}make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_benchmarks_say_how_they_are_run() -> None:
    said = " ".join(page.read_text(encoding="utf-8") for page in PAGES)
    for path in (ROOT / "benchmarks").glob("*.py"):
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8"):  # the others are parts of one that is run
            assert f"python -m benchmarks.{path.stem}" in said, path.name


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
    ]
    pinned = {
        re.split(r"==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    names = {re.split(r"[\[<>=!~ ]", line)[0].lower().replace("_", "-") for line in wanted} - {"plateau-sweep"}
    assert names <= pinned
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().split()
