"""Pruning in a sweep: decisions are those of Optuna's own loop, and a run keeps the reason and its numbers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from sweeps.engine import decisions as decisions_module
from sweeps.engine.sampler import make_pruner
from sweeps.paths import StudyPaths
from sweeps.pruning.forecast import Curve
from sweeps.pruning.pruner import _Past, decisions
from sweeps.pruning.rule import Decision, Rule
from sweeps.store.records import Pruning, Run
from sweeps.study import space
from sweeps.workers.pool import Job, Report
from tests.helpers import fake_training
from tests.helpers.kills import Killed
from tests.helpers.small_sweep import (
    EVALUATIONS,
    PLATEAU,
    WARM,
    Watcher,
    enqueue,
    event_kinds,
    events_in,
    four_runs,
    optuna_trials_in,
    plateau_study,
    results_in,
    sweep,
)
from trainer.points import Answer, Point, Result
from trainer.schedule import learning_rates

MEDIAN = {"type": "median", "startup_trials": 1, "warmup": 0.0}
HYPERBAND = {"type": "hyperband", "min_evaluations": 2, "reduction_factor": 2}


def runs_in(folder: Path) -> tuple[Run, ...]:
    return results_in(folder).runs


class TestPlateauPruner:
    def test_decisions_are_those_of_the_pruner_in_optunas_own_loop(self, plateau_sweep: Path) -> None:
        """The reference is PlateauPruner in another study, which is told of the same trials by hand."""
        trials = optuna_trials_in(plateau_sweep)
        pruner = make_pruner(plateau_study())
        reference = optuna.create_study(study_name="small", pruner=pruner)
        sentinels = 0
        for run, trial in zip(runs_in(plateau_sweep), trials, strict=True):
            reference.enqueue_trial(dict(run.params))
            asked = reference.ask(space.distributions(plateau_study()))
            asked.set_user_attr("plateau:lr", learning_rates(run.config))
            state = TrialState.COMPLETE
            for index in range(EVALUATIONS):
                asked.report(fake_training.point_at(run.config, index).val_loss, step=index)
                frozen = reference.trials[asked.number]
                if run.origin == "sampler" and index < EVALUATIONS - 1 and pruner.prune(reference, frozen):
                    state = TrialState.PRUNED
                    break
            loss = fake_training.final_loss(run.config) if state is TrialState.COMPLETE else None
            reference.tell(asked, loss, state=state)
            expected = reference.trials[asked.number]
            assert (trial.state, trial.intermediate_values) == (expected.state, expected.intermediate_values)
            numbers = decisions(reference).get(asked.number)
            assert run.pruning == (as_pruning(numbers) if numbers else None)
            sentinels += bool(numbers and not numbers["stopped"])
        assert [trial.state for trial in trials].count(TrialState.PRUNED) >= 2
        assert sentinels >= 2

    def test_hopeless_trials_are_stopped_after_their_warm_up_and_the_best_are_not(self, plateau_sweep: Path) -> None:
        pruned = [run for run in runs_in(plateau_sweep) if run.outcome == "pruned"]
        complete = [run for run in runs_in(plateau_sweep) if run.outcome == "complete"]
        assert pruned
        assert {run.origin for run in pruned} == {"sampler"}
        for run in pruned:
            assert WARM <= len(run.points) - 1 <= 16
            assert run.val_loss is None
            assert [point.step for point in run.points] == list(range(len(run.points)))  # no gap before the stop
        finals = [fake_training.final_loss(run.config) for run in complete]
        assert min(fake_training.final_loss(run.config) for run in pruned) > min(finals) + 0.03

    def test_a_run_keeps_the_reason_and_its_numbers(self, plateau_sweep: Path) -> None:
        trials = optuna_trials_in(plateau_sweep)
        events = [(event.run, event.kind, event.detail) for event in events_in(plateau_sweep)]
        decided = [run for run in runs_in(plateau_sweep) if run.pruning]
        assert {run.outcome for run in decided} == {"pruned", "complete"}
        for run in decided:
            pruning = run.pruning
            assert pruning is not None
            assert pruning.sentinel == (run.outcome == "complete")
            kind = "sentinel" if pruning.sentinel else "pruned"
            # only Optuna's pruners have these
            assert (pruning.best_so_far, pruning.peers_median, pruning.peers_best) == (None, None, None)
            assert (pruning.rule, pruning.schedule_known, pruning.epsilon) == ("plateau", True, 0.05)
            assert pruning.step == pruning.evaluation
            assert pruning.val_loss == run.points[pruning.evaluation].val_loss
            assert pruning.chance is not None
            assert pruning.chance < 0.05
            assert pruning.predicted == pytest.approx(fake_training.final_loss(run.config), abs=0.1)
            assert (run.id, kind, pruning.why) in events
            if run.outcome == "pruned":
                assert pruning.evaluation == len(run.points) - 1
                assert run.reason == pruning.why == trials[run.trial].user_attrs["reason"]
            else:
                assert run.reason == ""
                assert len(run.points) == EVALUATIONS
                assert run.val_loss == fake_training.final_loss(run.config)
        assert len([kind for _, kind, _ in events if kind in ("pruned", "sentinel")]) == len(decided)

    def test_the_numbers_of_a_decision_are_json_in_our_table(self, plateau_sweep: Path) -> None:
        with closing(sqlite3.connect(StudyPaths(plateau_sweep).store)) as connection:
            rows = dict(connection.execute("SELECT id, pruning FROM run").fetchall())
        for run in runs_in(plateau_sweep):
            expected = dataclasses.asdict(run.pruning) if run.pruning else None
            assert (json.loads(rows[run.id]) if rows[run.id] else None) == expected

    @pytest.mark.parametrize(("share", "outcome"), [(0, "pruned"), (1, "complete")])
    def test_the_share_of_sentinels_is_kept_at_its_ends(self, tmp_path: Path, share: int, outcome: str) -> None:
        watcher = Watcher()
        sweep(tmp_path, plateau_study(pruner={**PLATEAU, "sentinel": share}, trials=8), observer=watcher)
        decided = [run for run in runs_in(tmp_path) if run.pruning]
        assert {run.outcome for run in decided} == {outcome}
        assert len(watcher.notes) == share * len(decided)
        assert all("goes on as a sentinel; dominated: would end at" in note for note in watcher.notes)

    def test_queued_trials_are_judged_by_their_own_rates_and_parameters(self, tmp_path: Path) -> None:
        def queue(tick: int) -> None:
            if tick == 100:  # the fifth run has begun
                enqueue(tmp_path, *({"dropout": dropout, "learning_rate": 1e-4} for dropout in (0.4, 0.35)))

        sweep(tmp_path, plateau_study(pruner={**PLATEAU, "sentinel": 0}, trials=8), at_tick=queue)
        queued = [run for run in runs_in(tmp_path) if run.params["learning_rate"] == 1e-4 and run.origin == "sampler"]
        assert len(queued) == 2
        for run in queued:
            assert run.outcome == "pruned"
            assert run.pruning is not None
            assert run.pruning.schedule_known
            assert run.pruning.evaluation == WARM

    def test_an_exploding_loss_is_stopped_without_a_prediction_and_never_a_sentinel(self, tmp_path: Path) -> None:
        def exploding(job: Job, report: Report) -> Result:
            """Train by the closed form, to which the sampler's trials add 2 nats per evaluation from their third on."""
            if job.run < 5:
                return fake_training.train(job, report)

            def rising(point: Point) -> Answer:
                loss = point.val_loss + 2.0 * max(0, point.step - 2)
                return report(dataclasses.replace(point, val_loss=loss))

            return fake_training.train(job, rising)

        sweep(tmp_path, plateau_study(pruner={**PLATEAU, "sentinel": 1}, trials=5), work=exploding)
        sampled = [run for run in runs_in(tmp_path) if run.origin == "sampler"]
        assert sampled
        for run in sampled:
            assert run.outcome == "pruned"
            assert run.pruning is not None
            assert (run.pruning.reason, run.pruning.sentinel, run.pruning.predicted) == ("diverged", False, None)
            assert run.reason == f"diverged: loss {run.points[-1].val_loss:.4f} at step {run.points[-1].step}"


def as_pruning(numbers: Mapping[str, Any]) -> Pruning:
    """Convert the numbers of PlateauPruner's decision to a run's record."""
    predicted = numbers["predicted"] or dict.fromkeys(("mean", "scale", "degrees"))
    fields = {**numbers, "predicted": predicted["mean"], "scale": predicted["scale"], "degrees": predicted["degrees"]}
    return Pruning(sentinel=not fields.pop("stopped"), **fields)


def content(curve: Curve) -> tuple[Any, ...]:
    """Return a curve's numbers, its losses as text because NaN does not equal itself."""
    schedule = (*curve.schedule.progress, curve.schedule.total)
    return (tuple(map(str, curve.losses)), schedule, tuple(curve.knobs), curve.final, curve.predicted)


def test_the_rule_gets_the_curves_that_the_pruner_builds_from_optunas_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each decision, with trials of this session, trials taken up, queued trials and diverged trials."""
    decide, compared = decisions_module.decide, list[int]()

    def checked(rule: Rule, curve: Curve, others: tuple[Curve, ...], *, control: float | None) -> Decision:
        runs = {run.trial: run for run in runs_in(tmp_path) if run.optuna_study == "small"}
        trials, decided = [], dict[int, Any]()
        for trial in optuna_trials_in(tmp_path):
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                run = runs[trial.number]
                trial.set_user_attr("plateau:lr", learning_rates(run.config))
                if run.outcome == "pruned" and run.pruning is not None:
                    decided[run.trial] = {"predicted": {"mean": run.pruning.predicted}}
                trials.append(trial)
        past = _Past().updated(trials, space.distributions(plateau_study()), decided)
        assert [content(other)[1:] for other in others] == [content(expected)[1:] for expected in past.curves]
        ended = [runs[trial.number] for trial in trials]
        for other, expected, run in zip(others, past.curves, ended, strict=True):
            if run.outcome != "diverged":  # Optuna has a NaN at the end of a diverged trial
                assert content(other)[0] == content(expected)[0]
        compared.append(len(others))
        return decide(rule, curve, others)

    def work(job: Job, report: Report) -> Result:
        if job.run % 5 == 0:
            report(fake_training.point_at(job.config, 0))
            return Result(outcome="diverged", step=3, points=(), reason="it is", seconds=1.0)
        return fake_training.train(job, report)

    def at_tick(tick: int) -> None:
        if tick == 60:
            enqueue(tmp_path, *({"dropout": dropout, "learning_rate": 2e-3} for dropout in (0.25, 0.3)))
        if tick == 120:
            raise Killed

    monkeypatch.setattr(decisions_module, "decide", checked)
    for _ in range(20):
        with contextlib.suppress(Killed):
            if sweep(tmp_path, plateau_study(), devices=("cpu", "cpu"), work=work, at_tick=at_tick).finished:
                break
    assert max(compared) >= 10
    assert len(compared) > 30


class TestOptunasPruners:
    @pytest.mark.parametrize("pruner", [MEDIAN, HYPERBAND], ids=["median", "hyperband"])
    def test_decisions_are_those_of_optunas_own_loop(self, tmp_path: Path, pruner: dict[str, Any]) -> None:
        spec = four_runs(trials=14, pruner=pruner)
        sweep(tmp_path, spec)
        runs = [run for run in runs_in(tmp_path) if run.optuna_study == "small"]

        reference = optuna.create_study(study_name="small", pruner=make_pruner(spec))
        expected = []
        for run in runs:
            reference.enqueue_trial(dict(run.params))
            trial = reference.ask(space.distributions(spec))
            state, count = TrialState.COMPLETE, EVALUATIONS
            for index in range(EVALUATIONS):
                trial.report(fake_training.point_at(run.config, index).val_loss, step=index)
                if run.origin == "sampler" and index < EVALUATIONS - 1 and trial.should_prune():
                    state, count = TrialState.PRUNED, index + 1
                    break
            loss = fake_training.final_loss(run.config) if state is TrialState.COMPLETE else None
            reference.tell(trial, loss, state=state)
            expected.append((state, count))

        assert [(trial.state, len(trial.intermediate_values)) for trial in optuna_trials_in(tmp_path)] == expected
        outcomes = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
        assert [(run.outcome, len(run.points)) for run in runs] == [(outcomes[s], count) for s, count in expected]
        assert {state for state, _ in expected} == {TrialState.COMPLETE, TrialState.PRUNED}

    def test_a_pruned_trial_keeps_the_reason_and_only_sampled_trials_are_pruned(self, tmp_path: Path) -> None:
        sweep(tmp_path, four_runs(candidates=[{"dropout": 0.3}], trials=7, pruner=MEDIAN))
        runs = runs_in(tmp_path)
        assert all(run.outcome == "complete" for run in runs if run.origin != "sampler")
        pruned = [run for run in runs if run.outcome == "pruned"]
        assert pruned
        for run in pruned:
            assert run.origin == "sampler"
            assert run.val_loss is None
            trial, pruning, last = optuna_trials_in(tmp_path)[run.trial], run.pruning, run.points[-1]
            assert pruning is not None
            assert (pruning.rule, pruning.step, pruning.val_loss) == ("median", last.step, last.val_loss)
            assert pruning.best_so_far > pruning.peers_median
            assert run.reason == trial.user_attrs["reason"]
            assert run.reason.startswith(f"median: loss {last.val_loss:.4f} at step {last.step}")
        assert event_kinds(tmp_path).count("pruned") == len(pruned)

    def test_the_record_holds_the_losses_that_were_compared(self, tmp_path: Path) -> None:
        sweep(tmp_path, plateau_study(pruner=MEDIAN))
        runs = runs_in(tmp_path)
        pruned = [run for run in runs if run.outcome == "pruned"]
        assert pruned
        for run in pruned:
            pruning = run.pruning
            assert pruning is not None
            earlier = [other for other in runs if other.id < run.id and other.outcome == "complete"]
            losses = sorted(other.points[pruning.evaluation].val_loss for other in earlier)
            middle = len(losses) // 2
            expected = Pruning(
                rule="median",
                reason="median",
                evaluation=len(run.points) - 1,
                step=run.points[-1].step,
                val_loss=run.points[-1].val_loss,
                sentinel=False,
                completed=len(earlier),
                best=min(other.val_loss or math.inf for other in earlier),
                best_so_far=min(point.val_loss for point in run.points),
                peers_median=losses[middle] if len(losses) % 2 else (losses[middle - 1] + losses[middle]) / 2,
                peers_best=losses[0],
            )
            assert pruning == expected
            assert run.reason == pruning.why
        assert all(run.pruning is None for run in runs if run.outcome == "complete")
