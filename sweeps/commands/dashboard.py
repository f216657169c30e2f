"""The command dashboard."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from sweeps.commands.options import Out, StudyName


def dashboard(
    study: StudyName,
    out: Out = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="address to serve on, 0.0.0.0 in a container; the dashboard has no password"
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="port to serve on; 0 is any free port")] = 0,
    browser: Annotated[bool, typer.Option(help="open the browser, when run on a terminal")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="print the address as a JSON object, then serve")] = False,
) -> None:
    """Browse a study with optuna-dashboard, also while it runs. Serves 127.0.0.1, or the address of --host."""
    import webbrowser

    from sweeps.report.dashboard import is_private, serve
    from sweeps.store.locate import locate

    def announce(url: str) -> None:
        print(json.dumps({"url": url}) if as_json else f"{url} (Ctrl-C ends it)", flush=True)
        if browser and sys.stdout.isatty():
            webbrowser.open(url)

    located = locate(study, out=out)
    if not is_private(host):
        print(
            f"warning: whoever can reach {host} can read this study: the dashboard has no password",
            file=sys.stderr,
        )
    serve(located.url, host=host, port=port, artifacts=located.paths.artifacts, announce=announce)
