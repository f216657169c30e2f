"""Arguments of the benchmarks' commands, and the `--set` options of the sweeps that they run.

A mistake in an argument ends a command as argparse does: a line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from trainer.errors import UserError

ROOT = Path(__file__).parents[1]
"""folder of the repository, in which the benchmarks start commands"""


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is a module's docstring."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def simulation_arguments(doc: str | None, *, studies: int) -> argparse.Namespace:
    """Parse the arguments of a benchmark that simulates studies; `studies` is the default number per scenario."""
    parser = parser_of(doc)
    parser.add_argument(
        "--studies", type=at_least(1), default=studies, help=f"studies per scenario (default {studies})"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the simulation (default 0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


@contextlib.contextmanager
def argument_errors(parser: argparse.ArgumentParser) -> Iterator[None]:
    """End the command with exit code 2 and the message of a UserError."""
    try:
        yield
    except UserError as error:
        parser.error(str(error))


def at_least(least: int) -> partial[int]:
    """Return an argument type: whole numbers of at least `least`."""
    return partial(_whole_number, least=least)


def _whole_number(text: str, *, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {least}")
    return int(text)


def positive(text: str) -> float:
    """Convert an argument to a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def existing_file(text: str) -> Path:
    """Convert an argument to the path of an existing file."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    return Path(text)


def add_names(parser: argparse.ArgumentParser, option: str, known: Iterable[str]) -> None:
    """Add an option that takes comma-separated names out of the known ones; by default all of them."""
    names = list(known)
    parser.add_argument(
        option,
        type=partial(_known_names, known=names),
        default=names,
        metavar="A,B",
        help=f"names out of {', '.join(names)} (default all)",
    )


def _known_names(text: str, *, known: list[str]) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
    return names


def set_options(settings: Iterable[str]) -> list[str]:
    """Return the `--set` options of a sweep for settings such as `trials=12`."""
    return [word for setting in settings for word in ("--set", setting)]
