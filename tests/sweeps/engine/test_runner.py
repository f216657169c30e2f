"""The loop: what runs in which order, what Optuna is told, and that no moment to be killed at changes the outcome."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from sweeps.engine.ledger import Ledger
from sweeps.engine.optuna_trials import OptunaTrials
from sweeps.engine.progress import Progress, Silent
from sweeps.engine.runner import WorkerError
from sweeps.engine.sampler import make_pruner
from sweeps.engine.session import run_in
from sweeps.errors import StoreBusy, StudyChanged
from sweeps.paths import StudyPaths
from sweeps.store.store import Reader, Store
from sweeps.study import space
from sweeps.study.study import Study
from sweeps.workers.pool import Finished, Job, Message, PointMessage, Report
from tests.helpers import fake_training, small_sweep
from tests.helpers.inline_pool import InlinePool
from tests.helpers.small_sweep import Watcher, by_origin, essence, found, sweep
from trainer.errors import DataError, UserError
from trainer.points import Result

DROPOUT = {"dropout": {"low": 0.0, "high": 0.4}}
MEDIAN = {"type": "median", "startup_trials": 1, "warmup": 0.0}
Essence = list[dict[str, Any]]
HYPERBAND = {"type": "hyperband", "min_evaluations": 2, "reduction_factor": 2}


def small(**changes: Any) -> Study:
    """One baseline, one star point (dropout at its high) and the sampler's: four runs."""
    return small_sweep.study(**{"knobs": DROPOUT, "baseline_seeds": 1, "trials": 3, **changes})


def optuna_trials(folder: Path, name: str = "small") -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{StudyPaths(folder).store}")
    try:
        return optuna.load_study(storage=storage, study_name=name).get_trials()
    finally:
        storage.remove_session()
        storage.engine.dispose()


def events(folder: Path, name: str = "small") -> list[str]:
    with Reader(f"sqlite:///{StudyPaths(folder).store}") as reader:
        return [event.kind for event in reader.events(name)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Essence:
    """What `small()` ends as, when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    sweep(folder, small())
    return essence(found(folder))


class Killed(BaseException):
    """The end of a process, as far as a test can have it."""


class TestPhases:
    def test_every_phase_in_its_order(self, tmp_path: Path) -> None:
        candidates = [{"dropout": 0.1}, {"weight_decay": 0.2}]  # weight_decay is no knob: the space can't express it
        watcher = Watcher()
        summary = sweep(tmp_path, small_sweep.study(candidates=candidates, trials=8), observer=watcher)
        assert summary.finished
        assert not summary.interrupted
        assert not summary.truncated
        assert summary.counts == dict.fromkeys(summary.counts, 0) | {"complete": 10}
        assert (summary.started, watcher.notes) == (10, [])
        results = found(tmp_path)
        assert by_origin(results) == {"baseline": 2, "candidate": 2, "star": 3, "combined": 1, "sampler": 2}
        assert [(run.optuna_study, run.trial) for run in results.runs[:4]] == [
            ("small", 0),
            ("small-confirm", 0),
            ("small", 1),
            ("small-confirm", 1),
        ]
        assert {run.phase for run in results.runs if run.origin == "baseline"} == {"baseline"}
        assert sum(run.phase == "search" for run in results.runs) == 8
        assert {run.seed for run in results.runs if run.phase == "search"} == {1337}
        sampled = [run.params["dropout"] for run in results.runs if run.origin == "sampler"]
        assert len(set(sampled)) == 2
        for run in results.runs:
            assert run.val_loss == fake_training.final_loss(run.config)
            assert len(run.points) == 21

    def test_optuna_has_the_same_values_and_the_whole_curve(self, tmp_path: Path) -> None:
        sweep(tmp_path, small())
        trials = optuna_trials(tmp_path)
        runs = [run for run in found(tmp_path).runs if run.optuna_study == "small"]
        assert [trial.number for trial in trials] == [run.trial for run in runs] == [0, 1, 2, 3]
        for trial, run in zip(trials, runs, strict=True):
            assert trial.state is TrialState.COMPLETE
            assert trial.value == run.val_loss
            assert trial.params == run.params == {"dropout": run.config.dropout}
            assert trial.intermediate_values == {point.step: point.val_loss for point in run.points}
            assert trial.user_attrs["run"] == run.id

    def test_evaluations_are_one_grid_whatever_the_iterations(self, tmp_path: Path) -> None:
        sweep(tmp_path, small_sweep.study(horizon={"iters": 60}, baseline_seeds=1, trials=1))
        (baseline, _) = optuna_trials(tmp_path)
        assert list(baseline.intermediate_values) == list(range(21))
        assert [point.step for point in found(tmp_path).runs[0].points] == list(range(0, 61, 3))

    def test_too_few_trials_for_the_star_are_told(self, tmp_path: Path) -> None:
        watcher = Watcher()
        sweep(tmp_path, small_sweep.study(trials=2, baseline_seeds=1), observer=watcher)
        assert by_origin(found(tmp_path)) == {"baseline": 1, "star": 2}
        assert "leave out 1 of the candidates" in watcher.notes[0]

    def test_idle_workers_get_the_next_run_at_once_and_the_result_is_the_same(
        self, tmp_path: Path, undisturbed: Essence
    ) -> None:
        def full(progress: Progress) -> None:
            left = progress.planned - sum(progress.counts.values())
            in_flight.append((len(progress.in_flight), left))

        in_flight: list[tuple[int, int]] = []
        watcher = Watcher()
        watcher.progress = full  # type: ignore[method-assign]
        sweep(tmp_path, small(), devices=("cpu",) * 3, observer=watcher)
        assert essence(found(tmp_path)) == undisturbed
        # after a tick one worker at most has ended and is not busy again yet
        assert all(flying >= min(3, left) - 1 for flying, left in in_flight)
        assert max(flying for flying, _ in in_flight) == 3

    @pytest.mark.parametrize("sampler", ["tpe", "qmc", "gp", "cmaes"])
    def test_every_sampler_without_a_warning(self, tmp_path: Path, sampler: str) -> None:
        assert sweep(tmp_path, small_sweep.study(sampler={"type": sampler}, baseline_seeds=1, trials=4)).finished

    def test_a_finished_study_says_so_and_does_nothing(self, tmp_path: Path) -> None:
        sweep(tmp_path, small())
        before = found(tmp_path)
        watcher = Watcher()
        summary = sweep(tmp_path, small(), observer=watcher, work=refuse)
        assert summary.finished
        assert (summary.started, summary.counts["complete"]) == (0, 4)
        assert "is finished: 4 runs; raise trials (now 3)" in watcher.notes[0]
        assert found(tmp_path).runs == before.runs

    def test_a_study_may_grow(self, tmp_path: Path) -> None:
        sweep(tmp_path / "grown", small(trials=2))
        sweep(tmp_path / "grown", small(trials=4, baseline_seeds=2))
        assert found(tmp_path / "grown").study.trials == 4
        sweep(tmp_path / "whole", small(trials=4, baseline_seeds=2))
        assert essence(found(tmp_path / "grown")) == essence(found(tmp_path / "whole"))


def refuse(job: Job, report: Report) -> Result:
    raise AssertionError("nothing is to be trained")


class TestPruning:
    @pytest.mark.parametrize("pruner", [MEDIAN, HYPERBAND])
    def test_decisions_are_those_of_optunas_own_loop(self, tmp_path: Path, pruner: dict[str, Any]) -> None:
        spec = small(trials=14, pruner=pruner)
        sweep(tmp_path, spec)
        ours = [run for run in found(tmp_path).runs if run.optuna_study == "small"]

        reference = optuna.create_study(study_name="small", pruner=make_pruner(spec))
        expected = []
        for run in ours:
            reference.enqueue_trial(dict(run.params))
            trial = reference.ask(space.distributions(spec))
            state, steps = TrialState.COMPLETE, 21
            for index in range(21):
                trial.report(fake_training.point_at(run.config, index).val_loss, step=index)
                if run.origin == "sampler" and index < 20 and trial.should_prune():
                    state, steps = TrialState.PRUNED, index + 1
                    break
            value = fake_training.final_loss(run.config) if state is TrialState.COMPLETE else None
            reference.tell(trial, value, state=state)
            expected.append((state, steps))

        assert [(trial.state, len(trial.intermediate_values)) for trial in optuna_trials(tmp_path)] == expected
        outcomes = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
        assert [(run.outcome, len(run.points)) for run in ours] == [(outcomes[s], n) for s, n in expected]
        assert {state for state, _ in expected} == {TrialState.COMPLETE, TrialState.PRUNED}

    def test_a_pruned_trial_keeps_the_rule_and_its_numbers_and_evidence_is_never_pruned(self, tmp_path: Path) -> None:
        sweep(tmp_path, small(candidates=[{"dropout": 0.3}], trials=7, pruner=MEDIAN))
        runs = found(tmp_path).runs
        assert all(run.outcome == "complete" for run in runs if run.origin != "sampler")
        pruned = [run for run in runs if run.outcome == "pruned"]
        assert pruned
        for run in pruned:
            assert run.origin == "sampler"
            assert run.val_loss is None
            trial, pruning, last = optuna_trials(tmp_path)[run.trial], run.pruning, run.points[-1]
            assert pruning is not None
            assert (pruning.rule, pruning.step, pruning.val_loss) == ("median", last.step, last.val_loss)
            assert pruning.best_so_far > pruning.peers_median
            assert run.reason == trial.user_attrs["reason"]
            assert run.reason.startswith(f"median: loss {last.val_loss:.4f} at step {last.step}")
        assert events(tmp_path).count("pruned") == len(pruned)


class TestKilled:
    """Killed at any moment and run again, a sweep ends as an undisturbed one."""

    @pytest.mark.parametrize(("sampler", "pruner"), [("tpe", MEDIAN), ("random", HYPERBAND)])
    def test_between_any_two_writes(self, tmp_path: Path, sampler: str, pruner: dict[str, Any]) -> None:
        spec = small(trials=7, sampler={"type": sampler}, pruner=pruner)
        undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
        sweep(undisturbed, spec)
        assert "pruned" in events(undisturbed)
        prune = (Ledger, "decide")
        deaths = 0
        for owner, method, moment, calls in [
            (optuna.Study, "enqueue_trial", "before", 1),
            (optuna.Study, "enqueue_trial", "after", 1),
            (OptunaTrials, "_taken_up", "before", 1),
            (Store, "add_run", "before", 1),
            (Store, "add_run", "after", 1),
            (Store, "launched", "before", 1),
            (Store, "launched", "after", 1),
            (Store, "add_points", "before", 1),
            (Store, "add_points", "after", 1),
            (OptunaTrials, "report", "after", 5),
            (Store, "add_points", "after", 9),
            (Store, "ended", "before", 1),
            (Store, "ended", "after", 1),
            (OptunaTrials, "tell", "after", 2),
            (Store, "decided", "before", 1),  # decided, and not written yet
            *[(*prune, "true", 1)] * 3,  # killed once the decision is written, and again on each resume
            (Store, "ended", "before", 1),
            (Store, "ended", "after", 1),
            (OptunaTrials, "tell", "before", 1),
            (OptunaTrials, "ask", "after", 1),
            (*prune, "before", 2),
            (*prune, "after", 1),
            (OptunaTrials, "ask", "after", 1),
        ]:
            with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
                patch.setattr(owner, method, deadly(getattr(owner, method), moment, calls))
                deaths += 1
                sweep(killed, spec)
                deaths -= 1
        assert deaths >= 22  # Hyperband and the median prune at different times
        assert sweep(killed, spec).finished
        assert essence(found(killed)) == essence(found(undisturbed))
        states = [(trial.state, trial.values, trial.intermediate_values) for trial in optuna_trials(killed)]
        expected = [(trial.state, trial.values, trial.intermediate_values) for trial in optuna_trials(undisturbed)]
        assert states == expected

    def test_between_any_two_ticks_with_several_workers(self, tmp_path: Path, undisturbed: Essence) -> None:
        def die(tick: int) -> None:
            if tick == 50:  # a replay of two whole runs is shorter
                raise Killed

        for _ in range(60):
            with contextlib.suppress(Killed):
                if sweep(tmp_path, small(), devices=("cpu", "cpu"), at_tick=die).finished:
                    break
        assert essence(found(tmp_path)) == undisturbed

    def test_a_trial_queued_but_not_asked_is_found_and_not_doubled(self, tmp_path: Path) -> None:
        def queue(store: Store) -> None:
            study = optuna.create_study(storage=store.storage, study_name="small", load_if_exists=True)
            if not study.trials:
                study.enqueue_trial({"dropout": 0.0}, user_attrs={"key": "baseline:0"})

        # the study's row is written before anything is queued
        with pytest.raises(Killed):
            sweep(tmp_path, small(), at_tick=raise_killed, observer=DiesAtOnce())
        sweep(tmp_path, small(), prepare=queue)
        trials = optuna_trials(tmp_path)
        assert [trial.user_attrs.get("key") for trial in trials] == ["baseline:0", "star:dropout:high", None, None]
        assert {trial.state for trial in trials} == {TrialState.COMPLETE}

    @pytest.mark.parametrize(
        ("trials", "origins"),
        [(3, {"baseline": 1, "sampler": 2, "star": 1}), (1, {"baseline": 1, "sampler": 1})],
    )
    def test_what_a_person_queues_goes_first(self, tmp_path: Path, trials: int, origins: dict[str, int]) -> None:
        def queue(tick: int) -> None:
            if tick == 1:
                storage = optuna.storages.RDBStorage(f"sqlite:///{StudyPaths(tmp_path).store}")
                optuna.load_study(storage=storage, study_name="small").enqueue_trial({"dropout": 0.125})
                storage.remove_session()
                storage.engine.dispose()

        sweep(tmp_path, small(trials=trials), at_tick=queue)
        assert by_origin(found(tmp_path)) == origins
        assert found(tmp_path).runs[1].config.dropout == 0.125
        assert {trial.state for trial in optuna_trials(tmp_path)} == {TrialState.COMPLETE}


def deadly(method: Callable[..., Any], moment: str, calls: int) -> Callable[..., Any]:
    """`method`, but at its `calls`-th call (that decides against a run, for the moment "true") the process ends."""
    left = calls

    def call(*args: Any, **named: Any) -> Any:
        nonlocal left
        if moment == "before" and left == 1:
            raise Killed
        result = method(*args, **named)
        left -= moment != "true" or result is not None
        if left == 0:
            raise Killed
        return result

    return call


def raise_killed(tick: int) -> None:
    raise Killed


class DiesAtOnce(Silent):
    def begun(self, study: object, baseline: object, runs: object) -> None:
        raise Killed


class TestInterrupted:
    def test_once_pauses_at_the_next_evaluation_and_goes_on_from_there(
        self, tmp_path: Path, undisturbed: Essence
    ) -> None:
        interrupts: list[signal.Signals] = []

        def press(tick: int) -> None:
            if tick == 31:
                interrupts.append(signal.SIGTERM)

        folder, watcher = tmp_path / "interrupted", Watcher()
        summary = sweep(folder, small(), at_tick=press, interrupts=interrupts, observer=watcher)
        assert summary.interrupted == signal.SIGTERM
        assert watcher.notes == [
            "interrupted by SIGTERM: runs pause at their next step; SIGTERM again stops them now",
        ]
        assert not summary.finished
        in_flight = [run for run in found(folder).runs if run.outcome == "running"]
        assert [len(run.points) for run in in_flight] == [9]  # the 31st tick, after the baseline's 22
        assert (StudyPaths(folder).checkpoint(in_flight[0].id)).exists()
        assert optuna_trials(folder)[1].state is TrialState.RUNNING
        trained: list[int] = []
        sweep(folder, small(), work=noting_new_steps(trained))
        assert essence(found(folder)) == undisturbed
        assert events(folder).count("interrupted") == 1
        with Reader(f"sqlite:///{StudyPaths(folder).store}") as reader:
            assert [event.detail for event in reader.events("small") if event.kind == "interrupted"] == ["by SIGTERM"]

    def test_workers_are_asked_once_and_need_not_wait_for_an_evaluation(self, tmp_path: Path) -> None:
        interrupts: list[signal.Signals] = []
        asked: list[int] = []

        class Obedient(InlinePool):
            """Its run pauses without another point, once it is asked to."""

            def wait(self, timeout: float) -> list[Message]:
                messages = super().wait(timeout)
                if not asked:
                    interrupts[:] = [signal.SIGTERM] if messages[0].run == 2 else []
                    return messages
                self.kill(2)
                return [Finished(run=2, attempt=1, result=Result(outcome="paused", step=1, points=(), seconds=7.0))]

            def pause(self) -> None:
                asked.append(len(interrupts))

        paths = StudyPaths(tmp_path)
        with Store(f"sqlite:///{paths.store}") as store:
            pool = Obedient(["cpu"], work=fake_training.train)
            summary = run_in(
                pool, small(), paths, store, small_sweep.dataset(), observer=Silent(), interrupts=interrupts
            )
            pool.close()
        assert asked == [1]
        assert summary.interrupted == signal.SIGTERM
        assert [(run.outcome, len(run.points)) for run in found(tmp_path).runs] == [("complete", 21), ("running", 1)]
        assert sweep(tmp_path, small()).finished

    def test_twice_stops_now(self, tmp_path: Path) -> None:
        interrupts: list[signal.Signals] = []

        def press(tick: int) -> None:
            if tick == 31:
                interrupts.extend([signal.SIGINT, signal.SIGTERM])

        summary = sweep(tmp_path, small(), at_tick=press, interrupts=interrupts)
        assert summary.interrupted == signal.SIGINT
        assert [run.outcome for run in found(tmp_path).runs] == ["complete", "running"]
        assert sweep(tmp_path, small()).finished


def noting_new_steps(trained: list[int]) -> Callable[[Job, Report], Result]:
    def work(job: Job, report: Report) -> Result:
        trained.append(job.run)
        return fake_training.train(job, report)

    return work


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class TestHours:
    def test_the_deadline_truncates_and_more_hours_go_on(self, tmp_path: Path, undisturbed: Essence) -> None:
        clock, folder = Clock(), tmp_path / "hours"

        def pass_a_minute(tick: int) -> None:
            clock.now += 60.0

        summary = sweep(folder, small(hours=0.5), at_tick=pass_a_minute, clock=clock)
        assert summary.truncated
        assert not summary.interrupted
        assert summary.counts["truncated"] == 1
        assert summary.seconds >= 1800
        assert [run.outcome for run in found(folder).runs] == ["complete", "truncated"]
        assert optuna_trials(folder)[1].state is TrialState.RUNNING
        again = sweep(folder, small(hours=0.5), clock=clock, work=refuse)
        assert again.truncated
        assert again.started == 0
        # time that passes between sessions is not the sweep's
        clock.now += 1e6
        last = sweep(folder, small(hours=2.0), at_tick=pass_a_minute, clock=clock)
        assert last.finished
        assert 3600 < last.seconds < 7200
        assert essence(found(folder)) == undisturbed


class TestCrashes:
    def crashing(self, times: int, *, dropout: float, end: BaseException) -> Callable[[Job, Report], Result]:
        """Ends like that at its fifth point, the first `times` times that it is launched."""

        def work(job: Job, report: Report) -> Result:
            def fragile(point: Any) -> Any:
                if point.step == 4 and job.config.dropout == dropout and job.attempt <= times:
                    raise end
                return report(point)

            return fake_training.train(job, fragile)

        return work

    @pytest.mark.parametrize(("end", "kind"), [(RuntimeError("a bug"), "crashed"), (SystemExit(9), "died")])
    def test_a_crash_is_retried_twice_from_the_checkpoint(
        self, tmp_path: Path, undisturbed: Essence, end: BaseException, kind: str
    ) -> None:
        folder, watcher = tmp_path / "crashing", Watcher()
        summary = sweep(folder, small(), work=self.crashing(2, dropout=0.4, end=end), observer=watcher)
        assert summary.counts["complete"] == 4
        assert essence(found(folder)) == undisturbed
        assert events(folder) == [kind, kind]
        assert len(watcher.notes) == 2
        with Reader(f"sqlite:///{StudyPaths(folder).store}") as reader, reader._engine.connect() as connection:
            assert list(connection.exec_driver_sql("SELECT attempt FROM run").scalars()) == [1, 3, 1, 1]

    def test_the_third_time_it_has_failed_and_the_sweep_goes_on(self, tmp_path: Path) -> None:
        end = RuntimeError("a bug")
        summary = sweep(tmp_path, small(), work=self.crashing(3, dropout=0.4, end=end))
        assert summary.finished
        assert (summary.counts["failed"], summary.counts["complete"]) == (1, 3)
        failed = found(tmp_path).runs[1]
        assert failed.reason == "its worker crashed 3 times; the last time: RuntimeError: a bug"
        assert optuna_trials(tmp_path)[1].state is TrialState.FAIL
        assert events(tmp_path) == ["crashed"] * 3 + ["failed"]
        assert not StudyPaths(tmp_path).checkpoint(failed.id).exists()

    def test_workers_that_never_train_end_the_sweep(self, tmp_path: Path) -> None:
        with pytest.raises(WorkerError, match="a missing library"):
            sweep(tmp_path, small(), work=broken)
        assert len(found(tmp_path).runs) == 1

    def test_a_users_mistake_is_not_retried_and_can_be_mended(self, tmp_path: Path) -> None:
        work = self.crashing(1, dropout=0.4, end=DataError("/nowhere/data: is gone"))
        with pytest.raises(UserError, match=r"dropout at its high, 0.4: /nowhere/data: is gone"):
            sweep(tmp_path, small(), work=work)
        assert [run.outcome for run in found(tmp_path).runs] == ["complete", "running"]
        assert sweep(tmp_path, small()).counts["complete"] == 4

    def test_a_silent_worker_is_killed_and_its_run_relaunched(self, tmp_path: Path) -> None:
        clock = Clock()
        silences: list[float] = []

        def hangs(message: Message) -> bool:
            first_launch = (message.run, message.attempt) == (2, 1)
            return first_launch and isinstance(message, PointMessage) and message.point.step > 2

        class Silence(InlinePool):
            """From its fourth point on, run 2's first launch says nothing; a tick takes 100 s."""

            def wait(self, timeout: float) -> list[Message]:
                clock.now += 100.0
                messages = super().wait(timeout)
                hung = [
                    m
                    for m in messages
                    if isinstance(m, PointMessage) and (m.run, m.attempt) == (2, 1) and m.point.step > 2
                ]
                return [message for message in messages if message not in hung]

            def kill(self, run: int) -> None:
                silences.append(clock.now)
                super().kill(run)

        watcher = Watcher()
        with Store(f"sqlite:///{StudyPaths(tmp_path).store}") as store:
            pool = Silence(["cpu"], work=fake_training.train)
            summary = run_in(
                pool,
                small(),
                StudyPaths(tmp_path),
                store,
                small_sweep.dataset(),
                observer=watcher,
                clock=clock,
            )
            pool.close()
        assert summary.counts["complete"] == 4
        assert len(silences) == 1
        assert events(tmp_path) == ["hung"]
        # evaluations take half a second, so 600 s is the limit
        assert "its worker hung" in watcher.notes[0]

    def test_what_an_earlier_launch_still_says_is_not_listened_to(self, tmp_path: Path, undisturbed: Essence) -> None:
        class Echo(InlinePool):
            """Repeats what was said with another attempt, before it is said."""

            def wait(self, timeout: float) -> list[Message]:
                messages = super().wait(timeout)
                wrong = Result(outcome="complete", step=20, points=(), val_loss=0.0)
                said = messages[0]
                bad = dataclasses.replace(kit_point(), val_loss=0.0, step=7)
                old = said.attempt - 1
                return [
                    PointMessage(run=said.run, attempt=old, point=bad),
                    Finished(run=said.run, attempt=old, result=wrong),
                    Finished(run=999, attempt=1, result=wrong),
                    *messages,
                ]

        paths = StudyPaths(tmp_path / "echo")
        with Store(f"sqlite:///{paths.store}") as store:
            pool = Echo(["cpu"], work=fake_training.train)
            run_in(pool, small(), paths, store, small_sweep.dataset(), observer=Silent())
            pool.close()
        assert essence(found(tmp_path / "echo")) == undisturbed


def kit_point() -> Any:
    return fake_training.point_at(small_sweep.baseline(), 0)


def broken(job: Job, report: Report) -> Result:
    raise ImportError("a missing library")


class TestOutcomes:
    def ending(self, outcome: str, *, step: int, points: int) -> Callable[[Job, Report], Result]:
        """Trials with more than 0.1 dropout end like that."""

        def work(job: Job, report: Report) -> Result:
            if job.config.dropout <= 0.1:
                return fake_training.train(job, report)
            for index in range(points):
                report(fake_training.point_at(job.config, index))
            return Result(outcome=outcome, step=step, points=(), reason=f"it is {outcome}", seconds=1.0)

        return work

    def test_a_diverged_trial_is_pruned_at_its_step(self, tmp_path: Path) -> None:
        spec = small(sampler={"type": "tpe"}, trials=4)
        summary = sweep(tmp_path, spec, work=self.ending("diverged", step=6, points=6))
        star, trial = found(tmp_path).runs[1], optuna_trials(tmp_path)[1]
        assert (star.outcome, star.reason, star.val_loss) == ("diverged", "it is diverged", None)
        assert trial.state is TrialState.PRUNED
        assert trial.user_attrs["outcome"] == "diverged"
        assert list(trial.intermediate_values) == [0, 1, 2, 3, 4, 5, 6]
        assert math.isnan(trial.intermediate_values[6])
        assert trial.value is None
        assert "diverged" in events(tmp_path)
        assert summary.counts["diverged"] >= 1
        assert summary.counts["failed"] == 0

    def test_a_loss_that_is_no_number_is_the_trainers_to_judge(self, tmp_path: Path) -> None:
        def work(job: Job, report: Report) -> Result:
            if job.config.dropout == 0:
                return fake_training.train(job, report)
            answers = [
                report(
                    dataclasses.replace(fake_training.point_at(job.config, 0), val_loss=math.nan, train_loss=math.nan)
                )
            ]
            return Result(outcome="diverged", step=0, points=(), reason=f"answered {answers[0].value}")

        sweep(tmp_path, small(trials=2, pruner=MEDIAN), work=work)
        assert [run.reason for run in found(tmp_path).runs] == ["", "answered go", "answered go"]

    def test_an_infeasible_trial_breaks_a_constraint_and_is_no_failure(self, tmp_path: Path) -> None:
        spec = small(sampler={"type": "tpe"}, trials=12)
        summary = sweep(tmp_path, spec, work=self.ending("infeasible", step=0, points=0))
        trials = optuna_trials(tmp_path)
        assert trials[1].state is TrialState.PRUNED
        assert trials[1].constraints == {"fits_memory": 1.0}
        assert trials[0].constraints == {}
        assert found(tmp_path).runs[1].reason == "it is infeasible"
        assert summary.counts["failed"] == 0
        assert summary.finished


class TestCheckpoints:
    def test_baseline_and_best_are_kept_and_every_log(self, tmp_path: Path) -> None:
        def work(job: Job, report: Report) -> Result:
            job.out.mkdir(parents=True, exist_ok=True)
            (job.out / "log.txt").write_text("words")
            (job.out / "state-3.pt").write_text("state")
            (job.out / ".ckpt.pt.half").write_text("half")
            return fake_training.train(job, report)

        better = [{"learning_rate": 2e-3, "min_lr": 1e-4}, {"learning_rate": 3e-3, "min_lr": 1e-4}]  # the best twice
        sweep(tmp_path, small_sweep.study(candidates=better), work=work)
        results, paths = found(tmp_path), StudyPaths(tmp_path)
        in_search = [run for run in results.runs if run.optuna_study == "small"]
        best = min(in_search, key=lambda run: run.val_loss or math.inf)
        kept = {run.id for run in results.runs if run.phase == "baseline"} | {best.id}
        for run in results.runs:
            files = {file.name for file in paths.run(run.id).iterdir()}
            whole = {"ckpt.pt", "state-3.pt", ".ckpt.pt.half", "log.txt"}
            assert files == (whole if run.id in kept else {"log.txt"})


class TestOneStudy:
    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"horizon": {"iters": 40}}, "horizon"),
            ({"knobs": {"dropout": {"low": 0.0, "high": 0.3}}}, "dropout"),
            ({"seed": 1}, "seed"),
        ],
    )
    def test_another_study_of_this_name_is_refused(self, tmp_path: Path, changed: dict[str, Any], words: str) -> None:
        sweep(tmp_path, small(trials=1))
        before = found(tmp_path)
        with pytest.raises(StudyChanged, match=rf"begun with other settings: .*{words}.*another name"):
            sweep(tmp_path, small(trials=1, **changed))
        assert found(tmp_path) == before

    def test_other_data_are_refused(self, tmp_path: Path) -> None:
        sweep(tmp_path, small(trials=1))
        with pytest.raises(StudyChanged, match=r"data: was .*ffff.*, is .*0000"):
            sweep(tmp_path, small(trials=1), data=small_sweep.dataset(fingerprint="0" * 64))

    def test_a_second_driver_is_refused(self, tmp_path: Path) -> None:
        with Store(f"sqlite:///{StudyPaths(tmp_path).store}") as store, store.lock("small"):
            with pytest.raises(StoreBusy, match="is being run by process"):
                sweep(tmp_path, small())
            assert store.names() == []
