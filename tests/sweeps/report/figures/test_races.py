"""Gaps of the races: paired by seed, at equal tokens, with the range over seeds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sweeps.report.figures.races import race_gaps, races_picture
from sweeps.store.records import Outcome, Results
from tests.helpers import branches, synthetic
from tests.helpers.figures import note_texts, trace_named

HALTED: dict[str, Any] = {"outcome": Outcome.HALTED, "val_loss": None}


def _race(losses: dict[str, dict[int, float]]) -> Results:
    """Return a study with these runs before its trials, by key."""
    proposals = branches.before_trials(branches.study())
    runs = [
        branches.run_of(proposals[key], number, curve, **HALTED) for number, (key, curve) in enumerate(losses.items())
    ]
    return synthetic.results(runs, study=branches.study())


ORIGINS = {
    "origin:1337": {0: 7.6, 300: 5.0, 600: 4.5, 900: 4.3},
    "race:origin:1338": {0: 7.6, 300: 5.1, 600: 4.7},
}


def test_a_gap_is_paired_by_seed_up_to_what_both_have() -> None:
    wide = {"race:n_embd=768:1337": {0: 7.6, 300: 4.8, 600: 4.4, 900: 4.1}}
    wide |= {"race:n_embd=768:1338": {0: 7.6, 300: 4.8, 600: 4.4, 900: 4.1}}
    (gap,) = race_gaps(_race({**ORIGINS, **wide}))
    assert (gap.label, gap.seeds) == ("n_embd 768", (1337, 1338))
    assert gap.x == (0, 300, 600)  # the origin on seed 1338 ends at 600
    assert gap.lows == pytest.approx((0, 0.2, 0.1))
    assert gap.means == pytest.approx((0, 0.25, 0.2))
    assert gap.highs == pytest.approx((0, 0.3, 0.3))
    # nanoGPT: 6 blocks of 12 C**2 + 2 C, a final norm, and embeddings of 2048 tokens and 256 positions
    assert gap.parameters == 6 * (12 * 768**2 + 2 * 768) + 768 + (2048 + 256) * 768
    assert gap.seconds == 1


def test_a_race_on_a_seed_without_the_origins_curve_is_compared_with_its_mean() -> None:
    proposals = branches.before_trials(branches.study())
    runs = [
        branches.run_of(proposals[key], number, curve, **HALTED) for number, (key, curve) in enumerate(ORIGINS.items())
    ]
    deep = branches.run_of(proposals["race:n_layer=12:1337"], 9, {0: 7.6, 300: 5.15, 600: 4.8}, **HALTED)
    runs.append(dataclasses.replace(deep, seed=7))
    (gap,) = race_gaps(synthetic.results(runs, study=branches.study()))
    assert gap.means == pytest.approx((0, -0.1, -0.2))
    assert gap.lows == gap.highs == gap.means


def test_losses_that_are_not_finite_are_left_out() -> None:
    wide = {"race:n_embd=768:1337": {0: 7.6, 300: float("nan"), 600: 4.4}}
    (gap,) = race_gaps(_race({**ORIGINS, **wide}))
    assert gap.x == (0, 600)


@pytest.mark.parametrize("keys", [(), ("origin:1337",), ("race:n_embd=768:1337",)])
def test_nothing_to_compare(keys: tuple[str, ...]) -> None:
    curve = {0: 7.6, 300: 5.0}
    picture = races_picture(_race(dict.fromkeys(keys, curve)))
    assert picture.figures == ()
    assert picture.summary == "No race has been evaluated beside the origin's curve yet."


def test_the_picture_names_each_race_with_its_parameters() -> None:
    picture = races_picture(branches.forked())
    (figure,) = picture.figures
    assert trace_named(figure, "n_embd 768").x[-1] == 1200  # it goes on to twice its length
    texts = note_texts(figure)
    assert "n_embd 768<br>44.2M params" in texts
    assert "n_layer 12<br>22.1M params" in texts
    assert "the origin<br>11.5M params" in texts
    assert [shape.y0 for shape in figure.layout.shapes] == [0]
    low, high = figure.layout.yaxis.range
    assert low < -0.055 < 0.22 < high < 0.3
    assert "is 0.210 nats below the origin at iteration 1,200 (+0.105 half-way; 2 seeds)" in picture.summary
    assert "is 0.052 nats above the origin at iteration 600" in picture.summary
