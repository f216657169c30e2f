"""A race to export: the user's own config with the raced change, from scratch and at its own length.

A race shows a gap to the origin's own curve at equal tokens, not where the whole run ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sweeps.analysis.findings import Findings
from sweeps.analysis.races import RaceFinding
from sweeps.errors import NotFound
from sweeps.export.branch import origin_line, out_dir_of
from sweeps.export.changes import before
from sweeps.export.nanogpt_config import NanogptConfig, length_of, nanogpt_config
from sweeps.export.source import scale_lines, source_lines
from sweeps.store.records import Results, Run
from sweeps.study.horizon import eval_interval, stretched
from sweeps.study.origin_runs import RACE
from sweeps.study.start import SCHEDULE
from sweeps.text import count, joined
from sweeps.verdict import effects


def names(results: Results) -> tuple[str, ...]:
    """Return the changes that were raced, such as n_embd=768."""
    return tuple(dict.fromkeys(_change(run) for run in results.runs if run.phase == RACE and run.knob is not None))


def race_of(findings: Findings, change: str) -> tuple[Run, ...]:
    """Return the runs of a race such as "n_embd=768", ordered by seed. Raises NotFound."""
    wanted = _parsed(change)
    runs = [
        run
        for run in findings.results.runs
        if run.phase == RACE and run.knob is not None and _parsed(_change(run)) == wanted
    ]
    if runs:
        return tuple(sorted(runs, key=lambda run: run.seed))
    raced = names(findings.results)
    known = f"it raced {joined(raced)}" if raced else "it raced nothing; write a race in the study"
    raise NotFound(f"study {findings.study.name!r} has no race {change}; {known}")


def export_race(findings: Findings, runs: Sequence[Run], *, date: str, iters: int | None = None) -> NanogptConfig:
    """Return the user's own config with a race's change, from scratch; `runs` are the race's, one per seed.

    `iters` is the length of the real run, by default that of the user's own. Raises ExportError.
    """
    study, run = findings.study, runs[0]
    schedule = {name: study.baseline[name] for name in SCHEDULE}
    raced = run.config.replace(**schedule, eval_interval=eval_interval(int(study.baseline["max_iters"])))
    suffix = re.sub(r"[^A-Za-z0-9._]+", "-", f"{study.name}-{_change(run)}").strip("-.")
    why = {str(run.knob): "raced from scratch", "n_head": "the size of a head stays"}
    lengths = dict.fromkeys(("max_iters", "warmup_iters", "lr_decay_iters"), f"--iters {iters}")
    return nanogpt_config(
        raced if length_of(iters) is None else stretched(raced, iters=int(iters or 0)),
        data=findings.results.data,
        tested=raced,
        evidence=(*_lines(findings, runs), *source_lines(findings.results, date=date)),
        cuda=not run.device.startswith("cpu"),
        out_dir=out_dir_of(study, suffix),
        before=before(study, why={**why, **lengths}),
    )


def _lines(findings: Findings, runs: Sequence[Run]) -> Iterator[str]:
    study = findings.study
    seeds = f"{count(len(runs), 'seed')} ({joined(str(run.seed) for run in runs)})"
    steps = min((run.points[-1].step for run in runs if run.points), default=0)
    yield from scale_lines(findings)
    yield f"study {study.name}, race {_change(runs[0])} from scratch, {seeds}"
    if study.origin is not None:
        yield origin_line(study.origin)
    found = finding_of(findings, runs[0])
    if found.gap is None:
        yield "the race has no gap: there is no curve of the origin to compare it with"
    else:
        words = effects.gain(found.gap) if found.gap.mean >= 0 else f"a loss of {effects.harm(found.gap)}"
        yield f"gain over the origin's own curve at iteration {found.steps}, at equal tokens: {words}"
    yield (
        f"race: {steps} iterations under the schedule of the origin's run of {runs[0].config.max_iters}; where the "
        "whole run ends was not measured"
    )


def finding_of(findings: Findings, run: Run) -> RaceFinding:
    """Return what the analysis says of a run's race."""
    assert run.knob is not None
    value = getattr(run.config, run.knob)
    return next(found for found in findings.races if (found.knob, found.value) == (run.knob, value))


def _change(run: Run) -> str:
    """Return the change in the key of a race: n_embd=768 of race:n_embd=768:1337."""
    return run.key.split(":")[1]


def _parsed(change: str) -> tuple[str, float | str]:
    """Return a change's name and value; 3e-1 and 0.3 are the same."""
    name, _, value = change.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        return name.strip(), value.strip()
