"""Advice of the answer: what to do next, what not to do, what is unknown and what would decide it. A line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sweeps.analysis.attribution import Attribution, CandidateWord
from sweeps.analysis.findings import Findings
from sweeps.study.model import as_yaml
from sweeps.study.sections import MAX_CONFIRM_SEEDS
from sweeps.text import joined, nats
from sweeps.verdict.answer import Advice, Row
from sweeps.verdict.open_questions import OpenQuestion, open_questions
from sweeps.verdict.rows import WIDEN
from sweeps.verdict.sentence import measured

_NAMED = 3
"""open questions that a line names"""


def advice_of(findings: Findings, rows: Sequence[Row]) -> Iterator[Advice]:
    """Yield the advice: do, don't, unknown, then notes on edges and costs."""
    attribution = findings.attribution
    if attribution is None:
        yield from _before_confirming(findings)
    else:
        yield from _do(findings, attribution)
    races = [row for row in rows if row.protocol == "race"]
    yield from _retrain(findings, races)
    if attribution is not None:
        yield from _dont(attribution, rows)
        yield from _unknown(findings, attribution)
    yield from _edges(rows)
    yield from _costs(findings, rows)


def _before_confirming(findings: Findings) -> Iterator[Advice]:
    if findings.screening.baseline is not None and findings.screening.best is not None:
        yield Advice(
            "unknown",
            "fresh seeds would prove or refute this; until then nothing is shown",
            _sweep(findings, "confirm"),
        )


def _do(findings: Findings, attribution: Attribution) -> Iterator[Advice]:
    study = findings.study
    iters = int(study.baseline["max_iters"])
    if attribution.broken:
        changes = joined(attribution.change)
        best = f"-o {study.name}-best.py"
        if study.branches:
            command = _sweep(findings, "export", f"--checkpoint out-{study.name} {best}")
            yield Advice("do", f"go on from the checkpoint with {changes} changed", command)
        else:
            command = _sweep(findings, "export", f"--iters {iters} {best}")
            yield Advice("do", f"train {iters:,} iterations with {changes} changed", command)
        return
    if attribution.decided:
        yield Advice("do", "keep the settings, or widen the ranges and sweep again: no config is shown to be better")
    else:
        yield Advice("do", "run more seeds before a long run: no config is shown to be better yet")
    for candidate in attribution.candidates:
        if candidate.word is CandidateWord.RIGHT:
            yield Advice(
                "do",
                f"follow the advice {candidate.label}, which is shown to be right",
                _trial(findings, candidate.candidate),
            )


def _trial(findings: Findings, candidate: int) -> str:
    """Return the command that exports a candidate's trial; empty where none is known."""
    key = f"candidate:{candidate}"
    trial = next((run.trial for run in findings.results.search_runs if run.key == key), None)
    iters = int(findings.study.baseline["max_iters"])
    return "" if trial is None else _sweep(findings, "export", f"--trial {trial} --iters {iters}")


def _retrain(findings: Findings, races: Iterable[Row]) -> Iterator[Advice]:
    """Yield what to retrain with: races that are ahead at equal time, or whose time isn't known."""
    for row in races:
        if row.shown and row.effect is not None and row.effect > 0 and not _loses_at_equal_time(row):
            change = f"{row.knob}={as_yaml(_raced(findings, row))}"
            yield Advice(
                "do",
                f"if you retrain from scratch, take {row.knob} {row.after}",
                _sweep(findings, "export", f"--race {change}"),
            )


def _raced(findings: Findings, row: Row) -> object:
    return next(race.value for race in findings.races if race.knob == row.knob and str(race.value) == row.after)


def _loses_at_equal_time(row: Row) -> bool:
    left = None if row.cost is None else row.cost.gain_at_equal_time
    return left is not None and left <= 0


def _dont(attribution: Attribution, rows: Iterable[Row]) -> Iterator[Advice]:
    """Yield one line about all that is shown to do harm, and isn't part of the config to train."""
    parts = []
    for row in rows:
        recommended = attribution.broken and row.protocol != "race" and row.knob in attribution.change
        if row.knob is None or not row.shown or recommended:
            continue
        if row.effect is None:
            parts.append(f"{row.knob} {row.after} ({row.does})")
        elif row.effect < 0:
            parts.append(
                f"{row.knob} {row.after}{' from scratch' if row.protocol == 'race' else ''} (loses {_size(row)})"
            )
        elif row.protocol == "race" and _loses_at_equal_time(row):
            assert row.cost is not None
            left = abs(row.cost.gain_at_equal_time or 0.0)
            parts.append(f"{row.knob} {row.after} from scratch ({nats(left, row.digits)} behind at equal time)")
    for candidate in attribution.candidates:
        if candidate.word is CandidateWord.WRONG:
            parts.append(f"the advice {candidate.label}")
    if parts:
        yield Advice("dont", "; ".join(parts))


def _size(row: Row) -> str:
    return measured(row).partition(" nats")[0]


# what is unknown


def _unknown(findings: Findings, attribution: Attribution) -> Iterator[Advice]:
    """Yield the questions that more seeds decide, those whose runs are missing, and those that nothing decides."""
    questions, planned = open_questions(attribution), findings.study.confirm.seeds
    decidable = [each for each in questions if each.seeds is not None and each.seeds <= MAX_CONFIRM_SEEDS]
    missing = [each for each in questions if not each.measured]
    beyond = [each for each in questions if each.measured and each not in decidable]
    if decidable:
        seeds = max(planned, *(each.seeds or 0 for each in decidable))
        yield Advice(
            "unknown",
            f"{_names(decidable)}: {seeds} seeds would decide",
            _sweep(findings, "confirm", f"--seeds {seeds}"),
        )
    if missing:
        yield Advice("unknown", f"{_names(missing)}: runs are missing", _sweep(findings, "confirm"))
    if beyond:
        yield Advice("unknown", f"{_names(beyond)}: over {MAX_CONFIRM_SEEDS} seeds needed, so any effect is small")


def _names(questions: Sequence[OpenQuestion]) -> str:
    """Return the first names, and how many more there are."""
    more = len(questions) - _NAMED
    names = [question.name for question in questions[: _NAMED if more > 1 else None]]
    return f"{', '.join(names)} and {more} more" if more > 1 else joined(names)


# notes


def _edges(rows: Iterable[Row]) -> Iterator[Advice]:
    """Yield one line about the settings to train that lie at an end of their range, and one about natural limits."""
    lines = [row.edge.partition(WIDEN)[2] for row in rows if WIDEN in row.edge]
    if lines:
        yield Advice("note", f"the best lies at an end of its range; to look further: {', '.join(lines)}")
    natural = [f"{row.knob} {row.after}" for row in rows if row.edge and WIDEN not in row.edge]
    if natural:
        yield Advice("note", f"at a natural limit: {joined(natural)}")


def _costs(findings: Findings, rows: Iterable[Row]) -> Iterator[Advice]:
    """Point to horizons of equal time where a change of a trial's shape or batch is slower or larger."""
    study = findings.study
    slower = [row for row in rows if row.protocol == "trial" and row.cost is not None and _is_slower(row)]
    if slower and study.equal == "tokens":
        yield Advice(
            "note", "trials are equal in tokens; horizon: {minutes: ..., equal: time} (or flops) counts the cost"
        )


def _is_slower(row: Row) -> bool:
    assert row.cost is not None
    return row.cost.seconds is not None and row.cost.seconds > 1.02


def _sweep(findings: Findings, command: str, options: str = "") -> str:
    """Return a command line that finds the study."""
    return " ".join(filter(None, ("sweep", command, findings.argument, options)))
