"""The oracle is Optuna's own TPESampler: every proposal is the same, whatever the history."""

from __future__ import annotations

import json
import math
import random
import warnings
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.engine.tpe import Past, Tpe

SPACE: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "share": FloatDistribution(0.0, 0.3, step=0.05),
    "kind": CategoricalDistribution(["a", "b", "c"]),
    "width": IntDistribution(32, 128, step=16),
}
COMPLETE, PRUNED, RUNNING, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL
MIXES = {
    "most are complete": [COMPLETE] * 5 + [PRUNED, RUNNING, FAIL],
    "none is complete": [PRUNED] * 5 + [RUNNING, FAIL],
    "all": [COMPLETE, PRUNED, PRUNED, RUNNING],
}
"""the good tenth is of the complete trials, as far as they go, then of the pruned ones, then of those not allowed"""


def drawn(mix: str, feasible: float, *, seed: int) -> list[dict[str, Any]]:
    """A history; some of its values are equal, and then the earlier trial is the better one."""
    draw = random.Random(seed)
    return [
        {
            "state": draw.choice(MIXES[mix]),
            "value": draw.choice([1.0, 1.0, 2.0, -3.0, math.inf]),
            "losses": draw.choices([1.0, 2.0, 3.0, math.inf, math.nan], k=draw.randrange(4)),
            "params": {
                "rate": draw.uniform(1e-4, 1e-1),
                "share": draw.choice([0.0, 0.1, 0.3]),
                "kind": draw.choice("abc"),
                "width": draw.choice([32, 64, 128]),
            },
            "lacks": draw.choice([None] * 5 + ["share"]),
            "broken": None if draw.random() < feasible else draw.choice([-1.0, *[1.0, 2.0, 3.0] * 8]),
            "supposed": draw.random() < 0.5,
        }
        for _ in range(45)
    ]


def trial_of(one: dict[str, Any]) -> FrozenTrial:
    params = {name: value for name, value in one["params"].items() if name != one["lacks"]}
    state, attrs = one["state"], {}
    if state is TrialState.RUNNING and one["supposed"]:  # what Optuna has put aside for a trial not yet begun
        attrs, params = {"tpe:relative_params:0": json.dumps(params)}, {}
    return create_trial(
        state=state,
        value=one["value"] if state is TrialState.COMPLETE else None,
        params=params,
        distributions={name: SPACE[name] for name in params},
        intermediate_values=dict(enumerate(one["losses"])),
        system_attrs=attrs,
        constraints={"fits": one["broken"]} if state.is_finished() and one["broken"] is not None else None,
    )


def proposals(history: list[dict[str, Any]], *, ours: bool) -> list[dict[str, Any]]:
    """Of asks after each few trials; what was asked ends like the trial before the next ask."""
    study, past, found = optuna.create_study(), Past(), []
    for number, one in enumerate(history):
        study.add_trial(trial_of(one))
        if number % 4:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler: BaseSampler = Tpe(seed=number, past=past)
            if not ours:
                sampler = TPESampler(multivariate=True, constant_liar=True, seed=number)
        study.sampler = sampler
        found.append(study.ask(SPACE))
        if len(found) > 1 and one["state"].is_finished():
            for step, loss in enumerate(one["losses"]):
                found[-2].report(loss, step)
            if one["broken"] is not None:
                found[-2].set_constraint("fits", one["broken"])
            study.tell(found[-2], one["value"] if one["state"] is COMPLETE else None, one["state"])
    return [trial.params for trial in found]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("feasible", [0.9, 0.0])
@pytest.mark.parametrize("mix", MIXES)
def test_its_proposals_are_optunas(mix: str, feasible: float, seed: int) -> None:
    history = drawn(mix, feasible, seed=seed)
    assert proposals(history, ours=True) == proposals(history, ours=False)


def test_a_trial_that_has_ended_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that runs, at every ask."""
    study, past, looked = optuna.create_study(), Past(), list[float]()
    original = FloatDistribution.to_internal_repr

    def noted(self: FloatDistribution, value: Any) -> float:
        looked.append(value)
        return original(self, value)

    for number in range(14):
        study.add_trial(
            create_trial(value=1.0, params={"x": number / 20}, distributions={"x": FloatDistribution(0, 1)})
        )
    monkeypatch.setattr(FloatDistribution, "to_internal_repr", noted)
    for seed in range(3):
        study.sampler = Tpe(seed=seed, past=past)
        study.ask({"x": FloatDistribution(0, 1)})
    for number in range(14):
        assert looked.count(number / 20) == 1


def test_a_study_that_maximises_is_refused() -> None:
    study = optuna.create_study(direction="maximize", sampler=Tpe(seed=0))
    for number in range(12):
        study.add_trial(
            create_trial(value=1.0, params={"x": number / 20}, distributions={"x": FloatDistribution(0, 1)})
        )
    with pytest.raises(ValueError, match="minimise"):
        study.ask({"x": FloatDistribution(0, 1)})
