"""Notes of the advice: values that the fork sets, and limits that are natural."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.analysis.findings import Findings
from sweeps.text import rounded
from sweeps.verdict.advice import advice_of
from sweeps.verdict.answer import Row
from tests.helpers import branches


def row(knob: str, **changes: Any) -> Row:
    fields: dict[str, Any] = {"before": "1", "after": "2", "does": "hurts", "effect": 0.1, "low": 0.0, "high": 0.2}
    return Row(**{"protocol": "branch", "knob": knob, "seeds": 3, "shown": True, **fields, **changes})


def notes(*rows: Row) -> list[str]:
    findings = Findings(branches.forked(races=False, searched=False))
    return [advice.text for advice in advice_of(findings, rows) if advice.kind == "note"]


def test_what_the_fork_sets_is_told_from_the_users_own() -> None:
    study = Findings(branches.forked(races=False, searched=False)).study
    at_the_fork, own = study.control["learning_rate"], study.baseline["learning_rate"]
    assert at_the_fork != own
    expected = f"at the fork: learning_rate {rounded(at_the_fork)}; in your config: learning_rate {rounded(own)}"
    assert notes(row("learning_rate"), row("dropout")) == [expected]
    assert notes(row("dropout")) == []


@pytest.mark.parametrize(
    ("knob", "edge", "expected"),
    [
        ("dropout", "at its natural limit, 0", ["at a natural limit: dropout 2"]),
        ("weight_decay", "", []),
        # whose limit is the rate, and not the value in the row
        ("min_lr", "at its natural limit, 1 of learning_rate", []),
    ],
)
def test_natural_limits(knob: str, edge: str, expected: list[str]) -> None:
    assert [note for note in notes(row(knob, edge=edge)) if "natural" in note] == expected
