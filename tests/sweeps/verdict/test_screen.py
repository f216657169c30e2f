"""The answer on one screen: what gives way, the table's columns and bars, costs, ASCII."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.verdict.answer import Advice, Answer, Cost, Row
from sweeps.verdict.screen import LINES, screen
from sweeps.verdict.table import cost_words, table

FILES = {"report": "/runs/x/report.html", "store": "/runs/x/study.db", "more": "sweep verdict x --full"}


def row(knob: str | None = "dropout", **changes: Any) -> Row:
    fields: dict[str, Any] = {
        "protocol": "branch",
        "knob": knob,
        "before": "0.4" if knob else "",
        "after": "0" if knob else "",
        "does": "breaks it alone",
        "effect": 0.11,
        "low": 0.07,
        "high": 0.15,
        "seeds": 3,
        "shown": True,
    }
    return Row(**{**fields, **changes})


def answer(rows: tuple[Row, ...] = (), advice: tuple[Advice, ...] = (), sentence: str = "It is so.") -> Answer:
    return Answer(sentence=sentence, scale="", rows=rows, advice=advice)


QUIET = tuple(row(f"knob_{index}", shown=False, does="not enough evidence", effect=0.0) for index in range(9))
UNKNOWN = tuple(Advice("unknown", f"question {index}", "sweep confirm x") for index in range(6))
NOTES = tuple(Advice("note", f"note {index}") for index in range(6))
DO = Advice("do", "train it", "sweep export x -o x-best.py")


def test_what_fits_stays_whole() -> None:
    lines = screen(answer((row(), *QUIET[:3]), (DO, UNKNOWN[0], NOTES[0])), width=80, files=FILES)
    text = "\n".join(lines)
    for expected in ("knob_2", "question 0", "note 0", "It is so.", "train it: sweep export x -o x-best.py"):
        assert expected in text
    assert "nothing shown" not in text


def test_quiet_rows_then_notes_then_unknowns_then_blank_lines_give_way() -> None:
    shown = tuple(row(f"strong_{index}") for index in range(9))
    everything = answer((*shown, *QUIET), (DO, *UNKNOWN, *NOTES))
    text = "\n".join(screen(everything, width=80, files=FILES))
    assert "nothing shown of these alone: knob_0 0, knob_1 0, " in text
    assert "strong_8" in text
    assert "note 0" not in text
    assert "question 0" in text
    assert "train it" in text
    many = tuple(row(f"strong_{index}") for index in range(30))
    lines = screen(answer(many, (DO, *UNKNOWN)), width=80, files=FILES)
    assert len(lines) == LINES
    left = next(line for line in lines if "with --full" in line)
    assert int(left.split()[0]) + sum(line.startswith("strong_") for line in lines) == 30
    assert lines[-1] == "more     sweep verdict x --full"


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(0, 40),
    quiet=st.integers(0, 20),
    advice=st.integers(0, 9),
    words=st.integers(1, 60),
    width=st.integers(40, 200),
)
def test_it_never_exceeds_the_lines_and_never_drops_what_to_do(
    rows: int, quiet: int, advice: int, words: int, width: int
) -> None:
    cost = Cost(parameters=2.0, seconds=3.0, memory=2.0, gain_at_equal_time=-0.1)
    many = tuple(row(f"k{index}", cost=cost, protocol="race" if index % 2 else "branch") for index in range(rows))
    unclear = tuple(row(f"q{index}", shown=False) for index in range(quiet))
    full = answer((*many, *unclear), (DO, *UNKNOWN[:advice], *NOTES[:advice]), "word " * words)
    lines = screen(full, width=width, files=FILES)
    assert len(lines) <= LINES
    assert all(len(line) <= max(80, width) for line in lines)
    assert any("train it" in line for line in lines)


def places(line: str) -> tuple[int, int, int]:
    """Return the columns of the bar's ends and of its point."""
    marks = [index for index, mark in enumerate(line) if mark in "─●┼"]
    return marks[0], line.index("●"), marks[-1]


def test_bars_share_an_axis_in_proportion() -> None:
    rows = (row(effect=0.2, low=0.1, high=0.3), row("x", effect=0.4, low=0.3, high=0.5), row("y", low=None, high=None))
    _, first, second, alone = table(rows, width=140)
    zero = first.index("│")
    low, point, high = places(first)
    assert high - zero == pytest.approx(3 * (low - zero), abs=2)
    assert point - zero == pytest.approx(2 * (low - zero), abs=2)
    assert second.index("│") == zero
    assert places(second)[0] == pytest.approx(high, abs=1)
    assert alone.count("─") == 0
    assert alone.count("●") == 1
    (_, through) = table((row(effect=0.0, low=-0.1, high=0.1),), width=80)
    assert "─●─" in through
    (_, beside) = table((row(effect=0.1, low=-0.1, high=0.3),), width=80)
    assert beside.index("─") < beside.index("┼") < beside.index("●")


def test_columns_line_up_and_wider_screens_have_more() -> None:
    rows = (row(bits_per_byte=0.08), row("learning_rate", before="0.003", after="0.01", bits_per_byte=0.07))
    for width in (80, 100, 140):
        header, *lines = table(rows, width=width)
        assert {line.index("breaks") for line in lines} == {header.index("what it does")}
        assert {len(line) for line in lines} == {len(header)}
    assert "95 % interval" not in table(rows, width=80)[0]
    assert "95 % interval  bits/byte" in table(rows, width=120)[0]
    assert "0.07 to 0.15       +0.08" in table(rows, width=120)[1]


def test_races_stand_apart() -> None:
    lines = table((row(), row("n_embd", protocol="race"), row("n_layer", protocol="race")), width=80)
    assert [line.split()[0] for line in lines] == ["knob", "dropout", "if", "n_embd", "n_layer"]
    assert "if you" not in "\n".join(table((row("n_embd", protocol="race"),), width=80))


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (None, ""),
        (Cost(parameters=1.0, seconds=0.8, memory=0.8, gain_at_equal_time=0.1), ""),
        (Cost(parameters=1.0, seconds=1.01, memory=1.0), ""),
        (
            Cost(parameters=35.69, seconds=4.105, memory=6.92, gain_at_equal_time=-0.1166),
            "parameters × 36, time × 4.1, memory × 6.9; at equal time −0.12 nats",
        ),
        (Cost(parameters=2.0, seconds=None, memory=1.9), "parameters × 2.0, memory × 1.9"),
        (
            Cost(parameters=1.0, seconds=1.04, memory=1.0, gain_at_equal_time=0.3),
            "time × 1.04; at equal time +0.30 nats",
        ),
    ],
)
def test_costs(cost: Cost | None, words: str) -> None:
    assert cost_words(cost, digits=2) == words


def test_in_ascii_columns_still_line_up() -> None:
    lines = screen(answer((row(), row("x", low=-0.2, effect=-0.1, high=0.1))), width=80, files={}, encoding="ascii")
    assert all(line.isascii() for line in lines)
    header, first, second = lines[-3:]
    assert first.index("breaks") == second.index("breaks") == header.index("what it does")
    assert "0.4 -> 0" in first
    assert "-0.10" in second


def test_a_label_of_several_changes_has_room() -> None:
    label = "learning_rate 0.01, dropout 0.2"
    head, line, *_ = table([row(None, after=label, effect=0.2)], width=100)
    assert line.startswith(f"{label}  breaks it alone")
    assert head.index("what it does") == line.index("breaks it alone")
    _, cut, *_ = table([row(None, after=label * 2)], width=100)
    assert cut.startswith("several together")
