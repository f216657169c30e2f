"""Commands and options that messages and docs name: every one exists, and belongs to the command it is for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from sweeps.cli import app
from trainer import nanogpt
from trainer.__main__ import _parser

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for package in ("sweeps", "trainer") for path in (ROOT / package).rglob("*.py"))
TEXTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(path for folder in ("studies", "sweeps", "docker") for path in (ROOT / folder).rglob("*.y*ml")),
]
GROUP = get_command(app)
COMMANDS = {
    name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    | {"--debug", "--help", "-h"}
    for name, command in GROUP.commands.items()  # type: ignore[attr-defined]  # typer's group has commands
}
OF_GROUP = {option for parameter in GROUP.params for option in parameter.opts} | {"--help", "-h"}
TRAINER = {option for action in _parser()._actions for option in action.option_strings}
OTHERS = {
    *("--upgrade", "--storage"),  # pip, optuna
    *(f"--{name}" for name in nanogpt.DEFAULTS),
    *("--out_dir", "--device", "--dtype", "--compile"),
    *("--id", "--query-gpu", "--format", "--porcelain", "--untracked-files"),  # nvidia-smi, git
    *("--head", "--address", "--disable-usage-stats", "--generate", "--min-nodes", "--ntasks-per-node"),  # ray, srun
}
"""options of other programs"""
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
COMMAND = re.compile(r"`sweep ([a-z]+)([^`]*)`|(?:^|[(:] ?)sweep ([a-z]+)((?: \S*[{.<]\S*| [A-Z]+\b| --\S+)+)", re.M)
"""in backticks, or at the beginning of a line or bracket with arguments that no English sentence has"""


def texts_of(path: Path) -> Iterator[str]:
    """Yield the strings of a source file, in whose place of values there is {}."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def wrong_in(text: str) -> Iterator[str]:
    """Yield the commands and options in a text that don't exist."""
    for match in COMMAND.finditer(text):
        name, rest = match[1] or match[3], match[2] or match[4] or ""
        if name not in COMMANDS:
            yield match[0]
            continue
        unknown = {option.removesuffix(":") for option in OPTION.findall(rest)} - COMMANDS[name]
        yield from (f"sweep {name} {option}" for option in unknown)
    known = OF_GROUP.union(TRAINER, OTHERS, *COMMANDS.values())
    yield from (option for option in OPTION.findall(text) if option not in known)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_name_commands_and_options_that_exist(path: Path) -> None:
    assert [wrong for text in texts_of(path) for wrong in wrong_in(text)] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_written_with_options_that_exist(path: Path) -> None:
    """Of calls such as results.command("export", "--trial", "3")."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not node.args or not isinstance(verb := node.args[0], ast.Constant):
            continue
        if isinstance(node.func, ast.Attribute | ast.Name) and "command" in ast.unparse(node.func).split(".")[-1:]:
            words = [part.value for arg in node.args[1:] for part in ast.walk(arg) if isinstance(part, ast.Constant)]
            options = {option for word in words if isinstance(word, str) for option in OPTION.findall(word)}
            assert options <= COMMANDS[str(verb.value)], ast.unparse(node)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_docs_and_studies_name_commands_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [match[0] for match in COMMAND.finditer(text) if (match[1] or match[3]) not in COMMANDS] == []
    assert [
        f"{match[0]}: {option}"
        for match in COMMAND.finditer(text)
        for option in OPTION.findall(match[2] or match[4] or "")
        if option not in COMMANDS[match[1] or match[3]]
    ] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`sweep confirm x --max-trials 3` adds seeds", []),
        ("`sweep confirn x` adds seeds", ["`sweep confirn x`"]),
        ("`sweep status x --trial 3`", ["sweep status --trial"]),
        ("store: a.db   (sweep dashbord {} shows it)", ["(sweep dashbord {}"]),
        ("the sweep needs about 3 h; raise it with --hourz", ["--hourz"]),
        ("raise hours; a sweep of 3 runs", []),
    ],
)
def test_what_does_not_exist_is_found(text: str, wrong: list[str]) -> None:
    assert list(wrong_in(text)) == wrong
