"""The command `sweep`: its commands, and how it ends."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Annotated

import typer

from sweeps import signals, streams
from sweeps.commands.authoring import init, schema
from sweeps.commands.dashboard import dashboard
from sweeps.commands.diagnose import diagnose
from sweeps.commands.export import export
from sweeps.commands.judge import judge
from sweeps.commands.plan import plan, prepare
from sweeps.commands.results import report, status, verdict
from sweeps.commands.run import confirm, run
from trainer.errors import UserError

app = typer.Typer(
    name="sweep",
    help="Find out which knob breaks the loss plateau of a small GPT: by how much, how surely, and what to train next.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command. Exit codes: 0 success, 1 a bug, 2 the user's mistake, 128 + N ended by signal N (130 Ctrl-C).

    `--debug` shows the traceback of a user's mistake.
    """
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    files = streams.outlast()
    try:
        with signals.ending():
            app()
    except SystemExit as ended:
        if not ended.code and (lost := streams.what_was_lost(files)):
            print(f"error: {lost}", file=sys.stderr)
            sys.exit(2)
        raise
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        gc.freeze()  # at its exit, Python would look at every object of the plotting libraries once more, for seconds


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"plateau-sweep {version('plateau-sweep')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def group(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  # its callback ends the command
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="print the version")
    ] = False,
    debug: Annotated[  # noqa: ARG001  # `main` takes it out, wherever it stands
        bool, typer.Option("--debug", help="show the traceback of a mistake; any command takes it")
    ] = False,
) -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the folder that you are in was deleted or moved; cd to one that exists") from None
    if context.invoked_subcommand is None:
        print(context.get_help())


for command in (run, confirm, plan, prepare, status, verdict, report, export, diagnose, judge, dashboard, init, schema):
    app.command()(command)
