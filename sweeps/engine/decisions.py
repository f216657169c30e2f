"""Decisions to stop a trial early, by the study's pruner, from the runs in memory."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from sweeps.analysis.curves import curve_of
from sweeps.analysis.pruning import rule_of
from sweeps.engine.sampler import make_pruner
from sweeps.pruning.forecast import Curve
from sweeps.pruning.pruner import is_sentinel
from sweeps.pruning.rule import decide
from sweeps.store.records import Outcome, Pruning, Run
from sweeps.study import space
from sweeps.study.sections import PlateauPruning
from sweeps.study.study import Study
from trainer.schedule import evaluation_of

_OF_USE = (Outcome.COMPLETE, Outcome.PRUNED, Outcome.DIVERGED, Outcome.INFEASIBLE)
"""outcomes of trials that speak for others, if they have been evaluated"""


class PlateauDecisions:
    """Decisions of the plateau rule. The curves of runs that have ended are built once."""

    def __init__(self, study: Study) -> None:
        pruner, rule = study.pruner, rule_of(study)
        assert isinstance(pruner, PlateauPruning)
        assert rule is not None
        self._rule, self._sentinel_share, self._search = rule, pruner.sentinel, study.name
        self._ranges = space.distributions(study)
        self._curves: dict[int, Curve] = {}
        """of the ended runs, by run id"""

    def decide(self, run: Run, runs: Collection[Run]) -> Pruning | None:
        """What the rule says against `run` of the search at its last evaluation, given the study's runs.

        None: the run goes on. Otherwise it stops, or goes on as a sentinel.
        """
        last = run.points[-1]
        if not math.isfinite(last.val_loss):
            return None  # what a loss that is no number means is the trainer's to say
        others = tuple(
            self._curve(other)
            for other in runs
            if other.optuna_study == self._search and other.outcome in _OF_USE and other.points
        )
        decision = decide(self._rule, curve_of(run, self._ranges), others)
        if not decision.prune:
            return None
        predicted = decision.prediction
        return Pruning(
            rule="plateau",
            reason=decision.reason,
            evaluation=decision.evaluation,
            step=last.step,
            val_loss=last.val_loss,
            sentinel=decision.reason != "diverged" and is_sentinel(run.trial, share=self._sentinel_share),
            completed=decision.completed,
            best=decision.best,
            predicted=None if predicted is None else predicted.mean,
            scale=None if predicted is None else predicted.scale,
            degrees=None if predicted is None else predicted.degrees,
            low=decision.low,
            high=decision.high,
            chance=decision.chance,
            epsilon=self._rule.epsilon,
        )

    def _curve(self, run: Run) -> Curve:
        if run.id not in self._curves:
            self._curves[run.id] = curve_of(run, self._ranges)
        return self._curves[run.id]


class OptunaDecisions:
    """Decisions of one of Optuna's pruners, asked in a study in memory whose trials are the runs of the search.

    Hyperband's brackets follow from the study's name and the trial's number, so both are the same there. What it
    notes with a trial follows from the trial's losses, so a session that goes on need not be told of it.
    """

    def __init__(self, study: Study) -> None:
        self._rule = study.pruner.type
        self._study = optuna.create_study(
            study_name=study.name, sampler=RandomSampler(seed=0), pruner=make_pruner(study), direction="minimize"
        )
        self._trials: list[optuna.Trial] = []
        """by number"""
        self._reported: dict[int, int] = {}
        """points that the study in memory has, by trial number"""
        self._stops: dict[int, bool] = {}
        """the pruner's answer at each trial's last point, by trial number"""
        self._ended: set[int] = set()
        """numbers of the trials that the study in memory knows to have ended"""

    def decide(self, run: Run, runs: Collection[Run]) -> Pruning | None:
        """What the pruner says against `run` of the search at its last evaluation; None: the run goes on."""
        searched = [other for other in runs if other.optuna_study == self._study.study_name]
        for other in sorted(searched, key=lambda other: other.trial):
            if other.trial != run.trial and other.trial not in self._ended:
                self._catch_up(other)
        self._catch_up(run)
        return compared(run, searched, rule=self._rule) if self._stops.get(run.trial, False) else None

    def _catch_up(self, run: Run) -> None:
        """Report the run's new points, ask the pruner at each, and tell of the run's end."""
        while len(self._trials) <= run.trial:  # a number without a run was refused before it was trained
            self._trials.append(self._study.ask())
        trial = self._trials[run.trial]
        for point in run.points[self._reported.get(run.trial, 0) :]:
            trial.report(point.val_loss, step=evaluation_of(point.step, run.config))
            may_stop = run.origin == "sampler" and point.step < run.config.max_iters and math.isfinite(point.val_loss)
            # kept: a restored session reports a run's points while another run is decided on
            self._stops[run.trial] = may_stop and trial.should_prune()
        self._reported[run.trial] = len(run.points)
        if not run.unfinished:
            self._ended.add(run.trial)
            state = _STATES.get(run.outcome, TrialState.PRUNED)
            self._study.tell(trial, run.val_loss if state is TrialState.COMPLETE else None, state=state)


_STATES = {Outcome.COMPLETE: TrialState.COMPLETE, Outcome.FAILED: TrialState.FAIL}
"""the others are PRUNED"""


def compared(run: Run, runs: Collection[Run], *, rule: str) -> Pruning:
    """Why Optuna's pruner `rule` stopped `run` of the search: its last loss beside those of the other trials there.

    The median pruner compares with complete trials, Hyperband with all.
    """
    last = run.points[-1]
    evaluation = evaluation_of(last.step, run.config)
    others = [other for other in runs if other.optuna_study == run.optuna_study and other.id != run.id]
    complete = [other for other in others if other.outcome == Outcome.COMPLETE]
    peers = [
        point.val_loss
        for other in (complete if rule == "median" else others)
        for point in other.points
        if evaluation_of(point.step, other.config) == evaluation and not math.isnan(point.val_loss)
    ]
    return Pruning(
        rule=rule,
        reason=rule,
        evaluation=evaluation,
        step=last.step,
        val_loss=last.val_loss,
        sentinel=False,
        completed=len(peers),
        best=min((other.val_loss for other in complete if other.val_loss is not None), default=None),
        best_so_far=min(point.val_loss for point in run.points if math.isfinite(point.val_loss)),
        peers_median=statistics.median(peers) if peers else None,
        peers_best=min(peers) if peers else None,
    )


def decisions_of(study: Study) -> PlateauDecisions | OptunaDecisions | None:
    """The decisions of the study's pruner; None: it prunes nothing."""
    match study.pruner.type:
        case "none":
            return None
        case "plateau":
            return PlateauDecisions(study)
        case _:
            return OptunaDecisions(study)
