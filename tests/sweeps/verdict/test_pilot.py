"""Sentences about the pilot, in the verdict and in the report's facts."""

from __future__ import annotations

import dataclasses

import pytest

from sweeps.analysis.findings import Findings
from sweeps.report.publish import page_of
from sweeps.study.pilot import Chosen, Tried
from sweeps.verdict import pilot
from sweeps.verdict.verdict import verdict
from tests.helpers import synthetic
from tests.helpers.report_page import Page

NOISY = Tried(iters=300, losses=(3.4, 3.5, 3.6))
LOUD = Tried(iters=600, losses=(3.45, 3.5, 3.55))
QUIET = Tried(iters=600, losses=(3.48, 3.5, 3.52))
DETECTION = (
    # 0.02 + 2.705 x 0.02, with the factor of test_noise
    "The baseline's 3 seeds differ by 0.02 nats (sd). So on 5 seeds, a change that gains 0.074 nats is shown in four "
    "of five cases, and smaller gains are often missed."
)


def findings(*tried: Tried, max_trials: int = 60) -> Findings:
    """Return a study whose pilot has tried these lengths; without any it has not chosen yet."""
    study = synthetic.study(
        pilot={"effect": 0.1, "max_iters": 700},
        horizon={"iters": 300},
        confirm={"max_trials": max_trials},
    )
    if tried:
        study = study.model_copy(update={"chosen": Chosen(tried=tried)})
    results = synthetic.family([3.48, 3.5, 3.52] if tried else [], [3.45] if tried else [])
    return Findings(dataclasses.replace(results, study=study))


@pytest.mark.parametrize(
    ("tried", "sentence"),
    [
        (
            (QUIET,),
            "The pilot chose 600 iterations for a trial. There its 3 seeds differ by 0.02 nats (sd), at most the 0.025 "
            "that was asked for.",
        ),
        (
            (NOISY, QUIET),
            "The pilot chose 600 iterations for a trial: at 300 iterations 3 seeds differ by 0.1 nats (sd), more than "
            "0.025. There its 3 seeds differ by 0.02 nats (sd), at most the 0.025 that was asked for.",
        ),
        (
            (NOISY, LOUD),
            "The pilot chose 600 iterations for a trial: at 300 iterations 3 seeds differ by 0.1 nats (sd), more than "
            "0.025. There its 3 seeds still differ by 0.05 nats (sd), more than the 0.025 that was asked for, and "
            "pilot.max_iters=700 allows no longer trials.",
        ),
        (
            (Tried(iters=600, losses=(3.48, 3.5, 3.52), unigram_loss=3.6),),
            "The pilot chose 600 iterations for a trial, the most that pilot.max_iters=700 allows. There 3 seeds reach "
            "3.52 nats, where token frequencies alone give 3.60: trials are too short to tell what the settings do to "
            "a trained model.",
        ),
        (
            (Tried(iters=300, losses=(3.4, 3.5)),),
            "The pilot chose 300 iterations for a trial. There a run of the baseline has no final loss, so the pilot "
            "could not measure the noise.",
        ),
    ],
)
def test_what_the_pilot_chose_and_what_can_be_detected(tried: tuple[Tried, ...], sentence: str) -> None:
    judged = findings(*tried)
    assert list(pilot.sentences(judged)) == [sentence, DETECTION]
    assert verdict(judged).cautions[2:4] == (sentence, DETECTION)


def test_before_it_has_chosen() -> None:
    assert list(pilot.sentences(findings())) == ["The pilot has not chosen the length of trials yet."]


def test_without_a_confirm_phase_nothing_is_said_to_be_detected() -> None:
    assert len(list(pilot.sentences(findings(QUIET, max_trials=0)))) == 1


def test_a_study_without_a_pilot_has_no_sentence() -> None:
    assert list(pilot.sentences(Findings(synthetic.family([3.48, 3.5, 3.52], [3.45])))) == []


def test_the_report_has_its_facts() -> None:
    text = Page(page_of(findings(NOISY, QUIET))).text
    assert (
        "pilotat 300 iterations 3 seeds differ by 0.1 nats (sd), more than 0.025; at 600 iterations 3 seeds differ by "
        "0.02 nats (sd), at most 0.025: trials have 600 iterations"
    ) in text
    assert (
        "noise3 seeds of the baseline differ by 0.02 nats (sd) at 600 iterations; effects above 0.074 nats can be "
        "shown on 5 seeds"
    ) in text
