"""The plateau pruner as an Optuna pruner, which works in any Optuna study.

    study = optuna.create_study(pruner=PlateauPruner())

    def objective(trial):
        ...
        for step in evaluations:
            trial.report(validation_loss, step=step)
            if trial.should_prune():
                raise optuna.TrialPruned()
        return validation_loss

To use it in a study of your own:

- The study minimises a single value, the validation loss.
- Steps may be evaluations, iterations or tokens, at any distances. Trials may differ in them, but not in the unit and
  the horizon: the last step of the complete trials.
- The user attribute `plateau:lr` of a trial may hold its learning rates at all its evaluations, from the first to the
  horizon, as a list. Set it before the first report. Without it the rate is assumed to be constant; the decision's
  numbers then have `schedule_known: false`.

The pruner touches no other attribute of a trial. The numbers of a decision are an attribute of the study, `plateau:7`
for trial 7; `decisions` returns them all. `stopped` is false for a sentinel: a trial that would have been stopped but
goes on to show what pruning costs.

Optuna has no public way to write to a trial from a pruner, which is why decisions are kept with the study.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import re
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeps.pruning.forecast import Curve, diverged
from sweeps.pruning.gaussian_process import Array
from sweeps.pruning.grid import Grid
from sweeps.pruning.law import Schedule
from sweeps.pruning.rule import Decision, Rule, compare

PREFIX = "plateau:"
"""how the names of all attributes begin that the pruner reads or writes"""
LR = f"{PREFIX}lr"
"""a trial's attribute: its learning rates"""

Numbers = Mapping[str, Any]
"""the numbers of a decision to stop a trial, as JSON"""
NO_NUMBERS: Numbers = MappingProxyType({})
NONE: Mapping[int, Numbers] = MappingProxyType({})
EMPTY = Grid(())


class PlateauPruner(optuna.pruners.BasePruner):
    """Stops a trial that is unlikely to end among the best tenth, as predicted from all curves of the study.

    `epsilon`, `margin`, `looks`, `min_completed` and `trials` are those of sweeps.pruning.rule.Rule. `sentinel` is the
    share of trials that would be stopped but go on, chosen by a hash of their number. Decisions depend on the study's
    content alone; the curves of finished trials are cached. `prune` raises ValueError for a study that maximises or
    has several objectives, and for a `plateau:lr` that is no list of learning rates.
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
        self._decided: defaultdict[str, dict[int, Numbers]] = defaultdict(dict)  # by study and trial

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to stop `trial` at its last report. Stores the numbers of a decision to stop with the study."""
        if study.directions != [StudyDirection.MINIMIZE]:
            raise ValueError("PlateauPruner needs a study of one objective that is minimised")
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        if trial.state.is_finished():
            ended = [other for other in ended if other.number != trial.number]
        decided = self._decided[study.study_name]
        if not trial.intermediate_values or trial.number in decided:
            return False
        stopped = [other.number for other in ended if other.state is TrialState.PRUNED]
        if not all(number in decided for number in stopped):  # by another process
            decided.update({**dict.fromkeys(stopped, NO_NUMBERS), **decisions(study)})
        decision = self.decide(trial, ended, decided=decided)
        if not decision.prune:
            return False
        spared = decision.reason != "diverged" and is_sentinel(trial.number, share=self.sentinel)
        decided[trial.number] = {"stopped": not spared, **self.numbers(decision, trial)}
        study.set_user_attr(f"{PREFIX}{trial.number}", decided[trial.number])
        return not spared

    def decide(
        self, trial: FrozenTrial, others: Sequence[FrozenTrial], *, decided: Mapping[int, Numbers] = NONE
    ) -> Decision:
        """Apply the rule to a trial at its last report, given finished trials of its study.

        `decided`: the decisions against those of them that were stopped, by number.
        """
        past = self._past = self._past.updated(others, trial.distributions, decided)
        steps = sorted(trial.intermediate_values)
        grid = past.grid if past.grid.steps else Grid.of([steps])
        rank = grid.rank(steps[-1])
        if diverged(_in_order(trial)):
            return Decision(evaluation=rank, prune=True, reason="diverged")
        if not past.curves or (len(steps) > 1 and grid.rank(steps[-2]) == rank):
            return Decision(evaluation=rank)  # nothing to compare with, or no new evaluation on the grid
        return compare(self.rule, _curve(trial, past.ranges, grid=grid), past.curves)

    def numbers(self, decision: Decision, trial: FrozenTrial) -> Numbers:
        """Return the numbers of a decision at a trial's last report, as JSON."""
        assert trial.last_step is not None
        predicted = decision.prediction
        return {
            "rule": "plateau",
            "reason": decision.reason,
            "step": trial.last_step,
            "evaluation": decision.evaluation,
            "val_loss": trial.intermediate_values[trial.last_step],
            "predicted": dataclasses.asdict(predicted) if predicted else None,
            "low": decision.low,
            "high": decision.high,
            "chance": decision.chance,
            "epsilon": self.rule.epsilon,
            "best": decision.best,
            "completed": decision.completed,
            "schedule_known": LR in trial.user_attrs,
        }


def decisions(study: optuna.Study) -> dict[int, Numbers]:
    """Return the numbers of all decisions against trials of a study, by trial number.

    `evaluation` is the rank of the `step` among the steps at which curves are compared, and losses are in nats.
    """
    named = ((re.fullmatch(rf"{PREFIX}(\d+)", name), numbers) for name, numbers in study.user_attrs.items())
    return dict(sorted((int(match[1]), numbers) for match, numbers in named if match))


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
    grid: Grid = EMPTY
    """steps at which curves are compared, those of a complete trial"""
    curves: Sequence[Curve] = ()
    """curves of the trials that have been evaluated; none without a complete trial"""

    def updated(
        self,
        trials: Sequence[FrozenTrial],
        distributions: Mapping[str, BaseDistribution],
        decided: Mapping[int, Numbers] = NONE,
    ) -> Self:
        """Return the past of `trials`. Trials known before keep their curves, because finished trials don't change."""
        same = len(trials) == len(self.trials) and all(map(operator.is_, trials, self.trials))
        if same and distributions == self.distributions:
            return self
        before = set(map(id, self.trials))
        new = [trial for trial in trials if id(trial) not in before]
        grown = distributions == self.distributions and len(trials) - len(new) == len(before)
        ranges = {
            name: distribution
            for name, distribution in sorted((self.ranges if grown else distributions).items())
            if all(name in trial.params for trial in (new if grown else trials))
        }
        complete = [trial.intermediate_values for trial in trials if trial.state is TrialState.COMPLETE]
        grid = Grid.of(complete)
        known = dict(zip(map(id, _evaluated(self.trials)), self.curves, strict=False))
        if (grid, ranges) != (self.grid, self.ranges):
            known = {}
        curves = [
            known.get(id(trial)) or _curve(trial, ranges, grid=grid, decided=decided)
            for trial in (_evaluated(trials) if grid.steps else ())
        ]
        return type(self)(trials=trials, distributions=distributions, ranges=ranges, grid=grid, curves=tuple(curves))


def _evaluated(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.intermediate_values]


def _in_order(trial: FrozenTrial) -> Array:
    """Return a trial's losses in the order of their steps, infinite where they were not numbers."""
    reports = trial.intermediate_values
    losses = np.array([reports[step] for step in sorted(reports)])
    return np.where(np.isnan(losses), math.inf, losses)


def _ended_badly(losses: Array) -> bool:
    """Whether a stopped trial's last loss was not a number, or it diverged."""
    return math.isinf(losses[-1]) or diverged(losses)


def _curve(
    trial: FrozenTrial,
    ranges: Mapping[str, BaseDistribution],
    *,
    grid: Grid,
    decided: Mapping[int, Numbers] = NONE,
) -> Curve:
    predicted, final = None, trial.value if trial.state is TrialState.COMPLETE else None
    if trial.state is TrialState.PRUNED:
        prediction = decided.get(trial.number, NO_NUMBERS).get("predicted")
        predicted = prediction["mean"] if prediction else None
        if predicted is None and _ended_badly(_in_order(trial)):
            final = math.inf
    return Curve(
        losses=grid.losses(trial.intermediate_values),
        schedule=_schedule(grid, _rates(trial)),
        knobs=np.array([place for name, values in ranges.items() for place in places(trial.params[name], values)]),
        final=final,
        predicted=predicted,
    )


def _rates(trial: FrozenTrial) -> tuple[float, ...] | None:
    """Return a trial's learning rates. Raises ValueError for an attribute of another kind."""
    rates = trial.user_attrs.get(LR)
    if rates is None:
        return None
    try:
        numbers = tuple(map(float, rates))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) < 2 or not all(0 <= rate < math.inf for rate in numbers) or not any(numbers):
        raise ValueError(
            f"trial {trial.number}: its user attribute {LR!r} is {rates!r}; it must be a list of the learning rates at "
            "all evaluations, from the first to the last, none negative and at least one above 0"
        )
    return numbers


@functools.lru_cache(maxsize=4096)
def _schedule(grid: Grid, rates: tuple[float, ...] | None) -> Schedule:
    if rates is None:
        return Schedule.assumed(grid.shares)
    return Schedule.of(grid.rates(rates), steps=grid.distances)


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
