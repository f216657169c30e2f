"""Simulated deaths of a sweep's process: an exception at a chosen call or tick, which no code under test handles."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest


class Killed(BaseException):
    """The end of the process. Not an Exception, so that no error handler catches it."""


@dataclass
class Death:
    """Whether the process has ended."""

    happened: bool = False


@contextlib.contextmanager
def killing(owner: type, method: str, moment: str = "after", calls: int = 1) -> Iterator[Death]:
    """End the process at a call of `owner.method`, as `deadly` says. The yielded object tells whether it ended."""
    death = Death()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, deadly(getattr(owner, method), moment, calls))
        try:
            yield death
        except Killed:
            death.happened = True


def deadly(method: Callable[..., Any], moment: str, calls: int) -> Callable[..., Any]:
    """Return `method`, except that the process ends "before" or "after" its `calls`-th call.

    At the moment "decided", only calls that return something other than None are counted, and the process ends after
    the last of them.
    """
    left = calls

    def call(*args: Any, **named: Any) -> Any:
        nonlocal left
        if moment == "before" and left == 1:
            raise Killed
        result = method(*args, **named)
        left -= moment != "decided" or result is not None
        if left == 0:
            raise Killed
        return result

    return call


def die_at(tick: int) -> Callable[[int], None]:
    """Return a callback for `small_sweep.sweep(at_tick=...)` that ends the process at `tick`."""

    def die(now: int) -> None:
        if now == tick:
            raise Killed

    return die
