"""The plateau pruner for any Optuna study, this project's or another's.

    study = optuna.create_study(pruner=PlateauPruner())

    def objective(trial):
        ...
        trial.set_user_attr("lr", [rate_at(evaluation) for evaluation in range(E + 1)])
        for evaluation in range(E + 1):
            trial.report(validation_loss, step=evaluation)
            if trial.should_prune():
                raise optuna.TrialPruned()
        return validation_loss

Steps are evaluations, 0 at the start and E at the horizon, at equal distances and the same for all trials. The
attribute `lr` holds the learning rate at each; without it the rate is taken for constant, the horizon for the last step
of a complete trial, and the numbers say so (`schedule_known: false`). Why a trial was stopped stands in its attribute
`pruned`; what would have stopped a sentinel, which goes on all the same, in `sentinel`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeps.pruning.forecast import Curve, diverged
from sweeps.pruning.law import Schedule
from sweeps.pruning.rule import Decision, Rule, decide

LR, PRUNED, SENTINEL = "lr", "pruned", "sentinel"
"""user attributes of a trial"""


class PlateauPruner(optuna.pruners.BasePruner):
    """Stops a trial that will hardly end among the best tenth, as predicted from all curves of the study.

    See sweeps.pruning.rule.Rule for `epsilon`, `margin`, `looks`, `min_completed` and `trials`. One in 1 / `sentinel`
    of the trials it would stop (by a hash of their number) goes on, to show what pruning costs; 0: none does. All that
    it decides on is in the study; it only keeps the curves of trials that have ended. Raises ValueError for a study
    that maximises or has several objectives.
    """

    def __init__(
        self,
        *,
        epsilon: float = Rule.epsilon,
        margin: float = Rule.margin,
        looks: tuple[float, float] = Rule.looks,
        min_completed: int = Rule.min_completed,
        sentinel: float = 0.1,
        trials: int | None = None,
    ) -> None:
        self.rule = Rule(epsilon=epsilon, margin=margin, looks=looks, min_completed=min_completed, trials=trials)
        self.sentinel = sentinel
        self._past = _Past()

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to stop `trial` at the evaluation it reported last."""
        if study.directions != [StudyDirection.MINIMIZE]:
            raise ValueError("PlateauPruner follows one loss that is minimised; this study does not minimise one")
        # the trial that Optuna's own loop passes lacks attributes set through the storage
        noted = study._storage.get_trial(trial._trial_id).user_attrs
        if not trial.intermediate_values or SENTINEL in noted:
            return False
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        if trial.state.is_finished():
            ended = [other for other in ended if other.number != trial.number]
        decision = self.decide(trial, ended)
        if not decision.prune:
            return False
        spared = decision.reason != "diverged" and is_sentinel(trial.number, share=self.sentinel)
        numbers = self.numbers(decision, trial)
        study._storage.set_trial_user_attr(trial._trial_id, SENTINEL if spared else PRUNED, numbers)
        return not spared

    def decide(self, trial: FrozenTrial, others: Sequence[FrozenTrial]) -> Decision:
        """What the rule says of a trial at its last evaluation, given finished trials of its study."""
        past = self._past = self._past.moved_on(others, trial.distributions)
        return decide(self.rule, _curve(trial, past.ranges, horizon=past.horizon), past.curves)

    def numbers(self, decision: Decision, trial: FrozenTrial) -> dict[str, Any]:
        """A decision as a trial's attribute."""
        predicted = decision.prediction
        return {
            "rule": "plateau",
            "reason": decision.reason,
            "evaluation": decision.evaluation,
            "val_loss": trial.intermediate_values[decision.evaluation],
            "predicted": dataclasses.asdict(predicted) if predicted else None,
            "low": decision.low,
            "high": decision.high,
            "chance": decision.chance,
            "epsilon": self.rule.epsilon,
            "best": decision.best,
            "completed": decision.completed,
            "schedule_known": LR in trial.user_attrs,
        }


def is_sentinel(trial: int, *, share: float) -> bool:
    """Whether trial number `trial` goes on where others are stopped: a share of all numbers, chosen by their hash."""
    return zlib.crc32(str(trial).encode()) / 2**32 < share


@dataclass(frozen=True, kw_only=True, eq=False)
class _Past:
    """Trials that have ended, with all that the next decision needs of them."""

    trials: Sequence[FrozenTrial] = ()
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    """of a trial that is compared with them"""
    ranges: Mapping[str, BaseDistribution] = field(default_factory=dict)
    """of the parameters that it shares with all of them"""
    horizon: int = 0
    """last step of the complete ones"""
    curves: Sequence[Curve] = ()
    """of those that have been evaluated"""

    def moved_on(self, trials: Sequence[FrozenTrial], distributions: Mapping[str, BaseDistribution]) -> Self:
        """The same for these; a trial that was here keeps its curve, for what has ended changes no more."""
        same = len(trials) == len(self.trials) and all(map(operator.is_, trials, self.trials))
        if same and distributions == self.distributions:
            return self
        horizon = max((trial.last_step or 0 for trial in trials if trial.state is TrialState.COMPLETE), default=0)
        before = set(map(id, self.trials))
        new = [trial for trial in trials if id(trial) not in before]
        grown = distributions == self.distributions and len(trials) - len(new) == len(before)
        ranges = {
            name: distribution
            for name, distribution in sorted((self.ranges if grown else distributions).items())
            if all(name in trial.params for trial in (new if grown else trials))
        }
        known = dict(zip(map(id, _evaluated(self.trials)), self.curves, strict=True))
        if (horizon, ranges) != (self.horizon, self.ranges):
            known = {}
        return type(self)(
            trials=trials,
            distributions=distributions,
            ranges=ranges,
            horizon=horizon,
            curves=tuple(known.get(id(one)) or _curve(one, ranges, horizon=horizon) for one in _evaluated(trials)),
        )


def _evaluated(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.intermediate_values]


def _curve(trial: FrozenTrial, ranges: Mapping[str, BaseDistribution], *, horizon: int) -> Curve:
    steps = trial.intermediate_values
    losses = np.full(max(steps) + 1, math.nan)
    for step, value in steps.items():
        losses[step] = math.inf if math.isnan(value) else value
    rates = trial.user_attrs.get(LR)
    final, predicted = None, None
    if trial.state is TrialState.COMPLETE:
        final = trial.value
    elif trial.state is TrialState.PRUNED:
        noted = trial.user_attrs.get(PRUNED, {}).get("predicted")
        predicted = noted["mean"] if noted else None
        if predicted is None and (not math.isfinite(losses[-1]) or diverged(losses)):
            final = math.inf
    return Curve(
        losses=losses,
        schedule=_schedule(tuple(rates)) if rates else _constant(max(horizon, len(losses) - 1)),
        knobs=np.array([place for name, each in ranges.items() for place in places(trial.params[name], each)]),
        final=final,
        predicted=predicted,
    )


_constant = functools.lru_cache(maxsize=64)(Schedule.constant)


@functools.lru_cache(maxsize=4096)
def _schedule(rates: tuple[float, ...]) -> Schedule:
    return Schedule.of(rates)


def places(value: Any, distribution: BaseDistribution) -> list[float]:
    """Where a parameter lies in its range, 0 to 1; of one without order one number a choice, as far apart as ends."""
    if isinstance(distribution, CategoricalDistribution):
        return [math.sqrt(0.5) * (value == choice) for choice in distribution.choices]
    assert isinstance(distribution, optuna.distributions.FloatDistribution | optuna.distributions.IntDistribution)
    low, high, at = float(distribution.low), float(distribution.high), float(value)
    if distribution.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return [(at - low) / (high - low) if high > low else 0.5]
