"""Lines of a training log: losses and facts of a run, found anywhere in a line.

So timestamps, names of processes and the marks of comments before them do no harm. Escapes of a terminal are removed
first. What looks like a loss and can't be read whole is kept as Damaged, never half read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sweeps.diagnose.run import LoggedBits, LoggedIter, LoggedPoint

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1bO[A-Z]|\x1b[@-_]"  # as bytes of a terminal
    r"|\^\[\[[0-?]*[@-~]|\^\[O[A-Z]|\^[CDZ\\](?![\w\\])"  # as a terminal echoes keys
)
_CONTROL = re.compile(r"[\x01-\x07\x0b-\x1f\x7f-\x9f\u200b\ufeff]")
_ERASED = re.compile(r"[^\x08]\x08")

_END = r"(?=$|[\s,;:|/)\]}\"'#<]|\\n|step|iter|saving)"
_NUMBER = r"([-+]?(?:\d{1,300}\.?\d*(?:e[-+]?\d{1,3})?|nan|inf(?:inity)?))" + _END
_STEP = r"(\d{1,3}(?:,\d{3})+|\d{1,12})"
_PATTERNS = {
    "evaluation": re.compile(
        rf"(?:step|iter)\s+{_STEP}(?:\s*/\s*[\d,]+)?\s*[:,|-]?\s*"
        rf"(?:train(?:ing)?[ _]loss\s*[:=]?\s*{_NUMBER}\s*[,|;/]?\s*)?(?:val(?:idation)?[ _]loss\s*[:=]?\s*{_NUMBER})?",
        re.IGNORECASE,
    ),
    "iteration": re.compile(rf"iter\s+{_STEP}\s*:\s*loss\s*[:=]?\s*{_NUMBER}", re.IGNORECASE),
    "nanochat": re.compile(
        rf"step\s+{_STEP}(?:/\d+)?\s*(?:\([\d.]+%\)\s*\|\s*(?:train[ _])?loss:|\|\s*training loss:)\s*{_NUMBER}",
        re.IGNORECASE,
    ),
    "bits": re.compile(rf"step\s+{_STEP}\s*\|\s*validation bpb:\s*{_NUMBER}", re.IGNORECASE),
}
_PLAIN = re.compile(r"iter (\d{1,12}): loss (\d{1,9}\.(\d{1,9})), time (\d{1,9}\.\d\d)ms(?:, mfu (-?\d{1,9}\.\d\d)%)?")
"""an iteration as nanoGPT prints it: most lines of a long log, read three times as fast"""
_LOOKS = re.compile(
    r"(?:step|iter)\s+\d[\d,]*\b.{0,40}?\b(?:loss|bpb)|train loss|val(?:idation)? loss|val(?:idation)? bpb"
)
_SUMMARY = re.compile(r"\s*(?:final: val loss|minimum validation bpb:)", re.IGNORECASE)
"""A loss at the end that is no part of the curve: this project's trainer has it on more windows, and nanochat repeats
its lowest."""
_RATE = re.compile(rf"\b(?:lr|learning[ _]rate)\s*[:=]?\s*{_NUMBER}", re.IGNORECASE)
_SHARE = re.compile(rf"\blrm\s*[:=]?\s*{_NUMBER}", re.IGNORECASE)
_TIME = re.compile(r"\b(?:time|dt)\s*[:=]?\s*([\d.]+)\s*(ms|s)\b", re.IGNORECASE)
_MFU = re.compile(r"mfu\s*[:=]?\s*(-?[\d.]+)\s*%?", re.IGNORECASE)

_FACTS = {
    "config": re.compile(r"Overriding config with (.+?):\s*$"),
    "override": re.compile(r"Overriding: (\w+) = (.*)$"),
    "tokens": re.compile(r"tokens per iteration(?: will be)?\s*[:=]\s*([\d,]+)", re.IGNORECASE),
    "batch": re.compile(r"Total batch size\s*([\d,]+) =>"),
    "parameters": re.compile(r"number of parameters\s*[:=]?\s*([\d.,]+)\s*([KMB]?)\b", re.IGNORECASE),
    "total": re.compile(r"^\s*total\s*:\s*([\d,]{4,})\s*$"),
    "vocabulary": re.compile(
        r"vocab_size = (\d+) \(inside|defaulting to vocab_size of GPT-2 to (\d+)|Vocab size: ([\d,]*\d)\s*$"
    ),
    "scratch": re.compile(r"Initializing a new model from scratch|Initializing from OpenAI GPT-2 weights"),
    "resume": re.compile(r"Resuming (?:training|optimization) from"),
}
"""what nanoGPT and nanochat print before the first loss"""
_FACT_WORDS = (
    "verriding",
    "tokens per iter",
    "batch size",
    "of parameters",
    "total",
    "Initializing",
    "Resuming",
    "vocab_size",
    "Vocab size",
)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss that was read, with the text of its numbers, by which repeated lines are known."""

    record: LoggedPoint | LoggedIter | LoggedBits
    digits: tuple[str, ...]
    nanochat: bool

    @property
    def line(self) -> int:
        """Line of the file, from 1."""
        return self.record.line

    @property
    def key(self) -> tuple[object, ...]:
        """What is equal for a line and its repetition."""
        return (type(self.record), self.record.step, self.digits)


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something that a trainer prints before the first loss: a key of the table of facts, with its groups."""

    kind: str
    values: tuple[str, ...]
    line: int
    prefix: str
    """the line's text before it"""


@dataclass(frozen=True, kw_only=True)
class Damaged:
    """A line that looks like a loss and can't be read whole."""

    line: int
    shown: str


Event = Loss | Fact | Damaged


def cleaned(line: str) -> str:
    """Return a line without a terminal's escapes, echoed keys, erased and control characters.

    NUL and U+FFFD stay: they stand for bytes that were lost, so that a number beside them isn't whole.
    """
    if not line.isprintable() or "^" in line:
        line = _ESCAPES.sub("", line)
        while (shorter := _ERASED.sub("", line)) != line:
            line = shorter
        line = _CONTROL.sub("", line.replace("\r", " ").replace("\t", " ").replace("\x08", ""))
    return line


def events(lines: Sequence[str], *, whole: bool) -> Iterator[Event]:
    """Yield the events of cleaned lines, in order. `whole`: the last line has an end, so that it isn't cut."""
    decimals: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        cut = number == len(lines) and not whole
        if not cut and (plain := _PLAIN.fullmatch(line)):
            yield _plain(plain, number, decimals)
            continue
        low = line.lower()
        if "loss" in low or "bpb" in low:
            yield from _losses(line, number, decimals, cut=cut)
        if any(word in line for word in _FACT_WORDS):
            for kind, pattern in _FACTS.items():
                if match := pattern.search(line):
                    yield Fact(kind=kind, values=match.groups(), line=number, prefix=line[: match.start()])


def _plain(match: re.Match[str], line: int, decimals: dict[str, int]) -> Loss:
    step, loss, places, milliseconds, mfu = match.groups()
    decimals["iteration"] = max(decimals.get("iteration", 0), len(places))
    share = None if mfu is None or mfu.startswith("-") else float(mfu) / 100
    record = LoggedIter(
        step=int(step),
        loss=float(loss),
        lr=None,
        lr_share=None,
        seconds=float(milliseconds) / 1000,
        mfu=share,
        line=line,
    )
    return Loss(record=record, digits=(loss,), nanochat=False)


def _losses(line: str, number: int, decimals: dict[str, int], *, cut: bool) -> Iterator[Loss | Damaged]:
    """Yield the losses of a line.

    `decimals` are those of each kind so far, of which a cut line may have lost some; "val" is in it once an evaluation
    had a validation loss.
    """
    found = [
        (match.start(), kind, match)
        for kind, pattern in _PATTERNS.items()
        for match in pattern.finditer(line)
        if match[match.re.groups] is not None or (kind == "evaluation" and match[2] is not None)
    ]
    starts = {start for start, kind, _ in found if kind == "nanochat"}
    found = [entry for entry in found if entry[1] != "evaluation" or entry[0] not in starts]
    found.sort(key=lambda entry: entry[0])
    remaining, damaged = line, False
    for place, (start, kind, match) in enumerate(found, start=1):
        end = found[place][0] if place < len(found) else len(line)
        record = _RECORDS[kind](match, line[match.end() : end], number)
        digits = tuple(text for text in match.groups()[1:] if text is not None)
        places = len(digits[-1].partition(".")[2])
        short = cut and not line[match.end() :].strip() and places < decimals.get(kind, 0)
        if short or (
            kind == "evaluation" and match[3] is None and ("val" in line[match.end() : end] or "val" in decimals)
        ):
            damaged = True
        else:
            yield Loss(record=record, digits=digits, nanochat=kind in ("nanochat", "bits"))
        decimals[kind] = max(decimals.get(kind, 0), places)
        if kind == "evaluation" and match[3] is not None:
            decimals["val"] = 1
        remaining = remaining.replace(line[start : match.end()], " ", 1)
    if damaged or (_LOOKS.search(remaining.lower()) and not _SUMMARY.match(remaining)):
        yield Damaged(line=number, shown=line.strip()[:60])


def _evaluation(match: re.Match[str], rest: str, line: int) -> LoggedPoint:
    train, val = (None if text is None else float(text) for text in match.group(2, 3))
    return LoggedPoint(step=_whole(match[1]), train_loss=train, val_loss=val, lr=_field(_RATE, rest), line=line)


def _iteration(match: re.Match[str], rest: str, line: int) -> LoggedIter:
    time, mfu = _TIME.search(rest), _field(_MFU, rest)
    seconds = None if time is None else _float(time[1])
    return LoggedIter(
        step=_whole(match[1]),
        loss=float(match[2]),
        lr=_field(_RATE, rest),
        lr_share=_field(_SHARE, rest),
        seconds=seconds / 1000 if seconds is not None and time is not None and time[2].lower() == "ms" else seconds,
        mfu=None if mfu is None or mfu <= 0 else mfu / 100,  # nanochat prints 0 for a card that it doesn't know
        line=line,
    )


def _bits(match: re.Match[str], rest: str, line: int) -> LoggedBits:  # noqa: ARG001 (as its siblings)
    return LoggedBits(step=_whole(match[1]), val_bits=float(match[2]), line=line)


_RECORDS: dict[str, Callable[[re.Match[str], str, int], LoggedPoint | LoggedIter | LoggedBits]] = {
    "evaluation": _evaluation,
    "iteration": _iteration,
    "nanochat": _iteration,
    "bits": _bits,
}


def _field(pattern: re.Pattern[str], text: str) -> float | None:
    match = pattern.search(text)
    return None if match is None else _float(match[1])


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _whole(text: str) -> int:
    return int(text.replace(",", ""))
