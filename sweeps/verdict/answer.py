"""The answer at a glance: one sentence, a row a change, what to do next. The terminal, the report and `--json` show it.

Plain data, filled by `answer_of`; whoever shows it decides how. Numbers in texts are rounded to what their evidence
carries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Cost:
    """What a change costs, relative to the baseline: 1 is the same, None is not known."""

    parameters: float | None = None
    seconds: float | None = None
    memory: float | None = None
    # nats gained when both have trained for the same time, read off the curves; None where no curve reaches that far
    gain_at_equal_time: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One change and what it does. `effect`, `low` and `high` are nats gained, above 0 is better; 95 % interval."""

    protocol: Literal["branch", "race", "trial"]
    # nanoGPT's name of the knob; None for several changes together: before is "", and after names them, "" for all that
    # the search's best makes
    knob: str | None
    before: str
    after: str
    # at most five words: "breaks it alone", "only together with dropout", "not enough evidence", "hurts"
    does: str
    effect: float | None
    low: float | None
    high: float | None
    seeds: int
    # whether something, good or bad, is shown about it
    shown: bool
    cost: Cost | None = None
    # an end of the knob's range that `after` lies at, and the line of YAML to widen; "" where it lies inside
    edge: str = ""
    # the effect in bits per byte of text; None where the bytes per token aren't known
    bits_per_byte: float | None = None
    # decimals that effect, low and high carry
    digits: int = 2
    # what the effect is: of the change alone; what the best config loses without it; of all changes together; of a race
    measured: Literal["alone", "without it", "together", "race"] = "alone"


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do next, in one line. `command` can be copied into a shell; "" where there is none."""

    kind: Literal["do", "dont", "unknown", "note"]
    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """`sentence` answers which knob breaks the plateau, by how much and how surely; `scale` says in a line that the
    trials are a miniature of the user's run, or is ""."""

    sentence: str
    scale: str
    rows: tuple[Row, ...]
    advice: tuple[Advice, ...]
