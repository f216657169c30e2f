"""Advice of the answer: what to do next, what not to do, what is unknown and what would decide it. A line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sweeps.analysis.attribution import Attribution, CandidateWord
from sweeps.analysis.findings import Findings
from sweeps.study.model import as_yaml
from sweeps.study.sections import MAX_CONFIRM_SEEDS
from sweeps.study.study import OF_THE_CONTROL
from sweeps.text import all_of, joined, nats, rounded
from sweeps.verdict.answer import Advice, Row
from sweeps.verdict.confirmed import SMALL_BATCH, has_smaller_batch
from sweeps.verdict.open_questions import OpenQuestion, open_questions
from sweeps.verdict.rows import AHEAD, UNITS, WIDEN, fewer

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
    edges = [*_edges(rows)]
    yield from (each for each in edges if each.kind == "do")
    if attribution is not None:
        yield from _dont(attribution, rows)
        yield from _unknown(findings, attribution)
        yield from _batches(attribution)
    yield from _fork(findings, rows)
    yield from (each for each in edges if each.kind != "do")
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
        changes = all_of(len(attribution.change), "change")
        if len(attribution.change) == 1:
            changes = f"{attribution.change[0]} alone changed"
        elif attribution.fewer:
            changes = f"{fewer(attribution)} changed"
        best = f"-o {study.name}-best.py"
        if len(attribution.change) > 1 and not attribution.fewer:
            best = f"--all {best}"  # the whole was shown, not its credited knobs without the rest
        if findings.branches is not None:
            command = _sweep(findings, "export", f"--checkpoint out-{study.name} {best}")
            yield Advice("do", f"go on from the checkpoint with {changes}", command)
        else:
            length = "as many tokens" if "batch_size" in attribution.change else f"{iters:,} iterations"
            yield Advice("do", f"train {length} with {changes}", _sweep(findings, "export", best))
        return
    right = [candidate for candidate in attribution.candidates if candidate.word is CandidateWord.RIGHT]
    for candidate in right:
        text = f"follow the advice {candidate.label}, which is shown to be right"
        yield Advice("do", text, _trial(findings, candidate.candidate))
    if not attribution.decided:
        yield Advice("do", "run more seeds before a long run: no config is shown to be better yet")
    elif not right:
        yield Advice("do", "keep the settings, or widen the ranges and sweep again: no config is shown to be better")


def _trial(findings: Findings, candidate: int) -> str:
    """Return the command that exports a candidate's trial; empty where none is known."""
    key = f"candidate:{candidate}"
    trial = next((run.trial for run in findings.results.search_runs if run.key == key), None)
    study = findings.study
    how = f"--checkpoint out-{study.name}" if findings.branches else f"--iters {int(study.baseline['max_iters'])}"
    return "" if trial is None else _sweep(findings, "export", f"--trial {trial} {how}")


def _retrain(findings: Findings, races: Sequence[Row]) -> Iterator[Advice]:
    """Yield what to retrain with: races that are ahead at equal time, or whose time isn't known."""
    for row, race in zip(races, findings.races, strict=True):
        if row.does == AHEAD:
            yield Advice(
                "do",
                f"if you retrain from scratch, take {row.knob} {row.after}",
                _sweep(findings, "export", f"--race {race.knob}={as_yaml(race.value)}"),
            )


def _loses_at_equal_time(row: Row) -> bool:
    left = None if row.cost is None else row.cost.gain_at_equal_time
    return left is not None and left <= 0


def _dont(attribution: Attribution, rows: Iterable[Row]) -> Iterator[Advice]:
    """Yield one line about all that is shown to do harm, and isn't part of the config to train."""
    change, retrain = [], []
    for row in rows:
        recommended = attribution.broken and row.knob in attribution.change
        if row.protocol == "race" and row.shown:
            retrain += [f"{row.knob} {row.after} ({harm})" for harm in _harm_of_race(row)]
        elif row.knob is not None and row.shown and not recommended and (row.effect is None or row.effect < 0):
            change.append(f"{row.knob} to {row.after} ({row.does if row.effect is None else _signed(row)})")
    advice = [candidate.label for candidate in attribution.candidates if candidate.word is CandidateWord.WRONG]
    parts = [
        f"change {joined(change)}" if change else "",
        f"retrain with {' or '.join(retrain)}" if retrain else "",
        f"follow the advice {' or '.join(advice)}" if advice else "",
    ]
    if any(parts):
        yield Advice("dont", "; ".join(filter(None, parts)))


def _harm_of_race(row: Row) -> Iterator[str]:
    if row.effect is None or row.does == "diverges":
        yield row.does
    elif row.effect < 0:
        yield _signed(row)
    elif _loses_at_equal_time(row):
        assert row.cost is not None
        yield f"{nats(row.cost.gain_at_equal_time or 0.0, row.digits, sign=True)} at equal time"


def _signed(row: Row) -> str:
    assert row.effect is not None
    return nats(row.effect, row.digits, sign=True)


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
        yield Advice("unknown", f"{_names(missing)}: too few runs yet", _sweep(findings, "confirm"))
    if beyond:
        yield Advice("unknown", f"{_names(beyond)}: over {MAX_CONFIRM_SEEDS} seeds needed, so any effect is small")


def _names(questions: Sequence[OpenQuestion]) -> str:
    """Return the first names, and how many more there are; several pieces of advice share a name."""
    names = [question.name for question in questions if not question.advice]
    advice = [question.name for question in questions if question.advice]
    names += advice if len(advice) == 1 else [f"{len(advice)} pieces of advice"] if advice else []
    more = len(names) - _NAMED
    return f"{', '.join(names[:_NAMED])} and {more} more" if more > 1 else joined(names)


# notes


def _edges(rows: Sequence[Row]) -> Iterator[Advice]:
    """Yield which ranges to widen because the settings to train lie at their ends, and which are at natural limits."""
    telling, quiet = (
        [row.edge.partition(WIDEN)[2] for row in rows if WIDEN in row.edge and row.shown == shown]
        for shown in (True, False)
    )
    if telling:
        yield Advice("do", f"widen {joined(telling)} (the best lies at that end)")
    if quiet:
        yield Advice("note", f"at an end of the range, too, with nothing shown: {joined(quiet)}")
    natural = [
        f"{row.knob} {row.after}"
        for row in rows
        if row.edge and WIDEN not in row.edge and row.knob not in UNITS  # whose limit is another setting
    ]
    if natural:
        yield Advice("note", f"at a natural limit: {joined(natural)}")


def _fork(findings: Findings, rows: Iterable[Row]) -> Iterator[Advice]:
    """Say which values are those of the control, which the fork sets, and not the config's own."""
    study = findings.study
    named = [row.knob for row in rows if row.protocol == "branch" and row.knob in OF_THE_CONTROL]
    moved = [name for name in named if name is not None and study.control[name] != study.baseline[name]]
    if study.origin is not None and moved:
        here, own = (joined(f"{name} {rounded(of[name])}" for name in moved) for of in (study.control, study.baseline))
        yield Advice("note", f"at the fork: {here}; in your config: {own}")


def _batches(attribution: Attribution) -> Iterator[Advice]:
    """Say what a smaller batch that is shown to gain may owe to short trials."""
    if any(knob.knob in attribution.headline and has_smaller_batch(knob) for knob in attribution.knobs):
        yield Advice("note", f"batch_size: {SMALL_BATCH}")


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
    return findings.results.command(command, *options.split())
