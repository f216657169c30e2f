"""Findings on runs that were resumed: a jump of the loss, and a rate that stays at min_lr."""

from __future__ import annotations

import pytest

from sweeps.diagnose.diagnosis import Diagnosis, diagnosis_of
from sweeps.diagnose.findings.finding import Code
from sweeps.diagnose.log import read_log
from sweeps.diagnose.measured import Given
from tests.helpers.logged_runs import SETTINGS, falling
from tests.helpers.training_logs import HEAD, RESUMED, step_line, text_of


def lines(begin: int, end: int, *, jump: float = 0.0) -> list[str]:
    return [step_line(step, falling(step) + jump, falling(step) + jump) for step in range(begin, end + 1, 50)]


def resumed(at: int, *, jump: float = 0.0, end: int = 2000) -> Diagnosis:
    """Return the diagnosis of a run that was resumed at a step, with a jump of the loss after it."""
    again = [lines(at, at)[0], *lines(at + 50, end, jump=jump)]
    text = HEAD + text_of(lines(0, at)) + RESUMED + text_of(again)
    (run,) = read_log(text, name="run.log")
    return diagnosis_of(run, Given(settings=SETTINGS))


def codes(diagnosis: Diagnosis) -> list[Code]:
    return [finding.code for finding in diagnosis.findings]


def test_a_jump_after_resuming() -> None:
    assert codes(resumed(1000, jump=0.4))[0] is Code.RESUME_SHOCK
    assert Code.RESUME_SHOCK not in codes(resumed(1000))


@pytest.mark.parametrize(("at", "pinned"), [(1000, False), (1950, False), (2000, True), (2600, True)])
def test_a_run_resumed_beyond_its_decay_is_pinned_at_min_lr(at: int, pinned: bool) -> None:  # a table
    assert (Code.RESUME_PINNED_AT_MIN_LR in codes(resumed(at, end=at + 600))) is pinned


@pytest.mark.parametrize(("step", "pinned"), [(1500, False), (2000, False), (2001, True)])
def test_a_checkpoint_beyond_the_decay_is_pinned_at_min_lr(step: int, pinned: bool) -> None:  # a table
    (run,) = read_log(text_of(lines(0, 2000)), name="run.log")
    found = codes(diagnosis_of(run, Given(settings=SETTINGS, checkpoint_step=step)))
    assert (Code.RESUME_PINNED_AT_MIN_LR in found) is pinned


def test_a_run_that_outlives_its_decay_in_one_go_is_not_resumed() -> None:
    (run,) = read_log(text_of(lines(0, 2000)), name="run.log")
    settings = {**SETTINGS, "lr_decay_iters": 500}
    found = codes(diagnosis_of(run, Given(settings=settings, checkpoint_step=2000)))
    assert found[0] is Code.LR_DECAYED_EARLY
    assert Code.RESUME_PINNED_AT_MIN_LR not in found
