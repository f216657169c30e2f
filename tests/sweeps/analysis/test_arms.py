"""Arms: their configs, the keys of their trials, and which arm a run belongs to."""

from __future__ import annotations

import dataclasses

from sweeps.analysis.arms import BASELINE, PHASE, Arm, Arms
from sweeps.store.records import Results
from tests.helpers import confirming


def arms_of(results: Results) -> Arms:
    return Arms(results.study, results.best, vocab_size=results.data.vocab_size)


def test_keys_name_their_proposals() -> None:
    arms = arms_of(confirming.searched(confirming.slow, trials=12))
    listed = [BASELINE, arms.winner, *(Arm(frozenset([knob])) for knob in arms.changed), Arm(candidate=0)]
    assert len(listed) > 4
    for arm in [*listed, *(Arm(arm.knobs, arm.candidate, half=True) for arm in listed)]:
        proposal = arms.proposal(arm, 77)
        assert arms.proposed(proposal.key) == proposal
    assert arms.proposed("one-at-a-time:dropout:high") is None


def test_half_is_half_and_keeps_its_schedule() -> None:
    arms = arms_of(confirming.searched(confirming.slow, trials=12))
    whole, half = arms.config(BASELINE), arms.config(Arm(half=True))
    assert whole is not None
    assert half is not None
    assert half.max_iters == whole.max_iters / 2
    assert half.lr_decay_iters == half.max_iters
    assert half.learning_rate == whole.learning_rate


def test_a_run_of_another_config_belongs_to_no_arm() -> None:
    results = confirming.known("slow")
    arms = arms_of(results)
    runs = [run for run in results.runs if run.phase == PHASE and arms.arm_of(run) is not None]
    assert runs
    for run in runs:
        changed = dataclasses.replace(run, config=run.config.replace(beta2=run.config.beta2 / 2))
        assert arms.arm_of(changed) is None
