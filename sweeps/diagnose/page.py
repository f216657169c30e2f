"""A diagnosis as a page of text for a terminal: at most 40 lines."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from sweeps.diagnose.diagnosis import Diagnosis
from sweeps.diagnose.drawing import draw
from sweeps.diagnose.findings.finding import Finding
from sweeps.diagnose.judgement import RunState
from sweeps.diagnose.outlook import SOURCE, Expected
from sweeps.text import count, percent_whole, short, si

MOST = 40
"""lines of a page"""
_CURVE = 9
_FINDINGS = 4
_WORDS = {
    RunState.IMPROVING: "still improving",
    RunState.PLATEAU: "plateau",
    RunState.OVERFITTING: "overfitting",
    RunState.DIVERGED: "diverged",
    RunState.NAN: "not a number",
    RunState.TOO_SHORT: "too short to judge",
    RunState.BROKEN_DATA: "the validation data are wrong",
    RunState.UNREADABLE: "unreadable",
}


def page(diagnosis: Diagnosis, *, width: int, earlier: Sequence[Diagnosis] = ()) -> list[str]:
    """Return the page's lines. `earlier` are the runs before this one in the same log."""
    body = list(_head(diagnosis, width))
    drawn = draw(diagnosis, width=width, height=_CURVE)
    body += ["", *drawn, ""] if drawn else [""]
    body += [line for text in _facts(diagnosis) for line in _wrapped(text, width)]
    tail = [_line(other, width) for other in earlier[-3:]]
    if len(earlier) > 3:
        tail.insert(0, f"{len(earlier) - 3} runs before these are in --json")
    budget = MOST - len(body) - len(tail) - 1
    parts = [*_findings(diagnosis.findings, width), *_asides(diagnosis, width)]
    left_out = 0
    for part in parts:
        if len(part) <= budget and not left_out:
            body += part
            budget -= len(part)
        else:
            left_out += 1
    if left_out:
        tail.insert(0, f"{count(left_out, 'more remark')} in --json")
    return body + tail


def headline(diagnosis: Diagnosis) -> str:
    """Return the verdict in a line."""
    since = diagnosis.judgement.since
    words = _WORDS[diagnosis.judgement.state]
    if diagnosis.judgement.state is RunState.IMPROVING and diagnosis.judgement.slow:
        words += ", but slowly"
    return words if since is None else f"{words} since step {since:,}"


def slope_words(diagnosis: Diagnosis) -> str:
    """Return the slope with its interval in words; "" where it isn't known."""
    late, unit = diagnosis.judgement.late, diagnosis.measured.reading.unit
    if late is None:
        return ""
    return f"slope {late.value:+.4f} {unit} per 1000 iterations ({late.low:+.4f} to {late.high:+.4f})".replace("-", "−")


def _head(diagnosis: Diagnosis, width: int) -> Iterator[str]:
    m = diagnosis.measured
    yield from _wrapped(f"{m.run.name}: {headline(diagnosis)}", width)
    noise = "" if m.reading.noise is None else f"; an evaluation's noise is {m.reading.noise:.4f}"
    slope = slope_words(diagnosis)
    yield from _wrapped(diagnosis.judgement.reason + (f" Now: {slope}{noise}." if slope else ""), width)


def _facts(diagnosis: Diagnosis) -> Iterator[str]:
    facts = diagnosis.facts
    yield "; ".join(run_words(diagnosis)) + "."
    speed = []
    if facts.seconds_per_update:
        speed.append(f"{facts.seconds_per_update:.3g} s per update")
    if facts.flops:
        speed.append(si(facts.flops, "FLOP/s"))
    if facts.mfu is not None:
        speed.append(f"{percent_whole(facts.mfu)} of an {facts.card}'s own peak")
    if speed:
        yield "; ".join(speed) + "."
    yield from outlook_words(diagnosis)


def run_words(diagnosis: Diagnosis) -> list[str]:
    """Return what is known of the run's size, tokens and loss, in parts of a sentence."""
    facts = diagnosis.facts
    end = "" if facts.max_iters is None else f" of {facts.max_iters:,}"
    words = [f"step {facts.step:,}{end}"]
    if facts.loss is not None:
        more = [] if facts.perplexity is None else [f"perplexity {facts.perplexity:.4g}"]
        more += [] if facts.bits_per_byte is None else [f"{facts.bits_per_byte:.3f} bits per byte"]
        words.append(f"loss {facts.loss:.4f}" + (f" ({', '.join(more)})" if more else ""))
    if facts.parameters is not None:
        words.append(f"{si(facts.parameters)} parameters")
    if facts.tokens is not None:
        ratio = "" if facts.tokens_per_parameter is None else f" ({facts.tokens_per_parameter:.3g} per parameter)"
        words.append(f"{si(facts.tokens)} tokens{ratio}")
    if facts.tokens_per_update is not None:
        usual = facts.usual_tokens_per_update
        words.append(f"{si(facts.tokens_per_update)} tokens per update" + (f" (usual: {si(usual)})" if usual else ""))
    if facts.epochs is not None:
        words.append(f"{facts.epochs:.3g} epochs")
    if facts.learning_rate is not None:
        words.append(f"learning rate {short(facts.learning_rate)}")
    return words


def outlook_words(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield the forecast and the published law's trend, in sentences."""
    outlook = diagnosis.outlook
    ahead = [_expected(expected) for expected in (outlook.at_end, outlook.at_twice) if expected is not None]
    if ahead:
        yield f"Forecast as configured: {'; '.join(ahead)} (90 % intervals)."
    elif outlook.why:
        yield f"No forecast: {outlook.why}."
    if outlook.twice_tokens is not None and outlook.twice_parameters is not None:
        yield (
            f"Twice the tokens bring about {outlook.twice_tokens:.2f}, twice the parameters "
            f"{outlook.twice_parameters:.2f} (trend of {SOURCE})."
        )


def _expected(expected: Expected) -> str:
    return f"{expected.value:.3f} ({expected.low:.3f} to {expected.high:.3f}) at {expected.step:,}"


def _findings(findings: Sequence[Finding], width: int) -> Iterator[list[str]]:
    if not findings:
        yield ["", "Nothing in it points at a fault or a knob."]
    for number, finding in enumerate(findings[:_FINDINGS], start=1):
        towards = finding.direction if finding.knob is None else f"{finding.knob} {finding.direction}"
        fault = ", a fault that no sweep mends" if finding.fault else ""
        lead = [""] if number == 1 else []
        yield lead + _wrapped(f"{number}. {finding.code}{fault}: {finding.evidence} → {towards}", width, indent=3)
        if number == 1 or finding.fault:
            yield _wrapped(f"   check: {finding.check}.", width, indent=3)
    if len(findings) > _FINDINGS:
        yield [f"{count(len(findings) - _FINDINGS, 'weaker finding')} in --json"]


def _asides(diagnosis: Diagnosis, width: int) -> Iterator[list[str]]:
    for contradiction in diagnosis.contradicted:
        yield _wrapped(f"×  {contradiction.evidence}.", width, indent=3)
    for sentence in diagnosis.undecided:
        yield _wrapped(f"?  {sentence}", width, indent=3)
    for note in diagnosis.notes:
        yield _wrapped(f"note: {note}", width, indent=6)


def _line(diagnosis: Diagnosis, width: int) -> str:
    """Return an earlier run in one line."""
    first, last = diagnosis.measured.run.lines
    text = f"earlier run, lines {first:,} to {last:,}: {headline(diagnosis)}; step {diagnosis.facts.step:,}"
    return textwrap.shorten(text, width, placeholder=" …")


def _wrapped(text: str, width: int, *, indent: int = 0) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
