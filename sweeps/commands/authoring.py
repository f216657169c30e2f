"""The commands that help someone write a study: init and schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sweeps.commands.options import AsJson, From, Log


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="the study's name; the file is NAME.yaml")] = "my-plateau",
    from_: From = None,
    log: Log = None,
    as_json: AsJson = False,
) -> None:
    """Write a commented study to start from. With --from, it is around your checkpoint."""
    from sweeps.study.authoring import write_study

    written = write_study(name, Path(), checkpoint=from_, log=log)
    if as_json:
        print(json.dumps({"study": name, "file": str(written.absolute())}))
    else:
        print(f"{written}: edit it, then `sweep plan {name}.yaml` and `sweep run {name}.yaml`")


def schema(as_json: Annotated[bool, typer.Option("--json", help="print it on one line")] = False) -> None:
    """Print the JSON Schema of a study, with every key documented."""
    from sweeps.study.authoring import json_schema

    print(json.dumps(json_schema(), indent=None if as_json else 2))
