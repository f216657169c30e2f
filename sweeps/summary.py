"""A study's results in numbers: what `sweep run --json` ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeps import chosen, progress
from sweeps.errors import NotFound
from sweeps.noise import noise_of
from sweeps.results import Results, Run


def summarize(results: Results, *, seconds: float, store: Path, report: Path) -> dict[str, Any]:
    """The study as one JSON object; losses in nats a token, paths absolute.

    `trials` counts every run that has ended, the baseline's seeds among them; `best` is the search's best complete
    trial, with absolute nanoGPT values; `baseline` and `best` are null before there is one.
    """
    losses = [run.val_loss for run in chosen.baseline_runs(results) if run.val_loss is not None]
    noise = noise_of(losses) if losses else None
    best = chosen.best_run(results)
    return {
        "study": results.study.name,
        "store": str(store.absolute()),
        "report": str(report.absolute()),
        "seconds": round(seconds, 3),
        "trials": progress.counts(results.runs),
        "baseline": None if noise is None else {"mean": noise.mean, "sd": noise.sd, "seeds": noise.seeds},
        "best": None
        if best is None
        else {"trial": best.trial, "val_loss": best.val_loss, "config": best.config.as_dict()},
    }


def trial_of(results: Results, number: int | None) -> Run:
    """Trial `number` of the search, or its best complete one. Raises NotFound."""
    searched = chosen.search_runs(results)
    if number is None:
        best = chosen.best_run(results)
        if best is None:
            raise NotFound(f"study {results.study.name!r} has no complete trial yet; name one with --trial")
        return best
    for run in searched:
        if run.trial == number:
            return run
    last = max((run.trial for run in searched), default=None)
    there = "it has none yet" if last is None else f"it has 0 to {last}"
    raise NotFound(f"study {results.study.name!r} has no trial {number}; {there}")
