"""The plateau pruner as an Optuna pruner, which works in any Optuna study.

    study = optuna.create_study(pruner=PlateauPruner())

    def objective(trial):
        ...
        trial.set_user_attr("lr", [rate_at(evaluation) for evaluation in range(E + 1)])
        for evaluation in range(E + 1):
            trial.report(validation_loss, step=evaluation)
            if trial.should_prune():
                raise optuna.TrialPruned()
        return validation_loss

To use it in a study of your own:

- The study minimises a single value, the validation loss.
- The step of a report is the number of the evaluation: 0 at the start, E at the horizon. Evaluations lie at equal
  distances, and E is the same for all trials.
- The user attribute `lr` holds the E + 1 learning rates at the evaluations. Set it before the first report. Without it
  the rate is assumed to be constant and E to be the last step of the complete trials; the decision's numbers then have
  `schedule_known: false`.

The numbers of a decision are stored with the trial: in the user attribute `pruned` for a stopped trial, and in
`sentinel` for a trial that would have been stopped but goes on to show what pruning costs.
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

from sweeps.pruning.forecast import Curve, losses_by_evaluation
from sweeps.pruning.law import Schedule
from sweeps.pruning.rule import Decision, Rule, decide

LR, PRUNED, SENTINEL = "lr", "pruned", "sentinel"
"""names of a trial's user attributes"""


class PlateauPruner(optuna.pruners.BasePruner):
    """Stops a trial that is unlikely to end among the best tenth, as predicted from all curves of the study.

    `epsilon`, `margin`, `looks`, `min_completed` and `trials` are those of sweeps.pruning.rule.Rule. `sentinel` is the
    share of trials that would be stopped but go on, chosen by a hash of their number. Decisions depend on the study's
    content alone; the curves of finished trials are cached. `prune` raises ValueError for a study that maximises or
    has several objectives.
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
        """Whether to stop `trial` at its last reported evaluation. Stores the decision's numbers with the trial."""
        if study.directions != [StudyDirection.MINIMIZE]:
            raise ValueError("PlateauPruner needs a study of one objective that is minimised")
        # The trial that Optuna's own loop passes lacks attributes that were set through the storage.
        attrs = study._storage.get_trial(trial._trial_id).user_attrs
        if not trial.intermediate_values or SENTINEL in attrs:
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
        """Apply the rule to a trial at its last evaluation, given finished trials of its study."""
        past = self._past = self._past.updated(others, trial.distributions)
        return decide(self.rule, _curve(trial, past.ranges, horizon=past.horizon), past.curves)

    def numbers(self, decision: Decision, trial: FrozenTrial) -> dict[str, Any]:
        """Return a decision as the value of a trial's attribute."""
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
    """The trials that have ended, and what the next decision needs from them."""

    trials: Sequence[FrozenTrial] = ()
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    """distributions of the trial that is compared with them"""
    ranges: Mapping[str, BaseDistribution] = field(default_factory=dict)
    """distributions of the parameters that this trial shares with all of them"""
    horizon: int = 0
    """last step of the complete trials"""
    curves: Sequence[Curve] = ()
    """curves of the trials that have been evaluated"""

    def updated(self, trials: Sequence[FrozenTrial], distributions: Mapping[str, BaseDistribution]) -> Self:
        """Return the past of `trials`. Trials known before keep their curves, because finished trials don't change."""
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
            curves=tuple(
                known.get(id(trial)) or _curve(trial, ranges, horizon=horizon) for trial in _evaluated(trials)
            ),
        )


def _evaluated(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.intermediate_values]


def _curve(trial: FrozenTrial, ranges: Mapping[str, BaseDistribution], *, horizon: int) -> Curve:
    losses = losses_by_evaluation(trial.intermediate_values)
    rates = trial.user_attrs.get(LR)
    stopped = trial.state is TrialState.PRUNED
    prediction = trial.user_attrs.get(PRUNED, {}).get("predicted") if stopped else None
    return Curve.of(
        losses,
        schedule=_schedule(tuple(rates)) if rates else _constant(max(horizon, len(losses) - 1)),
        knobs=np.array([place for name, values in ranges.items() for place in places(trial.params[name], values)]),
        final=trial.value if trial.state is TrialState.COMPLETE else None,
        predicted=prediction["mean"] if prediction else None,
        stopped=stopped,
    )


_constant = functools.lru_cache(maxsize=64)(Schedule.constant)


@functools.lru_cache(maxsize=4096)
def _schedule(rates: tuple[float, ...]) -> Schedule:
    return Schedule.of(rates)


def places(value: Any, distribution: BaseDistribution) -> list[float]:
    """Return a parameter's place in its range, 0 to 1.

    An unordered parameter has one number per choice; two choices are as far apart as the ends of a range.
    """
    if isinstance(distribution, CategoricalDistribution):
        return [math.sqrt(0.5) * (value == choice) for choice in distribution.choices]
    assert isinstance(distribution, optuna.distributions.FloatDistribution | optuna.distributions.IntDistribution)
    low, high, point = float(distribution.low), float(distribution.high), float(value)
    if distribution.log:
        low, high, point = math.log(low), math.log(high), math.log(point)
    return [(point - low) / (high - low) if high > low else 0.5]
