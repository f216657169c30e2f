"""Pruning decisions: whether the study's pruner stops a trial early, from the runs in memory."""

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

_INFORMATIVE = (Outcome.COMPLETE, Outcome.PRUNED, Outcome.DIVERGED, Outcome.INFEASIBLE)
"""outcomes of trials from whose curves the rule predicts others, if they have been evaluated"""


class PlateauDecisions:
    """Decisions of the plateau rule. The curves of runs that have ended are built once."""

    def __init__(self, study: Study) -> None:
        pruner, rule = study.pruner, rule_of(study)
        assert isinstance(pruner, PlateauPruning)
        assert rule is not None
        self._rule, self._sentinel_share, self._search = rule, pruner.sentinel, study.name
        self._branches, self._seed = study.branches, study.seed
        self._ranges = space.distributions(study)
        self._curves: dict[int, Curve] = {}
        """of the ended runs, by run id"""

    def decide(self, run: Run, runs: Collection[Run]) -> Pruning | None:
        """Return the rule's decision against `run` of the search at its last evaluation, given the study's runs.

        None: the run goes on. Otherwise it stops, or goes on as a sentinel.
        """
        last = run.points[-1]
        if not math.isfinite(last.val_loss):
            return None  # the trainer decides whether the run has diverged
        others = tuple(
            self._curve(other)
            for other in runs
            if other.optuna_study == self._search and other.outcome in _INFORMATIVE and other.points
        )
        decision = decide(self._rule, curve_of(run, self._ranges), others, control=self._control(runs))
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

    def _control(self, runs: Collection[Run]) -> float | None:
        """Return the control's final loss on the search's seed, nats. None: no such run, or trials from scratch."""
        if not self._branches:
            return None
        finals = (run.val_loss for run in runs if run.origin == "baseline" and run.seed == self._seed)
        return next(finals, None)

    def _curve(self, run: Run) -> Curve:
        if run.id not in self._curves:
            self._curves[run.id] = curve_of(run, self._ranges)
        return self._curves[run.id]


class OptunaDecisions:
    """Decisions of one of Optuna's pruners, asked in an in-memory study that mirrors the runs of the search.

    Hyperband derives a trial's bracket from the study's name and the trial's number, so the mirror has the same ones.
    The attributes that it writes follow from the trial's losses, so a resumed session writes them again.
    """

    def __init__(self, study: Study) -> None:
        self._rule = study.pruner.type
        self._study = optuna.create_study(
            study_name=study.name, sampler=RandomSampler(seed=0), pruner=make_pruner(study), direction="minimize"
        )
        self._trials: list[optuna.Trial] = []
        """by trial number"""
        self._reported: dict[int, int] = {}
        """number of points that the in-memory study has, by trial number"""
        self._stops: dict[int, bool] = {}
        """the pruner's answer at each trial's last point, by trial number"""
        self._ended: set[int] = set()
        """numbers of the trials that have ended in the in-memory study"""

    def decide(self, run: Run, runs: Collection[Run]) -> Pruning | None:
        """Return the pruner's decision against `run` of the search at its last evaluation; None: the run goes on."""
        searched = [other for other in runs if other.optuna_study == self._study.study_name]
        for other in sorted(searched, key=lambda other: other.trial):
            if other.trial != run.trial and other.trial not in self._ended:
                self._catch_up(other)
        self._catch_up(run)
        return optuna_pruning(run, searched, rule=self._rule) if self._stops.get(run.trial, False) else None

    def _catch_up(self, run: Run) -> None:
        """Report the run's new points, ask the pruner at each, and report the run's end."""
        while len(self._trials) <= run.trial:  # a trial without a run was refused before training
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
"""of the other outcomes: PRUNED"""


def optuna_pruning(run: Run, runs: Collection[Run], *, rule: str) -> Pruning:
    """Return why Optuna's pruner `rule` stopped `run`: its last loss and the others' losses at the same evaluation.

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
    """Return the decisions of the study's pruner; None: it prunes nothing."""
    match study.pruner.type:
        case "none":
            return None
        case "plateau":
            return PlateauDecisions(study)
        case _:
            return OptunaDecisions(study)
