"""The plateau pruner in a sweep: what it is told of trials, what becomes of its decisions, and that none is revised."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from sweeps.engine import decisions as decisions_module
from sweeps.engine import sampler
from sweeps.engine.ledger import Ledger
from sweeps.engine.optuna_trials import OptunaTrials
from sweeps.paths import StudyPaths
from sweeps.pruning.forecast import Curve
from sweeps.pruning.pruner import _Past
from sweeps.pruning.rule import Decision, Rule
from sweeps.store.records import Pruning, Run
from sweeps.store.store import Reader, Store
from sweeps.study import space
from sweeps.study.study import Study
from sweeps.workers.pool import Job, Report
from tests.helpers import fake_training, small_sweep
from tests.helpers.small_sweep import Watcher, essence, stored_results, sweep
from tests.sweeps.engine.test_runner import Killed, deadly, optuna_trials
from trainer.points import Result
from trainer.schedule import learning_rates

PLATEAU: dict[str, Any] = {"type": "plateau", "epsilon": 0.05, "min_completed": 3, "sentinel": 0.5}
WARM = 5
"""iterations of warm-up, and evaluations: the first look is after it"""


def study(**changes: Any) -> Study:
    """Rate and dropout; a baseline, three single-knob trials, the sampler's; half of the hopeless ones go on."""
    settings = {**small_sweep.study().baseline, "warmup_iters": WARM}
    given: dict[str, Any] = {"baseline": settings, "baseline_seeds": 1, "trials": 12, "pruner": PLATEAU}
    return small_sweep.study(**{**given, **changes})


def events(folder: Path) -> list[tuple[int | None, str, str]]:
    with Reader(f"sqlite:///{StudyPaths(folder).store}") as reader:
        return [(event.run, event.kind, event.detail) for event in reader.events("small")]


def decisions(folder: Path) -> dict[int, Pruning]:
    """What the store says of each trial that the pruner has decided against, by its number."""
    return {run.trial: run.pruning for run in runs_of(folder) if run.pruning is not None}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `study()` was run in one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    sweep(folder, study())
    return folder


def runs_of(folder: Path) -> tuple[Run, ...]:
    return stored_results(folder).runs


def as_pruning(numbers: dict[str, Any], *, sentinel: bool) -> Pruning:
    """PlateauPruner's attribute as a run has it, where an iteration is an evaluation."""
    predicted = numbers["predicted"] or dict.fromkeys(("mean", "scale", "degrees"))
    given = {**numbers, "predicted": predicted["mean"], "scale": predicted["scale"], "degrees": predicted["degrees"]}
    return Pruning(**given, step=numbers["evaluation"], sentinel=sentinel)


class TestDecisions:
    def test_they_are_those_of_optunas_own_loop(self, undisturbed: Path) -> None:
        """The pruner in a study of its own, told of the same trials by hand."""
        ours = optuna_trials(undisturbed)
        pruner = sampler.make_pruner(study())
        reference = optuna.create_study(study_name="small", pruner=pruner)
        spared = 0
        for run, mine in zip(runs_of(undisturbed), ours, strict=True):
            reference.enqueue_trial(dict(run.params))
            trial = reference.ask(space.distributions(study()))
            trial.set_user_attr("lr", learning_rates(run.config))
            state = TrialState.COMPLETE
            for index in range(21):
                trial.report(fake_training.point_at(run.config, index).val_loss, step=index)
                told = reference.trials[trial.number]
                if run.origin == "sampler" and index < 20 and pruner.prune(reference, told):
                    state = TrialState.PRUNED
                    break
            reference.tell(
                trial, fake_training.final_loss(run.config) if state is TrialState.COMPLETE else None, state=state
            )
            theirs = reference.trials[trial.number]
            assert (theirs.state, theirs.intermediate_values) == (mine.state, mine.intermediate_values)
            kinds = {"pruned", "sentinel"} & theirs.user_attrs.keys()
            assert bool(kinds) == (run.pruning is not None)
            for kind in kinds:
                assert run.pruning == as_pruning(theirs.user_attrs[kind], sentinel=kind == "sentinel")
                spared += kind == "sentinel"
        states = [trial.state for trial in ours]
        assert states.count(TrialState.PRUNED) >= 2
        assert spared >= 2

    def test_the_hopeless_are_stopped_after_their_warm_up_and_the_best_are_not(self, undisturbed: Path) -> None:
        runs = runs_of(undisturbed)
        pruned = [run for run in runs if run.outcome == "pruned"]
        complete = [run for run in runs if run.outcome == "complete"]
        assert pruned
        assert {run.origin for run in pruned} == {"sampler"}
        for run in pruned:
            assert WARM <= len(run.points) - 1 <= 16
            assert run.val_loss is None
            assert [point.step for point in run.points] == list(range(len(run.points)))  # whole to where it stopped
        ends = [fake_training.final_loss(run.config) for run in complete]
        assert min(fake_training.final_loss(run.config) for run in pruned) > min(ends) + 0.03

    def test_a_run_says_why(self, undisturbed: Path) -> None:
        trials, said = optuna_trials(undisturbed), events(undisturbed)
        decided = [run for run in runs_of(undisturbed) if run.pruning]
        assert {run.outcome for run in decided} == {"pruned", "complete"}
        for run in decided:
            pruning = run.pruning
            assert pruning is not None
            assert pruning.sentinel == (run.outcome == "complete")
            kind = "sentinel" if pruning.sentinel else "pruned"
            assert (pruning.best_so_far, pruning.peers_median, pruning.peers_best) == (None, None, None)  # Optuna's
            assert (pruning.rule, pruning.schedule_known, pruning.epsilon) == ("plateau", True, 0.05)
            assert pruning.step == pruning.evaluation
            assert pruning.val_loss == run.points[pruning.evaluation].val_loss
            assert pruning.chance is not None
            assert pruning.chance < 0.05
            assert pruning.predicted == pytest.approx(fake_training.final_loss(run.config), abs=0.1)
            assert (run.id, kind, pruning.why) in said
            if run.outcome == "pruned":
                assert pruning.evaluation == len(run.points) - 1
                assert run.reason == pruning.why == trials[run.trial].user_attrs["reason"]
            else:
                assert run.reason == ""
                assert len(run.points) == 21
                assert run.val_loss == fake_training.final_loss(run.config)
        assert len([kind for _, kind, _ in said if kind in ("pruned", "sentinel")]) == len(decided)

    def test_without_sentinels_none_is_spared_and_with_all_none_is_stopped(self, tmp_path: Path) -> None:
        outcomes = {}
        for share in (0, 1):
            watcher = Watcher()
            sweep(tmp_path / str(share), study(pruner={**PLATEAU, "sentinel": share}, trials=8), observer=watcher)
            runs = [run for run in runs_of(tmp_path / str(share)) if run.pruning]
            outcomes[share] = {run.outcome for run in runs}
            assert len(watcher.notes) == share * len(runs)
            assert all("goes on as a sentinel; dominated: would end at" in note for note in watcher.notes)
        assert outcomes == {0: {"pruned"}, 1: {"complete"}}

    def test_what_a_person_queues_is_judged_with_its_rates_and_parameters(self, tmp_path: Path) -> None:
        def queue(tick: int) -> None:
            if tick == 100:  # the fifth run has begun
                storage = optuna.storages.RDBStorage(f"sqlite:///{StudyPaths(tmp_path).store}")
                search = optuna.load_study(storage=storage, study_name="small")
                for dropout in (0.4, 0.35):  # both wait at once
                    search.enqueue_trial({"dropout": dropout, "learning_rate": 1e-4})
                storage.remove_session()
                storage.engine.dispose()

        sweep(tmp_path, study(pruner={**PLATEAU, "sentinel": 0}, trials=8), at_tick=queue)
        queued = [run for run in runs_of(tmp_path) if run.params["learning_rate"] == 1e-4 and run.origin == "sampler"]
        assert len(queued) == 2
        for run in queued:
            assert run.outcome == "pruned"
            assert run.pruning is not None
            assert run.pruning.schedule_known
            assert run.pruning.evaluation == WARM


def never_twice(folder: Path, known: dict[int, Pruning]) -> None:
    """No decision that was written down is another one now."""
    now = decisions(folder)
    assert {number: now[number] for number in known} == known
    known.update(now)


class TestKilled:
    """A restarted sweep decides what an undisturbed one does."""

    def test_between_any_two_writes(self, tmp_path: Path, undisturbed: Path) -> None:
        deaths, known = 0, dict[int, Pruning]()
        for owner, method, moment, calls in [
            (OptunaTrials, "_with_all_params", "after", 1),
            (Store, "add_run", "before", 1),
            (Store, "add_run", "after", 1),
            *[(Ledger, "begin", "before", 2)] * 3,  # of a new run after one that is taken up
            *[(Ledger, "begin", "after", 2)] * 3,
            *[(Store, "decided", "before", 1)] * 2,
            *[(Ledger, "decide", "true", 1)] * 4,
            *[(Store, "decided", "after", 1)] * 2,
            (Store, "ended", "after", 1),
            (OptunaTrials, "tell", "before", 1),
            (OptunaTrials, "tell", "after", 1),
            (Store, "decided", "after", 1),
            (Ledger, "decide", "true", 1),
        ]:
            with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
                patch.setattr(owner, method, deadly(getattr(owner, method), moment, calls))
                deaths += 1
                sweep(tmp_path, study())
                deaths -= 1
            if StudyPaths(tmp_path).store.exists():
                never_twice(tmp_path, known)
        assert deaths >= 21
        assert sweep(tmp_path, study()).finished
        self.same(tmp_path, undisturbed)

    def test_at_any_tick(self, tmp_path: Path, undisturbed: Path) -> None:
        known: dict[int, Pruning] = {}
        for death in itertools.cycle([29, 31, 37, 26]):  # a run that is taken up replays up to 21

            def die(tick: int, death: int = death) -> None:
                if tick == death:
                    raise Killed

            with contextlib.suppress(Killed):
                if sweep(tmp_path, study(), at_tick=die).finished:
                    break
            never_twice(tmp_path, known)
        self.same(tmp_path, undisturbed)

    def test_with_several_workers_no_decision_is_revised(self, tmp_path: Path) -> None:
        """What runs beside what depends on when it was killed, so decisions may; each is made once all the same."""
        known: dict[int, Pruning] = {}

        def die(tick: int) -> None:
            if tick == 70:
                raise Killed

        for _ in range(40):
            with contextlib.suppress(Killed):
                if sweep(tmp_path, study(), devices=("cpu", "cpu"), at_tick=die).finished:
                    break
            never_twice(tmp_path, known)
        never_twice(tmp_path, known)
        runs = [run for run in runs_of(tmp_path) if run.pruning]
        assert {run.trial: run.outcome for run in runs} == {
            number: "complete" if pruning.sentinel else "pruned" for number, pruning in known.items()
        }

    def same(self, folder: Path, undisturbed: Path) -> None:
        assert essence(stored_results(folder)) == essence(stored_results(undisturbed))
        assert decisions(folder) == decisions(undisturbed)
        told = [[event for event in events(where) if event[1] == "sentinel"] for where in (folder, undisturbed)]
        assert told[0] == told[1]


def pictured(curve: Curve) -> tuple[Any, ...]:
    """A curve's content; NaN is not itself."""
    schedule = (*curve.schedule.progress, curve.schedule.total)
    return (tuple(map(str, curve.losses)), schedule, tuple(curve.knobs), curve.final, curve.predicted)


def test_the_rule_sees_what_the_pruner_would_in_optunas_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each decision: also of trials asked in this session, taken up, queued by a person, diverged."""
    real, compared = decisions_module.decide, list[int]()

    def checked(rule: Rule, curve: Curve, others: tuple[Curve, ...]) -> Decision:
        runs = {run.trial: run for run in runs_of(tmp_path) if run.optuna_study == "small"}
        trials = []
        for trial in optuna_trials(tmp_path):
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                run = runs[trial.number]
                trial.set_user_attr("lr", learning_rates(run.config))
                if run.outcome == "pruned" and run.pruning is not None:
                    trial.set_user_attr("pruned", {"predicted": {"mean": run.pruning.predicted}})
                trials.append(trial)
        past = _Past().updated(trials, space.distributions(study()))
        assert [pictured(other)[1:] for other in others] == [pictured(theirs)[1:] for theirs in past.curves]
        ended = [runs[trial.number] for trial in trials]
        for mine, theirs, run in zip(others, past.curves, ended, strict=True):
            if run.outcome != "diverged":  # of which Optuna has a loss that is no number at its end
                assert pictured(mine)[0] == pictured(theirs)[0]
        compared.append(len(others))
        return real(rule, curve, others)

    def work(job: Job, report: Report) -> Result:
        if job.run % 5 == 0:
            report(fake_training.point_at(job.config, 0))
            return Result(outcome="diverged", step=3, points=(), reason="it is", seconds=1.0)
        return fake_training.train(job, report)

    def at_tick(tick: int) -> None:
        if tick == 60:
            storage = optuna.storages.RDBStorage(f"sqlite:///{StudyPaths(tmp_path).store}")
            search = optuna.load_study(storage=storage, study_name="small")
            for dropout in (0.25, 0.3):  # both wait at once
                search.enqueue_trial({"dropout": dropout, "learning_rate": 2e-3})
            storage.remove_session()
            storage.engine.dispose()
        if tick == 120:
            raise Killed

    monkeypatch.setattr(decisions_module, "decide", checked)
    for _ in range(20):
        with contextlib.suppress(Killed):
            if sweep(tmp_path, study(), devices=("cpu", "cpu"), work=work, at_tick=at_tick).finished:
                break
    assert max(compared) >= 10
    assert len(compared) > 30


def exploding(job: Job, report: Report) -> Result:
    """The closed form; but the sampler's trials rise by a nat an evaluation from their third on."""
    if job.run < 5:
        return fake_training.train(job, report)

    def rising(point: Any) -> Any:
        return report(dataclasses.replace(point, val_loss=point.val_loss + 2.0 * max(0, point.step - 2)))

    return fake_training.train(job, rising)


def test_an_explosion_is_stopped_without_a_prediction_and_spares_no_sentinel(tmp_path: Path) -> None:
    sweep(tmp_path, study(pruner={**PLATEAU, "sentinel": 1}, trials=5), work=exploding)
    runs = [run for run in runs_of(tmp_path) if run.origin == "sampler"]
    assert runs
    for run in runs:
        assert run.outcome == "pruned"
        assert run.pruning is not None
        assert (run.pruning.reason, run.pruning.sentinel, run.pruning.predicted) == ("diverged", False, None)
        assert run.reason == f"diverged: loss {run.points[-1].val_loss:.4f} at step {run.points[-1].step}"


def test_optunas_pruners_say_what_they_compared(tmp_path: Path) -> None:
    sweep(tmp_path, study(pruner={"type": "median", "startup_trials": 1, "warmup": 0.0}))
    runs = runs_of(tmp_path)
    pruned = [run for run in runs if run.outcome == "pruned"]
    assert pruned
    for run in pruned:
        pruning = run.pruning
        assert pruning is not None
        before = [one for one in runs if one.id < run.id and one.outcome == "complete"]
        there = sorted(one.points[pruning.evaluation].val_loss for one in before)
        middle = len(there) // 2
        expected = Pruning(
            rule="median",
            reason="median",
            evaluation=len(run.points) - 1,
            step=run.points[-1].step,
            val_loss=run.points[-1].val_loss,
            sentinel=False,
            completed=len(before),
            best=min(one.val_loss or math.inf for one in before),
            best_so_far=min(point.val_loss for point in run.points),
            peers_median=there[middle] if len(there) % 2 else (there[middle - 1] + there[middle]) / 2,
            peers_best=there[0],
        )
        assert pruning == expected
        assert run.reason == pruning.why
    assert all(run.pruning is None for run in runs if run.outcome == "complete")


def test_a_pruned_runs_numbers_stand_in_our_table(undisturbed: Path) -> None:
    with closing(sqlite3.connect(StudyPaths(undisturbed).store)) as connection:
        rows = dict(connection.execute("SELECT id, pruning FROM run").fetchall())
    for run in runs_of(undisturbed):
        expected = dataclasses.asdict(run.pruning) if run.pruning else None
        assert (json.loads(rows[run.id]) if rows[run.id] else None) == expected
