"""Evidence: contrasts of a study's arms, whose noise they are given, and the baseline's plateaus."""

from __future__ import annotations

import dataclasses

import pytest
from scipy import stats

from sweeps.analysis.arms import BASELINE, Arm
from sweeps.analysis.evidence import Evidence
from tests.helpers import attributions, confirming, synthetic


def test_the_whole_change_has_its_own_noise_and_a_knob_alone_that_of_others_too() -> None:
    """Student's t on the best's own differences. A knob alone has more degrees of freedom than its seeds give."""
    noise = {"luck": 0.0, "noise": 0.03}  # the same for all arms, so that others' noise applies
    knobs = {name: knob for name, knob in synthetic.KNOBS.items() if name != "n_embd"}  # all of one shape
    searched = confirming.searched(confirming.slow, **noise, knobs=knobs)
    evidence = Evidence(confirming.confirmed(searched, confirming.slow, **noise))
    winner = evidence.arms.winner
    assert len(winner.knobs) > 1
    baseline, best = evidence.losses(BASELINE), evidence.losses(winner)
    seeds = sorted(baseline.keys() & best.keys())
    paired = stats.ttest_rel([baseline[seed] for seed in seeds], [best[seed] for seed in seeds]).confidence_interval()
    effect = evidence.gain(winner, threshold=0.0)
    assert effect is not None
    assert (effect.low, effect.high) == (pytest.approx(paired.low), pytest.approx(paired.high))
    lasting = evidence.lasting(winner)
    assert lasting is not None
    assert lasting.degrees == lasting.n - 1
    gains = [evidence.gain(Arm(frozenset([knob])), threshold=0.0) for knob in winner.knobs]
    assert any(gain is not None and gain.method == "layout" and gain.degrees > gain.n - 1 for gain in gains)


def test_looking_after_every_run_asks_more_of_a_claim() -> None:
    """As much as Pocock's bound for four looks: one-sided 0.05 becomes 0.02."""
    evidence = Evidence(confirming.known("slow"))
    effect = evidence.gain(evidence.arms.winner, threshold=0.0)
    assert effect is not None
    assert effect.se is not None
    assert effect.degrees is not None
    p_of_one_look = stats.t.sf(effect.mean / effect.se, effect.degrees)
    assert effect.p == pytest.approx(min(1.0, 2.5 * p_of_one_look))
    assert effect.lower == pytest.approx(effect.mean - stats.t.isf(0.02, effect.degrees) * effect.se)
    assert effect.low == pytest.approx(effect.mean - stats.t.isf(0.025, effect.degrees) * effect.se)


@pytest.mark.parametrize("stuck", [0, 1, 3])
def test_plateaued_counts_complete_baseline_runs_by_the_state_of_their_curves(stuck: int) -> None:
    """Six seeds: some are stuck at the end, and the last one diverged."""
    results = attributions.swept()
    ids = [run.id for run in Evidence(results).runs(BASELINE)]
    assert len(ids) == 6
    runs = []
    for run in results.runs:
        if run.id in ids:
            falling = synthetic.points(run.config, 3.5)
            points = synthetic.stuck(falling, since=8) if run.id in ids[:stuck] else falling
            diverged = {"outcome": "diverged", "val_loss": None} if run.id == ids[-1] else {}
            run = dataclasses.replace(run, points=points, **diverged)
        runs.append(run)
    assert Evidence(dataclasses.replace(results, runs=tuple(runs))).plateaued() == (stuck, 5)
