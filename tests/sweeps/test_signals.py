"""Signals: what ends a command, what a sweep counts, and what nohup keeps ignored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from sweeps import signals

TERMINATING = [number for number in signals.ENDING if number != signal.SIGINT]


@pytest.mark.parametrize("number", TERMINATING)
def test_a_command_ends_with_the_exit_code_of_a_shell(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, signals.ending():
        signal.raise_signal(number)
    assert ended.value.code == {signal.SIGTERM: 143, signal.SIGHUP: 129}[number]
    assert signal.getsignal(number) is before


def test_they_are_collected_in_their_order() -> None:
    before = [signal.getsignal(number) for number in signals.ENDING]
    with signals.collected() as received:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.raise_signal(number)
        assert received == [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    assert [signal.getsignal(number) for number in signals.ENDING] == before


def test_while_they_are_collected_none_ends_the_command() -> None:
    with signals.ending():
        with signals.collected() as received:
            signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM]
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)


def test_nohup_keeps_its_meaning() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.ending(), signals.collected() as received:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "words"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_the_name_that_its_sender_knows(number: signal.Signals, words: str) -> None:
    assert signals.in_words(number) == words


@pytest.mark.parametrize(("number", "ends_with"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_ending_by_hand(number: signal.Signals, ends_with: type[BaseException]) -> None:
    with pytest.raises(ends_with):
        signals.end(number)


def test_a_terminal_that_closes_breaks_no_output() -> None:
    """A write to it is an error, which would end a sweep before it has paused."""
    program = textwrap.dedent("""
        import signal, sys
        from sweeps import signals
        with signals.collected() as received:
            print("ready", flush=True)
            while not received:
                signal.pause()
            print("nobody reads this", flush=True)
            print("nor this", file=sys.stderr, flush=True)
        sys.exit(signals.exit_code(received[0]))
    """)
    ours, theirs = os.openpty()
    # a session of its own whose terminal this is, so that the kernel sends it SIGHUP
    setsid = (
        "import fcntl, os, sys, termios; fcntl.ioctl(1, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", setsid, sys.executable, "-c", program],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        said = b""
        while b"ready" not in said:
            said += os.read(ours, 1024)
        os.close(ours)
    assert process.returncode == 129
