"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Begun = Annotated[
    str, typer.Argument(metavar="STUDY", help="the study's YAML file (`sweep init` writes one), or one begun: its name")
]
StudyFile = Annotated[str, typer.Argument(metavar="STUDY.yaml", help="the study; `sweep init` writes one")]
StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="a study's name, its folder, its .db file, or its YAML file")
]
Profile = Annotated[
    str | None, typer.Option(metavar="NAME", help="profile of the study to use, instead of this machine's")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a key: --set knobs.dropout.high=0.5")
]
Data = Annotated[
    str | None, typer.Option(metavar="WHERE", help="data to train on: parquet files, globs, URLs, or a nanoGPT folder")
]
Baseline = Annotated[
    str | None, typer.Option(metavar="FILE.py", help="nanoGPT config to use as the baseline; read as data, never run")
]
From = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="CKPT", help="checkpoint of the run that plateaued (ckpt.pt or its folder) to start from"
    ),
]
Log = Annotated[str | None, typer.Option(metavar="LOG", help="what nanoGPT printed while --from's run trained")]
Candidates = Annotated[
    list[str] | None,
    typer.Option(
        "--candidate", metavar="FILE.py", help="nanoGPT config whose changes to the baseline are a candidate to test"
    ),
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="folder of the results, instead of runs/<study>")]
Full = Annotated[bool, typer.Option("--full", help="print the whole verdict, with what it rests on")]
AsJson = Annotated[bool, typer.Option("--json", help="end with one JSON object on stdout; the rest goes to stderr")]
