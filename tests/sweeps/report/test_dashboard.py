"""Notes and figures of a study of branches in optuna-dashboard."""

from __future__ import annotations

import dataclasses

import pytest

from sweeps.analysis.findings import Findings
from sweeps.report.dashboard import compared_with, confirm_note, titled_figures, trial_note
from sweeps.report.figures.fork import fork_picture
from sweeps.report.figures.stopped import stopped_picture
from sweeps.store.records import Outcome
from tests.helpers import branches, synthetic

RUNS = {run.key: run for run in branches.forked().runs}


@pytest.mark.parametrize(
    ("key", "note"),
    [
        ("origin:1337", "**origin, seed 1337** (run 0, seed 1337)\n\nHalted: its curve is a plateau"),
        ("race:origin:1338", "**race: the origin again, seed 1338** (run 2, seed 1338)\n\nHalted: a race of 1,200"),
        (
            "race:n_embd=768:1337",
            "**race: n_embd 768 from scratch, seed 1337** (run 3, seed 1337)\n\nDiffers from the baseline in "
            "n_head 12 → 24 and n_embd 384 → 768\n\nHalted: a race of 1,200 iterations",
        ),
        ("going-on", "**going on as before** (run 1, seed 1337)\n\nFinal loss 3.9"),
    ],
)
def test_a_run_before_the_trials_is_compared_with_the_origin_or_with_nothing(key: str, note: str) -> None:
    results, run = branches.forked(), RUNS[key]
    assert trial_note(run, best=results.best, reference=compared_with(run, results)).startswith(note)


def test_a_branch_is_compared_with_the_control() -> None:
    results, run = branches.forked(), RUNS["candidate:0"]
    note = trial_note(run, best=results.best, reference=compared_with(run, results))
    assert "Differs from the baseline in dropout 0.1 → 0.2\n\n" in note


def test_a_race_before_the_origins_run_is_compared_with_nothing() -> None:
    race = dataclasses.replace(RUNS["race:n_layer=12:1337"], outcome=Outcome.RUNNING)
    assert compared_with(race, synthetic.results([race], study=branches.study())) is None


def test_the_confirm_study_of_branches_holds_the_groundwork_too() -> None:
    assert "the origin going on, and the races. Neither" in confirm_note(branches.forked())
    assert "races" not in confirm_note(synthetic.full())


def test_pictures_are_figures_with_a_title_and_several_panels_are_numbered() -> None:
    findings = Findings(branches.forked())
    pictures = [fork_picture(findings), stopped_picture(findings.results)]
    two = dataclasses.replace(pictures[1], figures=pictures[1].figures[:1] * 2)
    assert {key: figure.layout.title.text for key, figure in titled_figures([pictures[0], two]).items()} == {
        "fork-0": "The origin and its branches",
        "stopped-curves-0": "Plateaus at the end of curves, and predictions for stopped trials",
        "stopped-curves-1": "Plateaus at the end of curves, and predictions for stopped trials (2)",
    }
