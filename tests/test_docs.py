"""README and docs: every command, option, link, path and benchmark in them exists, and their form is kept."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from docs import generate, json_objects
from sweeps.cli import app
from trainer.__main__ import _parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROSE = [*PAGES, *(path for path in (ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md") if path.exists())]
EXPERIMENTS = sorted(set((ROOT / "docs" / "experiments").glob("*.md")) - {ROOT / "docs" / "experiments" / "index.md"})
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]  # typer's group has commands
DELETED = {"benchmarks.pruning_bound", "benchmarks.pruning_in_the_loop"}
"""benchmarks that exist in commit f4f026c only; the docs name it beside them"""
MOST_LINES = 90
"""lines of the README"""
MOST_COLUMNS = 120
"""columns of a line of prose"""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fences(text: str) -> tuple[str, str]:
    """Split a page into its text outside of fenced blocks and inside of them."""
    parts = re.split(r"^```.*$", text, flags=re.MULTILINE)
    return "\n".join(parts[::2]), "\n".join(parts[1::2])


def code_lines(page: Path) -> list[str]:
    """Return the code in a page: fenced lines, indented lines, and spans in backticks."""
    outside, inside = fences(page.read_text(encoding="utf-8"))
    indented = re.findall(r"^ {4}(\S.*)$", outside, re.MULTILINE)
    return [line.strip() for line in [*inside.splitlines(), *indented]] + re.findall(r"`([^`]+)`", outside)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
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


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_within_the_repository_lead_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_every_command_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert all(f"`sweep {name}" in text for name in COMMANDS)


def test_generated_parts_are_up_to_date() -> None:
    stale = [diff for _, _, diff in generate.out_of_date()]
    assert not stale, "run `make docs`:\n" + "".join(stale)


def test_every_command_with_json_is_in_the_reference() -> None:
    """A new one needs a TypedDict in sweeps/outputs.py and a line in docs/json_objects.py."""
    with_json = {name for name, command in COMMANDS.items() for each in command.params if "--json" in each.opts}
    assert json_objects.COMMANDS.keys() == with_json - {
        "schema"
    }  # whose object is a JSON Schema, which explains itself


@pytest.mark.parametrize("kinds", json_objects.every_object(), ids=lambda kinds: kinds[0].__name__)
def test_every_field_of_json_has_words(kinds: json_objects.Kinds) -> None:
    words = {name: text for kind in kinds for name, text in json_objects.words_of(kind).items()}
    assert words.keys() == json_objects.fields_of(kinds).keys()
    assert all(words.values()), words


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def lines_of_prose(page: Path) -> Iterator[str]:
    """Yield the lines of a page that are neither code nor part of a table."""
    outside, _ = fences(page.read_text(encoding="utf-8"))
    yield from (line for line in outside.splitlines() if not line.startswith(("|", "    ")))


@pytest.mark.parametrize("page", PROSE, ids=name_of)
def test_lines_of_prose_are_short(page: Path) -> None:
    assert not [line for line in lines_of_prose(page) if len(line) > MOST_COLUMNS]


@pytest.mark.parametrize("page", EXPERIMENTS, ids=name_of)
def test_an_experiment_has_its_sections_and_a_row_in_the_index(page: Path) -> None:
    sections = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == ["Answer", "Command", "Table", "What did not work", "History"]
    assert f"({page.name})" in (page.parent / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert all(getattr(parameter, "help", None) for parameter in command.params)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in code_lines(page):
        for target in re.findall(r"^make ([a-z]+)", line):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_command_of_every_benchmark_is_in_the_docs() -> None:
    docs = " ".join(page.read_text(encoding="utf-8") for page in PROSE)
    for path in (ROOT / "benchmarks").rglob("*.py"):
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8"):  # else it is a part of another benchmark
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            assert re.search(rf"python -m {re.escape(name)}\b", docs), name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_and_benchmarks_exist(page: Path) -> None:
    for line in code_lines(page):
        for word in re.findall(r"(?<![\w./])(?:sweeps|trainer|benchmarks|tests|docs|studies)/[\w./-]*\w", line):
            assert (ROOT / word).exists(), word
        for name in re.findall(r"python -m (benchmarks\.[\w.]+)", line):
            assert name in DELETED or (ROOT / name.replace(".", "/")).with_suffix(".py").exists(), name


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
    ]
    pinned = {
        re.split(r"==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    names = {re.split(r"[\[<>=!~ ]", line)[0].lower().replace("_", "-") for line in required} - {"plateau-sweep"}
    assert names <= pinned
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().split()
