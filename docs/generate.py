"""Generator of the parts of the docs that the code already says: help texts, keys of a study, tables, JSON.

    python -m docs.generate            write them between their markers in docs/reference/
    python -m docs.generate --check    write nothing; print a diff and fail where a page is out of date

A generated part stands between `<!-- generated: NAME -->` and `<!-- end: NAME -->`. The rest of a page is written by
hand and is left alone.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import functools
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from typer.main import get_command
from typer.testing import CliRunner

from docs import json_objects
from sweeps import arrow
from sweeps.cli import app
from sweeps.store.tables import TABLES, VERSION
from trainer.__main__ import _parser

REFERENCE = Path(__file__).parent / "reference"
WIDTH = 100
"""columns of a help text, whatever the terminal"""
_CHANGE = "Change"
"""suffix of the schema's definitions that belong to profiles: the same keys again, none of them required"""

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "schema_version": {
        "version": "version of these tables; an older file is migrated by `sweep run`",
    },
    "study": {
        "id": "number of the study in this file",
        "name": "name of the study, and of its Optuna study",
        "spec": "the resolved study, JSON",
        "data": "path, fingerprint, vocabulary and token counts of the data, JSON",
        "provenance": "versions, platform, devices, command, commit and estimated time, JSON",
        "created": "time, ISO 8601 in UTC, as are all times below",
        "active_seconds": "time spent on the study over all sessions, seconds",
    },
    "run": {
        "id": "number of the run in this file; also names its folder `runs/<id>`",
        "study_id": "the study it belongs to",
        "optuna_study": "the Optuna study that holds its trial: the study's name, or `<name>-confirm`",
        "trial": "number of its trial in that Optuna study",
        "key": "stable name of the proposal, such as `baseline:0`; see below",
        "seed": "seed of the weights and the batches",
        "phase": "`origin`, `race`, `pilot`, `baseline`, `search` or `confirm`",
        "origin": "what proposed it; see below",
        "label": "short description, such as `baseline, seed 2`",
        "knob": "the one knob that differs from the baseline, for single-knob trials",
        "params": "the trial's parameters as Optuna has them, JSON",
        "config": "the training config in absolute nanoGPT values, JSON",
        "data_fingerprint": "fingerprint of the data it trained on",
        "device": "device of its last launch",
        "versions": "versions of Python, plateau-sweep, torch, optuna and numpy, JSON",
        "git_commit": "git commit of the current folder, with `-dirty` where files differ from it",
        "outcome": "`running`, `complete`, `pruned`, `diverged`, `infeasible`, `truncated`, `halted` or `failed`",
        "reason": "why it did not complete",
        "val_loss": "final validation loss on the large window set, nats per token; complete runs only",
        "val_se": "standard error of `val_loss` over the windows",
        "step": "optimizer updates done when it ended",
        "seconds": "time it took over all its launches, seconds",
        "attempt": "number of launches",
        "started": "time at which the row was written",
        "finished": "time at which it ended",
        "device_kinds": "names of the cards or processors it trained on, in order, JSON list; null: not stored then",
        "pruning": "the numbers behind the pruning decision, JSON; also set for a sentinel",
    },
    "point": {
        "run_id": "the run it belongs to",
        "step": "optimizer updates done",
        "tokens": "tokens trained on so far",
        "train_loss": "loss on fixed training windows with dropout off, nats per token",
        "train_se": "standard error of `train_loss` over the windows",
        "val_loss": "loss on the small set of validation windows, nats per token",
        "val_se": "standard error of `val_loss` over the windows",
        "lr": "learning rate of the next update",
        "grad_norm": "gradient norm of the last update, before clipping",
        "tokens_per_s": "training speed since the previous evaluation, evaluations excluded",
        "seconds": "time the run has taken so far, evaluations included",
    },
    "event": {
        "id": "number of the event",
        "study_id": "the study it belongs to",
        "run_id": "the run it happened to; null for the study itself",
        "time": "when it happened",
        "kind": (
            "`crashed`, `died`, `hung`, `oom`, `fallback`, `sentinel`, `interrupted`, "
            "`checkpoint` (a damaged one was dropped), `log` (the end of a failed run's log), "
            "`stopped` (ten failures from one cause), or an outcome other than `complete`"
        ),
        "detail": "the details in words",
    },
}
"""what each column holds; a column without words here is an error"""


def main() -> int:
    """Write the generated parts, or check them. The exit code is 1 where `--check` finds one out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; print a diff and fail")
    check = parser.parse_args().check
    stale = list(out_of_date())
    for path, text, diff in stale:
        if check:
            print(diff, end="")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{path}: written")
    if check and stale:
        print("run `make docs`", file=sys.stderr)
    return int(check and bool(stale))


def out_of_date() -> Iterator[tuple[Path, str, str]]:
    """Pages whose generated parts differ from the code: the path, the text it should have, and a diff."""
    for name, parts in PAGES.items():
        path = REFERENCE / name
        text = path.read_text(encoding="utf-8")
        fresh = functools.reduce(lambda page, part: _filled(page, part, PARTS[part]()), parts, text)
        if fresh != text:
            lines = difflib.unified_diff(text.splitlines(True), fresh.splitlines(True), str(path), "generated")
            yield path, fresh, "".join(lines)


def _filled(page: str, part: str, text: str) -> str:
    """The page with `text` between the markers of `part`. ValueError: the page lacks the markers."""
    begin, end = f"<!-- generated: {part} -->", f"<!-- end: {part} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{part}: the page needs the lines {begin} and {end}")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def commands() -> str:
    """A table of the commands, then the help text of each."""
    listed = get_command(app).commands  # type: ignore[attr-defined]  # a group has them
    rows = [f"| `sweep {name}` | {_cell(command.help or '')} |" for name, command in listed.items()]
    sections = ["\n".join(["| command | what it does |", "|---|---|", *rows])]
    for name, command in listed.items():
        context = type(command).context_class(
            command, info_name=f"sweep {name}", terminal_width=WIDTH, max_content_width=WIDTH
        )
        sections.append(f"## `sweep {name}`\n\n{_fenced(command.get_help(context))}")
    return "\n\n".join(sections)


def trainer() -> str:
    """The help text of `python -m trainer`."""
    parser = _parser()
    parser.prog = "python -m trainer"
    parser.formatter_class = functools.partial(argparse.HelpFormatter, width=WIDTH)  # type: ignore[assignment]
    return _fenced(parser.format_help())


def template() -> str:
    """The study that `sweep init` writes."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        _sweep("init")
        return _fenced(Path("my-plateau.yaml").read_text(encoding="utf-8"), "yaml")


def keys() -> str:
    """The keys of a study from its JSON Schema: those on top, then those of each section."""
    schema = json.loads(_sweep("schema"))
    sections = [_keys_table({**schema, "required": schema["anyOf"][0]["required"]})]  # unless a profile brings them
    for name, definition in schema["$defs"].items():
        if not name.endswith(_CHANGE):
            words = definition.get("description")
            parts = [f"### {name}", words, _keys_table(definition)]
            sections.append("\n\n".join(part for part in parts if part))
    return "\n\n".join(sections)


def tables() -> str:
    """Our tables of the store, with the columns that SQLAlchemy knows."""
    sections = [f"Schema version: {VERSION}."]
    for table in TABLES.sorted_tables:
        rows = ["| column | type | what it holds |", "|---|---|---|"]
        rows += [
            f"| `{column.name}` | {_sql_type(column)} | {COLUMNS[table.name][column.name]} |" for column in table.c
        ]
        sections.append(f"### `{table.name}`\n\n" + "\n".join(rows))
    return "\n\n".join(sections)


def columns(table: Sequence[arrow.Column]) -> str:
    """The columns of an Arrow table."""
    rows = ["| column | type | unit | what it holds |", "|---|---|---|---|"]
    rows += [f"| `{column.name}` | {column.type} | {column.unit} | {_cell(column.words)} |" for column in table]
    return "\n".join(rows)


PARTS: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "trainer": trainer,
    "template": template,
    "keys": keys,
    "tables": tables,
    "runs": functools.partial(columns, arrow.RUNS),
    "curves": functools.partial(columns, (arrow.NUMBER, *arrow.CURVES)),
    "json": json_objects.page,
}
PAGES = {
    "commands.md": ("commands", "trainer"),
    "study.md": ("template", "keys"),
    "store.md": ("tables",),
    "tables.md": ("runs", "curves"),
    "json.md": ("json",),
}


def _sweep(command: str) -> str:
    """What `sweep COMMAND` prints."""
    result = CliRunner().invoke(app, [command], catch_exceptions=False)
    if result.exit_code:
        raise RuntimeError(f"sweep {command} failed: {result.output}")
    return result.stdout


def _keys_table(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, value in schema.get("properties", {}).items():
        default = "required" if name in required else f"`{_yaml(value['default'])}`" if "default" in value else ""
        rows.append(f"| `{name}` | {_type(value)} | {_cell(default)} | {_cell(value.get('description', ''))} |")
    return "\n".join(rows)


def _type(schema: Mapping[str, Any]) -> str:
    """The type and limits of a value in words; sections are links to their tables."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    for alternatives in ("oneOf", "anyOf"):
        if alternatives in schema:
            return " or ".join(dict.fromkeys(_type(each) for each in schema[alternatives]))
    if "const" in schema:
        return f"`{_yaml(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{_yaml(each)}`" for each in schema["enum"])
    if schema.get("type") == "array":
        items = schema.get("items", {})
        return f"list of {_type(items)}" if items else "list"
    return ", ".join(part for part in (str(schema.get("type", "any")), _limits(schema)) if part)


def _limits(schema: Mapping[str, Any]) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return ", ".join(f"{said} {_number(schema[key])}" for key, said in words.items() if key in schema)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _yaml(value: Any) -> str:
    """A value as a study file has it, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_yaml(each)}" for name, each in value.items()) + "}"
    return value if isinstance(value, str) else json.dumps(value)


def _sql_type(column: sa.Column[Any]) -> str:
    key = "primary key" if column.primary_key else ""
    other = next((f"references `{each.target_fullname}`" for each in column.foreign_keys), "")
    null = "" if not column.nullable else "may be null"
    return ", ".join(part for part in (str(column.type).lower(), key, other, null) if part)


def _cell(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text).replace("|", "\\|")


def _fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.strip()}\n```"


if __name__ == "__main__":
    sys.exit(main())
