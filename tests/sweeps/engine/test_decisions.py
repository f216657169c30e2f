"""Decisions from runs in memory: restored sessions decide alike, curves are built once, and records are right."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from sweeps.engine import decisions as decisions_module
from sweeps.engine.decisions import OptunaDecisions, PlateauDecisions, decisions_of, optuna_pruning
from sweeps.engine.sampler import make_pruner
from sweeps.pruning.forecast import Curve
from sweeps.pruning.rule import Decision, Rule
from sweeps.store.records import Outcome, Pruning, Run
from sweeps.study import space
from tests.helpers import small_sweep
from tests.helpers.small_sweep import EVALUATIONS, decisions_in, plateau_study, results_in

MEDIAN = {"type": "median", "startup_trials": 1, "warmup": 0.0}
HYPERBAND = {"type": "hyperband", "min_evaluations": 2, "reduction_factor": 2}


def moments(runs: tuple[Run, ...]) -> Iterator[tuple[Run, list[Run]]]:
    """Yield each sampler run at each of its evaluations but the last, with the study's runs of that moment."""
    for number, run in enumerate(runs):
        if run.origin == "sampler":
            for count in range(1, min(len(run.points), EVALUATIONS - 1) + 1):
                running = {"outcome": Outcome.RUNNING, "val_loss": None, "pruning": None}
                flying = dataclasses.replace(run, points=run.points[:count], **running)
                yield flying, [*runs[:number], flying]


class TestPlateauDecisions:
    def test_a_session_restored_at_any_moment_decides_as_the_uninterrupted_one(self, plateau_sweep: Path) -> None:
        runs = results_in(plateau_sweep).runs
        uninterrupted = PlateauDecisions(plateau_study())
        decided: dict[int, Pruning] = {}
        for run, others in moments(runs):
            decision = uninterrupted.decide(run, others)
            assert PlateauDecisions(plateau_study()).decide(run, others) == decision
            if decision is not None:
                decided.setdefault(run.trial, decision)  # the first stands
        assert decided == decisions_in(plateau_sweep)

    def test_the_curve_of_an_ended_run_is_built_once(
        self, plateau_sweep: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        built: Counter[tuple[int, Outcome]] = Counter()
        curve_of = decisions_module.curve_of

        def counted(run: Run, ranges: space.Space) -> Curve:
            built[run.id, run.outcome] += 1
            return curve_of(run, ranges)

        monkeypatch.setattr(decisions_module, "curve_of", counted)
        decisions, asked = PlateauDecisions(plateau_study()), Counter[int]()
        *_, (last, _) = moments(results_in(plateau_sweep).runs)
        for run, others in moments(results_in(plateau_sweep).runs):
            decisions.decide(run, others)
            asked[run.id] += 1
        ended = {number: count for (number, outcome), count in built.items() if outcome != Outcome.RUNNING}
        assert ended == {run.id: 1 for run in results_in(plateau_sweep).runs if run.id < last.id}
        assert {number: built[number, Outcome.RUNNING] for number in asked} == asked

    @pytest.mark.parametrize(
        ("changes", "informs"),
        [
            ({"outcome": Outcome.COMPLETE}, True),
            ({"outcome": Outcome.PRUNED, "val_loss": None}, True),
            ({"outcome": Outcome.DIVERGED, "val_loss": None}, True),
            ({"outcome": Outcome.INFEASIBLE, "val_loss": None}, True),
            ({"outcome": Outcome.INFEASIBLE, "val_loss": None, "points": ()}, False),
            ({"outcome": Outcome.FAILED, "val_loss": None}, False),
            ({"outcome": Outcome.RUNNING, "val_loss": None}, False),
            ({"outcome": Outcome.TRUNCATED, "val_loss": None}, False),
            ({"optuna_study": "small-confirm"}, False),
        ],
        ids=str,
    )
    def test_runs_that_inform_a_decision(
        self, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], informs: bool
    ) -> None:
        params = {"learning_rate": 1e-3, "dropout": 0.1}
        seen: list[int] = []

        def recorded(rule: Rule, curve: Curve, others: tuple[Curve, ...], *, control: float | None) -> Decision:
            seen.append(len(others))
            return Decision(evaluation=0)

        monkeypatch.setattr(decisions_module, "decide", recorded)
        run = small_sweep.run(1, [4.0, 3.5], params=params, outcome=Outcome.RUNNING, val_loss=None)
        other = small_sweep.run(0, [4.0, 3.6, 3.4], **{"params": params, **changes})
        assert PlateauDecisions(plateau_study()).decide(run, [other, run]) is None
        assert seen == [int(informs)]

    @pytest.mark.parametrize("loss", [math.nan, math.inf])
    def test_a_loss_that_is_not_finite_is_left_to_the_trainer(self, loss: float) -> None:
        run = small_sweep.run(0, [4.0, loss], outcome=Outcome.RUNNING, val_loss=None)
        assert PlateauDecisions(plateau_study()).decide(run, [run]) is None


# Optuna's pruners: a search of two workers, in memory

TRIALS = 18
GAP = 5
"""trial number without a run: its proposal was refused before it was trained"""
DIVERGES, FAILS, NOT_A_NUMBER = 6, 7, 8
"""trials that diverge at evaluation 8, fail at evaluation 11, and have a NaN at evaluation 4 alone"""
Answer = tuple[int, int, bool]
"""trial, evaluation, whether the trial is stopped there"""


def losses_of(trial: int) -> list[float]:
    """Return a trial's losses: an exponential to a random end, with noise that lets curves cross."""
    rng = np.random.default_rng(trial)
    shares = np.arange(EVALUATIONS) / EVALUATIONS
    end = 2.9 if trial in (DIVERGES, FAILS, NOT_A_NUMBER) else rng.uniform(3.0, 3.6)  # these must not be pruned first
    losses = end + 2 * np.exp(-rng.uniform(2, 6) * shares) + rng.normal(0, 0.03, EVALUATIONS)
    if trial == DIVERGES:
        losses[8:] = math.nan
    if trial == NOT_A_NUMBER:
        losses[4] = math.nan
    return [float(loss) for loss in losses]


def started(trial: int) -> Run:
    origin = "baseline" if trial == 0 else "one-at-a-time" if trial == 1 else "sampler"
    return small_sweep.run(trial, origin=origin, outcome=Outcome.RUNNING, val_loss=None)


def advanced(run: Run) -> Run:
    """Return the run with its next point, and with its outcome where it ends by itself."""
    points = small_sweep.run(run.id, losses_of(run.trial)[: len(run.points) + 1]).points
    outcome, val_loss = Outcome.RUNNING, None
    match run.trial, len(points) - 1:
        case (trial, 8) if trial == DIVERGES:
            outcome = Outcome.DIVERGED
        case (trial, 11) if trial == FAILS:
            outcome = Outcome.FAILED
        case (_, 20):
            outcome, val_loss = Outcome.COMPLETE, points[-1].val_loss
    return dataclasses.replace(run, points=points, outcome=outcome, val_loss=val_loss)


class OwnLoop:
    """Optuna's own loop: each point is reported, and the pruner asked, as soon as the point is there."""

    def __init__(self, pruner: dict[str, Any]) -> None:
        study = small_sweep.four_runs(pruner=pruner)
        self._study = optuna.create_study(study_name=study.name, pruner=make_pruner(study))
        self._trials = [self._study.ask() for _ in range(TRIALS)]

    def reported(self, run: Run) -> None:
        self._trials[run.trial].report(run.points[-1].val_loss, step=len(run.points) - 1)

    def decide(self, run: Run, runs: Collection[Run]) -> bool:
        return math.isfinite(run.points[-1].val_loss) and self._trials[run.trial].should_prune()

    def ended(self, run: Run) -> None:
        states = {Outcome.COMPLETE: TrialState.COMPLETE, Outcome.FAILED: TrialState.FAIL}
        self._study.tell(run.trial, run.val_loss, state=states.get(run.outcome, TrialState.PRUNED))


class Sessions:
    """OptunaDecisions, those of a new session from decision number `restart` on. They see nothing but the runs."""

    def __init__(self, pruner: dict[str, Any], *, restart: int | None = None) -> None:
        self._new = functools.partial(OptunaDecisions, small_sweep.four_runs(pruner=pruner))
        self._decisions, self._restart, self._count = self._new(), restart, 0

    def reported(self, run: Run) -> None:
        pass

    def decide(self, run: Run, runs: Collection[Run]) -> bool:
        if self._count == self._restart:
            self._decisions = self._new()
        self._count += 1
        return self._decisions.decide(run, runs) is not None

    def ended(self, run: Run) -> None:
        pass


def play(search: OwnLoop | Sessions) -> list[Answer]:
    """Return the answers at all points of a search in which two workers take turns."""
    waiting = [trial for trial in range(TRIALS) if trial != GAP]
    runs: dict[int, Run] = {}
    flying: list[int] = []
    answers: list[Answer] = []
    while waiting or flying:
        if waiting and len(flying) < 2:
            flying.append(waiting.pop(0))
            runs[flying[-1]] = started(flying[-1])
        trial = flying.pop(0)
        run = runs[trial] = advanced(runs[trial])
        search.reported(run)
        if run.unfinished and run.origin == "sampler":
            stops = search.decide(run, runs.values())
            answers.append((trial, len(run.points) - 1, stops))
            if stops:
                run = runs[trial] = dataclasses.replace(run, outcome=Outcome.PRUNED)
        if run.unfinished:
            flying.append(trial)
        else:
            search.ended(run)
    return answers


def flying(trial: int, losses: list[float]) -> Run:
    return small_sweep.run(trial, losses, outcome=Outcome.RUNNING, val_loss=None)


class TestOptunaDecisions:
    @pytest.mark.parametrize("pruner", [{**MEDIAN, "warmup": 0.2}, HYPERBAND], ids=["median", "hyperband"])
    def test_a_session_restored_at_any_moment_decides_as_optunas_own_loop(self, pruner: dict[str, Any]) -> None:
        expected = play(OwnLoop(pruner))
        stopped = [trial for trial, _, stops in expected if stops]
        assert 3 <= len(stopped) < 12
        assert not {DIVERGES, FAILS, NOT_A_NUMBER} & set(stopped)
        assert play(Sessions(pruner)) == expected
        for restart in range(0, len(expected), 13):
            assert play(Sessions(pruner, restart=restart)) == expected, restart

    @pytest.mark.parametrize("order", [(1, 2), (2, 1)])
    def test_a_restored_session_decides_for_every_run_in_flight(self, order: tuple[int, int]) -> None:
        """Killed between the points and their decisions, whichever run is asked about first."""
        decisions = OptunaDecisions(small_sweep.four_runs(pruner=MEDIAN))
        runs = {trial: flying(trial, [5.0, 4.0, 4.0]) for trial in order}
        complete = small_sweep.run(0, [5.0, *[3.0] * 20], origin="baseline")
        for trial in order:
            assert decisions.decide(runs[trial], [complete, *runs.values()]) is not None

    def test_a_restored_session_leaves_a_loss_that_is_not_a_number_to_the_trainer(self) -> None:
        """Today's runs would stop the trial at evaluation 1, where it was let go on when they had not ended."""
        decisions = OptunaDecisions(small_sweep.four_runs(pruner=MEDIAN))
        run = flying(1, [5.0, 4.0, math.nan])
        assert decisions.decide(run, [small_sweep.run(0, [5.0, *[3.0] * 20], origin="baseline"), run]) is None

    def test_the_last_evaluation_stops_nothing(self) -> None:
        decisions = OptunaDecisions(small_sweep.four_runs(pruner=MEDIAN))
        complete = small_sweep.run(0, [3.0] * EVALUATIONS, origin="baseline")
        almost, ended = flying(1, [5.0] * (EVALUATIONS - 1)), flying(1, [5.0] * EVALUATIONS)
        assert decisions.decide(almost, [complete, almost]) is not None
        assert decisions.decide(ended, [complete, ended]) is None

    def test_trials_of_the_confirm_phase_are_not_compared(self) -> None:
        decisions = OptunaDecisions(small_sweep.four_runs(pruner=MEDIAN))
        other = small_sweep.run(0, [3.0] * EVALUATIONS, origin="baseline", optuna_study="small-confirm")
        run = flying(1, [5.0, 5.0, 5.0])
        assert decisions.decide(run, [other, run]) is None


class TestCompared:
    """What Optuna's pruners compared, as the run's record has it."""

    RUN = small_sweep.run(9, [5.0, 4.0, 4.5], outcome=Outcome.RUNNING, val_loss=None)

    @pytest.mark.parametrize(
        ("rule", "completed", "peers_median", "peers_best", "best"),
        [("median", 2, 3.5, 3.4, 3.1), ("hyperband", 5, 3.6, 3.2, 3.1)],
    )
    def test_the_median_pruner_compares_complete_trials_and_hyperband_all(
        self, rule: str, completed: int, peers_median: float, peers_best: float, best: float
    ) -> None:
        others = [
            small_sweep.run(0, [5.0, 4.0, 3.4, 3.3], val_loss=3.1),
            small_sweep.run(1, [5.0, 4.0, 3.6, 3.3], val_loss=3.2),
            small_sweep.run(2, [5.0, 4.0, 3.2, 3.3], outcome=Outcome.PRUNED, val_loss=None),
            small_sweep.run(3, [5.0, 4.0, 3.9], outcome=Outcome.FAILED, val_loss=None),
            small_sweep.run(4, [5.0, 4.0, 3.8], outcome=Outcome.RUNNING, val_loss=None),
            small_sweep.run(5, [5.0, 4.0], outcome=Outcome.RUNNING, val_loss=None),  # not there yet
            small_sweep.run(6, [], outcome=Outcome.INFEASIBLE, val_loss=None),
            small_sweep.run(7, [1.0, 1.0, 1.0], val_loss=1.0, optuna_study="small-confirm"),
        ]
        assert optuna_pruning(self.RUN, [*others, self.RUN], rule=rule) == Pruning(
            rule=rule,
            reason=rule,
            evaluation=2,
            step=2,
            val_loss=4.5,
            sentinel=False,
            completed=completed,
            best=best,
            best_so_far=4.0,
            peers_median=peers_median,
            peers_best=peers_best,
        )

    def test_without_peers_there_is_nothing_to_compare(self) -> None:
        pruning = optuna_pruning(self.RUN, [self.RUN], rule="hyperband")
        assert (pruning.completed, pruning.best, pruning.peers_median, pruning.peers_best) == (0, None, None, None)
        assert pruning.why == "hyperband: loss 4.5000 at step 2"

    def test_losses_are_compared_at_one_evaluation_whatever_the_steps(self) -> None:
        small_batches = small_sweep.baseline().replace(max_iters=40, lr_decay_iters=40, eval_interval=2)
        points = [
            dataclasses.replace(point, step=2 * point.step) for point in small_sweep.run(0, [5.0, 4.0, 3.3]).points
        ]
        other = small_sweep.run(0, config=small_batches, points=tuple(points))
        assert optuna_pruning(self.RUN, [other, self.RUN], rule="median").peers_best == 3.3

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_a_peer_whose_loss_is_not_a_number_is_left_out(self, position: int) -> None:
        losses = [3.2, 3.4]
        losses.insert(position, math.nan)
        others = [
            small_sweep.run(trial, [5.0, 4.0, loss], outcome=Outcome.DIVERGED, val_loss=None)
            for trial, loss in enumerate(losses)
        ]
        pruning = optuna_pruning(self.RUN, [*others, self.RUN], rule="hyperband")
        assert (pruning.completed, pruning.peers_median, pruning.peers_best) == (2, pytest.approx(3.3), 3.2)


@pytest.mark.parametrize(
    ("pruner", "kind"),
    [("none", type(None)), ("plateau", PlateauDecisions), ("median", OptunaDecisions), ("hyperband", OptunaDecisions)],
)
def test_every_pruner_has_its_decisions(pruner: str, kind: type) -> None:
    assert isinstance(decisions_of(small_sweep.study(pruner={"type": pruner})), kind)
