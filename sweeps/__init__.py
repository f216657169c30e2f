"""Which knob breaks the loss plateau of a small GPT: the command `sweep`, and the same from Python.

    from sweeps import load, run, open_results

The rooms, in the order to read them: study (the question), engine (running it), store (what happened), analysis (what
the runs show), verdict (the sentences), report (page, figures, dashboard), export (a config for nanoGPT). Below them
pruning decides when a trial stops, and workers train. Imports run downward only; tests/test_architecture.py holds the
order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.api import Sweep, load, open_results, run
    from sweeps.store.records import Run
    from sweeps.study.study import Study
    from sweeps.verdict.verdict import Verdict
    from trainer.errors import UserError
    from trainer.points import Point

    __version__: str

__all__ = ["Point", "Run", "Study", "Sweep", "UserError", "Verdict", "__version__", "load", "open_results", "run"]

_HOMES = {
    **dict.fromkeys(("Sweep", "load", "open_results", "run"), "sweeps.api"),
    "Point": "trainer.points",
    "Run": "sweeps.store.records",
    "Study": "sweeps.study.study",
    "UserError": "trainer.errors",
    "Verdict": "sweeps.verdict.verdict",
}
"""modules of the public names, which are imported on first use: every import of a room passes through here"""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("plateau-sweep")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
