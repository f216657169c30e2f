"""The command diagnose."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from sweeps.commands.judge import judge
from sweeps.commands.options import AsJson
from sweeps.commands.plan import plan
from sweeps.commands.printing import saying


def diagnose(
    logs: Annotated[
        list[str] | None, typer.Argument(metavar="LOG...", help="what the run printed; - reads standard input, live")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.py", help="the run's nanoGPT config; read as data, never run")
    ] = None,
    ckpt: Annotated[Path | None, typer.Option(metavar="CKPT", help="the run's ckpt.pt or its folder")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder of its train.bin and val.bin, for epochs and bytes")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="training tokens in its data, for epochs")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help='card that it trained on, for its utilisation: "RTX 4070"')
    ] = None,
    study: Annotated[
        Path | None, typer.Option(metavar="OUT.yaml", help="write a study that tests the findings, and plan it")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="also write it as one HTML page")] = None,
    as_json: AsJson = False,
) -> None:
    """Read the log of a run that went flat: what the curve says, what may hold it back, and what it contradicts."""
    from sweeps.diagnose import source
    from sweeps.diagnose.as_json import several, unreadable
    from sweeps.diagnose.diagnosis import diagnosis_of
    from sweeps.diagnose.page import page
    from sweeps.errors import LogError
    from sweeps.tables.keeps import is_keep_log_file
    from sweeps.text import encodable

    names = source.checked(logs or (), checkpoint=ckpt)
    given = source.read_given(config=config, checkpoint=ckpt, data=data, tokens=tokens, card=device)
    width = min(120, shutil.get_terminal_size((100, 24)).columns)
    try:
        if len(names) == 1 and is_keep_log_file(names[0]):  # it has no curve, and is judged
            judge(names[0], as_json=as_json)
            return
        for runs in source.readings(names, given, checkpoint=ckpt):
            *earlier, last = diagnoses = [diagnosis_of(run, given) for run in runs]
            text = json.dumps(several(diagnoses)) if as_json else "\n".join(page(last, width=width, earlier=earlier))
            print(encodable(text, sys.stdout.encoding or "ascii"), flush=True)  # a live log goes on
    except LogError as error:
        if not as_json:
            raise
        print(json.dumps(unreadable(" ".join(names), str(error))))
        raise typer.Exit(2) from error
    if html is not None:
        from sweeps.report.diagnosis_page import write_diagnosis

        write_diagnosis(last, html)
        saying(as_json)(f"page: {html}")
    if study is not None:
        from sweeps.diagnose.study_file import Place, write_study_of

        log = Path(names[0]) if len(names) == 1 and names[0] != source.STDIN else None
        write_study_of(last, study, Place(checkpoint=ckpt, log=log, data=data))
        saying(as_json)(f"\n{study}: edit it, then `sweep run {study}`. Its plan here:")
        if not as_json:
            plan(str(study), device=device)
