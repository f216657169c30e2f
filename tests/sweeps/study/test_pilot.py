"""The pilot in a study: the lengths that it may try, how little seeds must differ, and its runs."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.study import pilot_runs
from sweeps.study.load import load
from sweeps.study.pilot import Chosen, Pilot, Tried
from sweeps.study.proposals import baseline_proposals, designed
from sweeps.study.study import Study
from tests.helpers import small_sweep, study_files


def piloted(**changes: Any) -> Study:
    return small_sweep.study(**{"pilot": {"effect": 0.4, "max_iters": 160}, "baseline_seeds": 3, **changes})


@pytest.mark.parametrize(
    ("first", "most", "lengths"),
    [
        (300, 4800, (300, 600, 1200, 2400, 4800)),
        (300, 4799, (300, 600, 1200, 2400)),
        (300, 599, (300,)),
        (300, 300, (300,)),
        (10, 20, (10, 20)),
    ],
)
def test_lengths_are_doubled_up_to_the_most(first: int, most: int, lengths: tuple[int, ...]) -> None:
    assert Pilot(max_iters=most).lengths(first) == lengths


@given(first=st.integers(10, 10**6), times=st.floats(1, 1000))
def test_the_next_length_would_be_too_long(first: int, times: float) -> None:
    most = int(first * times)
    lengths = Pilot(max_iters=most).lengths(first)
    assert lengths[0] == first
    assert all(later == 2 * earlier for earlier, later in itertools.pairwise(lengths))
    assert lengths[-1] <= most < 2 * lengths[-1]


@pytest.mark.parametrize(
    ("effect", "min_effect", "largest"),
    [(0.1, None, 0.025), (None, None, 0.025), (None, 0.04, 0.05), (0.2, 0.04, 0.05)],
)
def test_seeds_may_differ_by_a_quarter_of_the_effect(
    effect: float | None, min_effect: float | None, largest: float
) -> None:
    confirm = {"max_trials": 0, "min_effect": min_effect}
    study = piloted(pilot={"effect": effect, "max_iters": 160}, confirm=confirm)
    assert study.largest_sd == pytest.approx(largest)


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ((3.0, 3.1, 3.2), "at 1,200 iterations 3 seeds differ by 0.1 nats (sd), more than 0.025"),
        ((3.0, 3.02, 3.04), "at 1,200 iterations 3 seeds differ by 0.02 nats (sd), at most 0.025"),
        ((3.0, 3.01), "at 1,200 iterations 1 of 3 seeds has no final loss, so the noise is not known"),
        ((), "at 1,200 iterations 3 of 3 seeds have no final loss, so the noise is not known"),
    ],
)
def test_a_length_that_was_tried_in_words(losses: tuple[float, ...], words: str) -> None:
    tried = Tried(iters=1200, losses=losses)
    assert tried.in_words(0.025) == words
    assert tried.sd == (pytest.approx(statistics.stdev(losses)) if len(losses) == 3 else None)


def test_trials_are_as_long_as_the_pilot_chose(tmp_path: Path) -> None:
    chosen = Chosen(tried=(Tried(iters=20, losses=(3.0, 3.5, 4.0)), Tried(iters=40, losses=(3.0, 3.01, 3.02))))
    for horizon in ({"iters": 20}, {"tokens": 640}):
        study = piloted(horizon=horizon).model_copy(update={"chosen": chosen})
        assert study.iters == 40
        assert {proposal.config.max_iters for proposal in designed(study, vocab_size=257).every} == {40}
        assert pilot_runs.lengths(study) == (20, 40, 80, 160)
        assert Study.model_validate_json(study.model_dump_json()) == study
        assert "chosen" not in study.as_written()
        assert "pilot" in study.as_written()


def test_the_runs_are_the_baselines_and_unknown_to_the_search() -> None:
    study = piloted(baseline_seeds=4)
    runs = pilot_runs.proposals(study, 40, vocab_size=257)
    baseline = baseline_proposals(small_sweep.study(horizon={"iters": 40}, baseline_seeds=3), vocab_size=257)
    assert [run.config for run in runs] == [run.config for run in baseline]
    assert [run.key for run in runs] == ["pilot:40:1337", "pilot:40:1338", "pilot:40:1339"]
    assert {(run.phase, run.origin, run.knob, run.params is None) for run in runs} == {("pilot", "pilot", None, True)}


def test_a_study_that_loads_has_trials_at_every_length(tmp_path: Path) -> None:
    """Batches that suit the horizon suit twice the horizon, too."""
    text = study_files.TEXT.replace("  dropout: {low", "  batch_size: {choices: [3, 5, 8, 13]}\n  dropout: {low")
    path = study_files.write(tmp_path, text + "pilot: {max_iters: 10000}\n")
    study = load(path, devices_have_cuda=False)
    for iters in pilot_runs.lengths(study):
        designed(pilot_runs.at_length(study, iters), vocab_size=257)
