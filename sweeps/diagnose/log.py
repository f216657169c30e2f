"""Training logs, read into runs: nanoGPT's lines and nanochat's, as found in the wild.

Losses of nanoGPT are in nats per token. nanochat's evaluations are in bits per byte and are kept apart. Logs of other
trainers are refused with a way to convert them, because reading half of one would give a confident wrong verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweeps.diagnose import foreign
from sweeps.diagnose.content import read_text
from sweeps.diagnose.head import Head, read_head
from sweeps.diagnose.legs import Run, ordered, runs
from sweeps.diagnose.lines import Event, Loss, cleaned, events
from sweeps.diagnose.run import LoggedBits, LoggedIter, LoggedPoint, LoggedRun
from sweeps.errors import LogError
from sweeps.text import count, joined, short
from trainer.nanogpt import Value

EXPECTED = (
    "a nanoGPT log with lines such as 'step 500: train loss 4.1890, val loss 4.1375' "
    "or 'iter 500: loss 4.3850, time 3909.62ms'"
)
_SHOWN = 5
"""line numbers that a note lists"""
_MIXED = 4
"""runs of a log from which on short ones mean that several processes wrote into it at once"""


def read_log_file(path: Path) -> tuple[LoggedRun, ...]:
    """Read a log file: UTF-8, or UTF-16 as PowerShell writes it. Raises LogError like `read_log`, and if unreadable."""
    return read_log(read_text(path, expected=EXPECTED), name=str(path))


def read_log(text: str, *, name: str) -> tuple[LoggedRun, ...]:
    """Read the runs of a log, in the order of the file; at least one. `name` stands in messages and notes.

    Raises LogError with one line for an empty, binary or foreign log, for one without losses, and for one into which
    several processes wrote at once.
    """
    if not text.strip("\0 \t\r\n\ufeff"):
        raise LogError(f"{name} is empty; expected {EXPECTED}")
    if binary := foreign.binary(text):
        raise LogError(f"{name} {binary}; expected {EXPECTED}")
    lines = [cleaned(line) for line in text.split("\n")]
    happened: list[Event] = list(events(lines, whole=text.endswith("\n")))
    other = foreign.recognise(text, lines, losses=sum(isinstance(event, Loss) for event in happened), name=name)
    if other is not None:
        raise LogError(f"{name} {other}")
    found = runs(happened)
    if not found:
        damaged = f"; {count(len(happened), 'line')} of that kind cut or damaged" if happened else ""
        first = next(line.strip() for line in [*lines, "nothing readable"] if line.strip())
        raise LogError(f"{name} has no loss{damaged}: it begins with {first[:60]!r}; expected {EXPECTED}")
    if len(found) >= _MIXED and sum(len(run.losses) <= 2 for run in found) > len(found) / 2:
        raise LogError(
            f"{name}: the steps fall back {len(found) - 1} times in {count(sum(len(r.losses) for r in found), 'line')} "
            "of losses, as where several processes write into one file; give the log of one run"
        )
    return tuple(_logged(run, lines, name=name) for run in found)


def _logged(run: Run, lines: Sequence[str], *, name: str) -> LoggedRun:
    head = read_head(run.facts, lines)
    notes = list(head.notes)
    settings = dict(head.settings)
    later = [read_head(facts, lines) for facts in run.later]
    for step, other in zip(run.resumed_at, later, strict=False):
        notes += [note for note in other.notes if note not in notes]
        notes += _changed(settings, other, step)
        settings |= other.settings
    last = [*later, head]
    points = [record for record in ordered(run.losses, LoggedPoint) if isinstance(record, LoggedPoint)]
    iters = [record for record in ordered(run.losses, LoggedIter) if isinstance(record, LoggedIter)]
    bits = [record for record in ordered(run.losses, LoggedBits) if isinstance(record, LoggedBits)]
    first = min([loss.line for loss in run.losses] + [fact.line for fact in run.facts])
    begun = min(records[0].step for records in (points, iters, bits) if records)
    if head.resumed and begun > 0:
        notes.append(f"The log begins at step {begun} of a resumed run; what came before is not in it.")
    return LoggedRun(
        name=name,
        trainer="nanochat" if sum(loss.nanochat for loss in run.losses) * 2 > len(run.losses) else "nanoGPT",
        points=tuple(points),
        iters=tuple(iters),
        bits=tuple(bits),
        settings=settings,
        parameters=next((part.parameters for part in last if part.parameters), None),
        tokens_per_iter=next((part.tokens_per_iter for part in last if part.tokens_per_iter), None),
        vocab_size=next((part.vocab_size for part in last if part.vocab_size), None),
        resumed_at=tuple(run.resumed_at),
        lines=(first, run.last_line),
        notes=(*notes, *_notes(run)),
    )


def _changed(settings: dict[str, Value], other: Head, step: int) -> list[str]:
    """Say which settings differ from the run's where it was resumed, apart from init_from."""
    differences = [
        f"{key} {short(settings[key])} → {short(value)}"
        for key, value in other.settings.items()
        if key in settings and settings[key] != value and key != "init_from"
    ]
    return [f"Where it was resumed at step {step}, settings changed: {joined(differences)}."] if differences else []


def _notes(run: Run) -> list[str]:
    """Return what was joined or passed over in a run, in sentences."""
    notes = [
        f"The run was resumed at step {step}; its losses up to step {last} before that were passed over."
        for step, last in run.lost
    ]
    if run.repeated:
        notes.append(f"{count(run.repeated, 'line')} with losses stood there twice and counted once.")
    if run.damaged:
        numbers = [str(line.line) for line in run.damaged[:_SHOWN]]
        more = len(run.damaged) - len(numbers)
        where = joined([*numbers, f"{more} more"] if more else numbers)
        notes.append(
            f"{count(len(run.damaged), 'line')} cut or damaged and passed over: {where} "
            f"(the first: {run.damaged[0].shown!r})."
        )
    return notes
