"""The command judge."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sweeps.commands.options import AsJson
from sweeps.commands.printing import wrapped

NOTHING_SHOWN = 3
"""exit code where the runs show nothing"""


def judge(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="runs of any trainer: .csv, .tsv, .jsonl or .parquet, a row a run")
    ],
    baseline: Annotated[
        str | None, typer.Option(metavar="ARM", help="arm that the others are compared with, instead of `baseline`")
    ] = None,
    min_effect: Annotated[
        float, typer.Option(min=0, metavar="X", help="what a gain must exceed to count, in the table's unit")
    ] = 0.02,
    as_json: AsJson = False,
) -> None:
    """Say which changes in a table of runs are real. Exit code 3: nothing is shown."""
    from sweeps.tables import as_json as tables_json
    from sweeps.tables import keep_words, words
    from sweeps.tables.keeps import is_keep_log, keep_log
    from sweeps.tables.rows import read_table
    from sweeps.tables.ruling import rule
    from sweeps.tables.runs import runs_of

    rows = read_table(table)
    if is_keep_log(rows):
        log = keep_log(rows)
        decides, lines, as_object = bool(log.standing), keep_words.lines(log), tables_json.of_keep_log(log)
    else:
        ruling = rule(runs_of(rows, baseline=baseline), min_effect=min_effect)
        decides, lines, as_object = ruling.decides, words.lines(ruling), tables_json.of_ruling(ruling)
    print(json.dumps(as_object) if as_json else "\n".join(wrapped(lines)))
    if not decides:
        raise typer.Exit(NOTHING_SHOWN)
