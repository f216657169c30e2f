"""The benchmark of a decision's cost: its trials are ones that the pruner learns from."""

from __future__ import annotations

import argparse
import random

from optuna.trial import TrialState

from benchmarks.pruning import pruner_cost
from sweeps.pruner import PlateauPruner

OPTIONS = argparse.Namespace(finished=20, evaluations=12, gap=10**9, storage=None)


def test_it_measures_decisions() -> None:
    found = pruner_cost.measured(OPTIONS)
    assert set(found) == {"first_ms", "median_ms", "slowest_ms", "grown_MiB"}
    assert 0 < found["median_ms"] <= found["slowest_ms"]


def test_its_finished_trials_inform_a_decision() -> None:
    draw = random.Random(1)
    trials = [pruner_cost.finished(draw, OPTIONS, stopped=number % 2 == 1) for number in range(20)]
    for number, trial in enumerate(trials):
        trial.number = number
    complete, stopped = trials[::2], trials[1::2]
    assert {trial.state for trial in complete} == {TrialState.COMPLETE}
    decided = {trial.number: pruner_cost.decision(trial) for trial in stopped}
    trial = stopped[-1]
    pruner = PlateauPruner()
    decision = pruner.decide(trial, [*complete, *stopped[:-1]], decided=decided)
    assert (decision.completed, decision.evaluation) == (10, 4)
    assert sum(curve.predicted is not None for curve in pruner._past.curves) == 9
