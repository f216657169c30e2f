"""Tables of changes: one per protocol, costs where something costs, nothing but text from a study."""

from __future__ import annotations

import dataclasses
import re

import pytest

from sweeps.report.change_table import change_tables
from sweeps.verdict.answer import Cost, Row
from tests.helpers.report_page import Page

DROPOUT = Row("branch", "dropout", "0.1", "0", "breaks it alone", 0.10, 0.06, 0.14, 3, True)
WIDTH = Row("race", "n_embd", "8", "64", "behind at equal time", 2.0, 1.5, 2.5, 5, True)


def columns(html: str) -> list[str]:
    return re.findall(r'<th scope="col"[^>]*><button type="button">([^<]+)<', html)


def test_a_race_has_a_table_and_a_scale_of_its_own() -> None:
    branch, both = change_tables([DROPOUT]), change_tables([WIDTH, DROPOUT])
    assert both.startswith(branch)  # branches first, and drawn as if there were no race
    assert Page(both).text.count("Change") == 2
    assert len(Page(both).named("table")) == 2
    assert change_tables([]) == ""


def test_all_three_protocols_are_told_apart() -> None:
    trial = dataclasses.replace(DROPOUT, protocol="trial")
    captions = re.findall(r"<caption>([^<]+)</caption>", change_tables([DROPOUT, trial, WIDTH]))
    assert [caption.split(":")[0] for caption in captions] == [
        "From the checkpoint",
        "From scratch",
        "If you retrain from scratch",
    ]


def test_costs_are_columns_only_where_something_differs() -> None:
    assert columns(change_tables([DROPOUT])) == ["Change", "What it does", "Nats, with the 95 % interval", "Seeds"]
    same = dataclasses.replace(DROPOUT, cost=Cost(parameters=1.0, seconds=1.001))
    assert len(columns(change_tables([same]))) == 4
    slower = dataclasses.replace(DROPOUT, cost=Cost(parameters=1.0, seconds=1.5, gain_at_equal_time=-0.02))
    html = change_tables([same, slower])
    assert columns(html)[4:] == ["Time", "Equal time"]
    assert "1.5×" in html
    assert "−0.02" in html


def test_numbers_have_the_digits_that_they_carry_and_sort_by_all_of_them() -> None:
    html = change_tables([dataclasses.replace(DROPOUT, effect=0.1049, digits=3)])
    assert "<strong>+0.105</strong> <small>+0.060 to +0.140</small>" in html
    assert 'data-value="0.1049"' in html


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"low": None, "high": None}, "+0.10 interval not known"),
        ({"effect": None, "low": None, "high": None, "seeds": 0}, "breaks it alone–0"),
        ({"measured": "without it"}, "+0.06 to +0.14lost without it"),
        ({"knob": None, "before": "", "after": ""}, "all changes together"),
        ({"before": ""}, "dropout 0breaks"),
    ],
)
def test_what_is_not_known_is_said(change: dict[str, object], shown: str) -> None:
    row = dataclasses.replace(DROPOUT, **change)  # type: ignore[arg-type]
    assert shown in Page(change_tables([row])).text


def test_a_row_is_only_text() -> None:
    evil = "<img src=x onerror=alert(1)>\"'"
    html = change_tables([dataclasses.replace(DROPOUT, knob=evil, before=evil, after=evil, does=evil)])
    assert "<img" not in html
    page = Page(html)
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert page.text.count("onerror") == 4


def test_several_changes_have_their_names() -> None:
    several = dataclasses.replace(DROPOUT, knob=None, before="", after="learning_rate & dropout")
    every = dataclasses.replace(several, after="")
    html = change_tables([several, every])
    assert "<strong>learning_rate &amp; dropout</strong>" in html
    assert html.count("<strong>all changes together</strong>") == 1
