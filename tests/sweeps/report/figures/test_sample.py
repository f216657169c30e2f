"""The runs that a figure draws of very many, and what it says about the others."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.analysis.findings import Findings
from sweeps.report.figures.curves import curves_picture
from sweeps.report.figures.parallel import parallel_picture
from sweeps.report.figures.sample import LOWEST, MOST_DRAWN, note_on, sample
from sweeps.store.records import Run
from tests.helpers import synthetic

POINTS = synthetic.points(synthetic.BASELINE, 3.5, evaluations=2)


def runs(sampled: int, others: int = 5) -> list[Run]:
    """Return runs whose final losses fall with their number, so that the last ones are the lowest."""
    origins = ["one-at-a-time"] * others + ["sampler"] * sampled
    return [
        synthetic.run(number, origin, val_loss=4.0 - number / 1e5, points=POINTS)
        for number, origin in enumerate(origins)
    ]


@given(st.integers(0, 1000), st.integers(0, 600))
def test_it_never_draws_too_many_and_keeps_their_order(sampled: int, others: int) -> None:
    all_runs = runs(sampled, others)
    drawn = sample(all_runs, lambda run: run)
    assert len(drawn) == min(len(all_runs), MOST_DRAWN) or others > MOST_DRAWN - LOWEST
    assert len(drawn) <= MOST_DRAWN
    assert drawn == sorted(drawn, key=lambda run: run.id)
    assert len({run.id for run in drawn}) == len(drawn)


def test_few_are_drawn_as_they_are() -> None:
    few = runs(MOST_DRAWN - 5)
    assert sample(few, lambda run: run) == few
    assert note_on(len(few)) == ""


def test_of_many_it_draws_the_others_the_lowest_and_an_even_part() -> None:
    many = runs(10_000)
    drawn = [run.id for run in sample(many, lambda run: run)]
    assert drawn[:5] == [0, 1, 2, 3, 4]
    assert set(range(10_005 - LOWEST, 10_005)) <= set(drawn)
    spread = drawn[5:-LOWEST]
    assert len(spread) == MOST_DRAWN - LOWEST - 5
    steps = {later - earlier for earlier, later in itertools.pairwise(spread)}
    assert max(steps) - min(steps) <= 1


@pytest.mark.parametrize("draw", [lambda findings: curves_picture(findings.results), parallel_picture])
def test_a_figure_of_too_many_runs_says_what_it_leaves_out(draw: object) -> None:
    assert callable(draw)
    for sampled, words in ((20, False), (MOST_DRAWN + 20, True)):
        picture = draw(Findings(synthetic.results([synthetic.run(0, "baseline", points=POINTS), *runs(sampled)[5:]])))
        assert (f"Only {MOST_DRAWN} of {sampled + 1} are drawn" in picture.reading) is words
        assert len(picture.figures[0].data) <= MOST_DRAWN
