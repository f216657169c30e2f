"""Signals that ask the command to end: Ctrl-C, SIGTERM (`docker stop`, systemd) and SIGHUP (a terminal that closes).

A sweep counts them and pauses; every other command ends at the first. All of them have handlers, because process 1 of a
container never receives a signal that it doesn't handle.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NoReturn

ENDING = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Windows has no SIGHUP"""
PAUSE: signal.Signals | None = getattr(signal, "SIGUSR1", None)
"""from the driver to a worker: pause the run before its next step; None: this system has no such signal"""
OF_WORKERS = {*ENDING, *([PAUSE] if PAUSE is not None else [])}
"""the signals that a worker handles otherwise than its system would"""


def in_words(number: signal.Signals) -> str:
    """Name the signal as its sender knows it."""
    return "Ctrl-C" if number == signal.SIGINT else number.name


def exit_code(number: signal.Signals) -> int:
    """Return the exit code of a command that a signal has ended, as shells have it."""
    return 128 + number


def end(number: signal.Signals) -> NoReturn:
    """Raise what ends the command: KeyboardInterrupt, or SystemExit for other signals than Ctrl-C."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(exit_code(number))


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command after its `finally` blocks, as Ctrl-C does without help."""
    with _handled(ENDING[1:], end):
        yield


@contextlib.contextmanager
def collected() -> Iterator[Sequence[signal.Signals]]:
    """Collect the signals in the list that is yielded, instead of ending the command."""
    received: list[signal.Signals] = []
    with _handled(ENDING, received.append):
        yield received


@contextlib.contextmanager
def _handled(numbers: Sequence[signal.Signals], act: Callable[[signal.Signals], object]) -> Iterator[None]:
    """Handle signals meanwhile. SIGHUP stays ignored where it is, which is what nohup is for."""
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]  # after it has closed, none counts as a terminal

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # what signal.signal calls
        received = signal.Signals(number)
        if received.name == "SIGHUP":
            _silence(terminals)
        act(received)

    ignored = {number for number in ENDING[1:] if signal.getsignal(number) is signal.SIG_IGN}
    before = {number: signal.signal(number, handle) for number in numbers if number not in ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _silence(streams: Sequence[int]) -> None:
    """Write to nowhere from now on: a write to a closed terminal is an error, which would end a sweep unpaused."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
    os.close(nowhere)
