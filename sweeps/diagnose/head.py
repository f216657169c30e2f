"""The head of a logged run: the settings, the size and the tokens per iteration that it printed before its losses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.diagnose.lines import Fact
from sweeps.text import count
from trainer import config_file, nanogpt
from trainer.nanogpt import Value

_AFTER = re.compile(
    r"Overriding|tokens per iteration|found vocab_size|Initializing|Resuming|defaulting to vocab|number of parameters"
    r"|using fused|compiling the model|(?:step|iter)\s+\d+:"
)
"""what nanoGPT prints after a config file's text"""
_LONGEST = 500
"""lines of a config file that are read"""
_DIGITS = 18
"""of the largest number of tokens or parameters that is read"""
_FACTORS = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9}


@dataclass(frozen=True, kw_only=True)
class Head:
    """What a run printed before its losses."""

    settings: dict[str, Value]
    parameters: int | None
    tokens_per_iter: int | None
    vocab_size: int | None
    scratch: bool
    resumed: bool
    notes: tuple[str, ...]


def read_head(facts: Sequence[Fact], lines: Sequence[str]) -> Head:
    """Read a run's head from its facts, in order, and the file's cleaned lines."""
    settings: dict[str, Value] = {}
    notes: list[str] = []
    parameters = tokens = vocabulary = None
    for fact in facts:
        if fact.kind == "config":
            reading = config_file.read_text(_config_text(lines, fact))
            settings |= reading.settings
            notes += _passed(fact, reading.remarks)
        elif fact.kind == "override":
            key, text = fact.values[0], fact.values[1].strip()
            quoted = repr(text) if isinstance(nanogpt.DEFAULTS.get(key), str) else text
            reading = config_file.read_text(f"{key} = {quoted}")
            settings |= reading.settings
            notes += [f"Line {fact.line}: {why}; the setting was passed over." for why in reading.remarks.values()]
        elif fact.kind in ("tokens", "batch"):
            tokens = _count(fact.values[0]) or tokens
        elif fact.kind == "vocabulary":
            vocabulary = _count(next(filter(None, fact.values))) or vocabulary
        elif fact.kind in ("parameters", "total"):
            parameters = _parameters(*fact.values) or parameters
    kinds = {fact.kind for fact in facts}
    return Head(
        settings=settings,
        parameters=parameters,
        tokens_per_iter=tokens,
        vocab_size=vocabulary,
        scratch="scratch" in kinds,
        resumed="resume" in kinds,
        notes=tuple(dict.fromkeys(notes)),
    )


def _count(digits: str) -> int | None:
    """Return a number of tokens; None for text without a digit, and for a number that no run can have."""
    digits = digits.replace(",", "")
    return int(digits) if 0 < len(digits) <= _DIGITS else None


def _config_text(lines: Sequence[str], fact: Fact) -> str:
    """Return the config file's text after its line, each line without a timestamp or name that stood before that."""
    prefix = re.compile(re.sub(r"\d+", r"\\d+", re.escape(fact.prefix)))
    text: list[str] = []
    for line in lines[fact.line : fact.line + _LONGEST]:
        if _AFTER.search(line):
            break
        match = prefix.match(line)
        text.append(line[match.end() :] if match else line)
    return "\n".join(text)


def _passed(fact: Fact, passed: dict[int, str]) -> list[str]:
    """Say what was passed over in a config's text; its first line follows the fact's."""
    if not passed:
        return []
    first = min(passed)
    more = f" and {count(len(passed) - 1, 'more line')}" if len(passed) > 1 else ""
    return [f"Line {fact.line + first}{more} of the config {fact.values[0]} passed over: {passed[first]}."]


def _parameters(number: str, unit: str = "") -> int | None:
    """Return a printed number of parameters; None if it rounds to 0, or no model can have it."""
    try:
        value = float(number.replace(",", "").rstrip(".")) * _FACTORS[unit.upper()]
    except ValueError:
        return None
    return round(value) or None if value < 10**_DIGITS else None
