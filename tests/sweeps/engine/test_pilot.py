"""The pilot of a sweep: which length it chooses, that nothing runs twice, and that it can be killed at any moment."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
import signal
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from sweeps.analysis.findings import Findings
from sweeps.engine import pilot, session
from sweeps.engine.ledger import Ledger
from sweeps.engine.optuna_trials import OptunaTrials
from sweeps.engine.progress import planned_runs
from sweeps.errors import StudyChanged
from sweeps.paths import StudyPaths
from sweeps.store.records import Outcome, Results, Run
from sweeps.store.store import Store
from sweeps.study.pilot import Tried
from sweeps.study.study import Study
from sweeps.workers.pool import Job, Report
from tests.helpers import fake_training, small_sweep
from tests.helpers.kills import Killed, die_at, killing
from tests.helpers.small_sweep import Watcher, optuna_trials_in, reproducible_part, results_in, sweep
from trainer.config import TrainConfig
from trainer.points import Result


def piloted(**changes: Any) -> Study:
    """Return a study whose seeds differ little enough at 40 iterations, twice its horizon."""
    fields = {
        "pilot": {"effect": 1.6, "max_iters": 160},
        "baseline_seeds": 3,
        "knobs": {"dropout": {"low": 0.0, "high": 0.4}},
        "trials": 3,
    }
    return small_sweep.study(**{**fields, **changes})


def noise(config: TrainConfig) -> float:
    """Return the luck of a seed: -1, 0 or 1 times 0.6 nats at 20 iterations, half as much at twice the length."""
    return (config.seed % 3 - 1) * 0.6 * 20 / config.max_iters


def noisy(job: Job, report: Report) -> Result:
    """Train with seeds whose sd is 12 / iterations nats: 0.6, 0.3, 0.15."""
    result = fake_training.train(job, report)
    if result.val_loss is None:
        return result
    closed_form = result.val_loss - fake_training.final_loss(job.config) + 3.0 + job.config.dropout
    return dataclasses.replace(result, val_loss=closed_form + noise(job.config))


def refuse(job: Job, report: Report) -> Result:
    raise AssertionError("this session must train nothing")


@pytest.fixture(scope="module", autouse=True)
def frequencies() -> Iterator[None]:
    """Let token frequencies alone reach 6 nats, far above the losses of the fake training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "unigram_loss", lambda dataset: 6.0)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the piloted study, 9 runs, has been run in one go."""
    folder = tmp_path_factory.mktemp("whole")
    sweep(folder, piloted(), work=noisy)
    return folder


def run_of(iters: int, seed: int, loss: float | None, outcome: Outcome = Outcome.COMPLETE) -> Run:
    config = small_sweep.baseline().replace(max_iters=iters, seed=seed)
    changes = {"phase": "pilot", "origin": "pilot", "key": f"pilot:{iters}:{seed}", "outcome": outcome}
    return small_sweep.run(iters + seed, config=config, val_loss=loss, seed=seed, **changes)


def runs_of(lengths: dict[int, Collection[float | None]]) -> list[Run]:
    """Return the pilot's ended runs by length; None: the run diverged."""
    return [
        run_of(iters, seed, loss, Outcome.DIVERGED if loss is None else Outcome.COMPLETE)
        for iters, losses in lengths.items()
        for seed, loss in enumerate(losses)
    ]


FAR, NEAR = (3.0, 3.5, 4.0), (3.0, 3.3, 3.6)
"""losses whose sd are 0.5 and 0.3 nats, beside the 0.4 that piloted() is content with"""


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ({}, 20),
        ({20: FAR[:2]}, 20),
        ({20: FAR}, 40),
        ({20: NEAR}, None),
        ({20: FAR, 40: FAR, 80: FAR}, 160),
        ({20: FAR, 40: FAR, 80: NEAR}, None),
        ({20: FAR, 40: FAR, 80: FAR, 160: FAR}, None),
        ({20: (3.0, 4.1, None)}, None),
        ({20: FAR, 40: (None, None, None)}, None),
    ],
)
def test_the_next_length(lengths: dict[int, Collection[float | None]], expected: int | None) -> None:
    study = piloted()
    assert pilot.next_length(study, pilot.tried(study, runs_of(lengths), small_sweep.FACTS)) == expected


@pytest.mark.parametrize("outcome", [Outcome.RUNNING, Outcome.TRUNCATED])
def test_a_length_has_been_tried_once_all_of_its_runs_have_ended(outcome: Outcome) -> None:
    runs = [*runs_of({20: NEAR[:2]}), run_of(20, 2, None, outcome)]
    assert pilot.tried(piloted(), runs, small_sweep.FACTS) == ()


def test_the_horizon_is_doubled_until_seeds_differ_little(tmp_path: Path) -> None:
    watcher = Watcher()
    study = piloted(pilot={"effect": 0.8, "max_iters": 4000})
    summary = sweep(tmp_path, study, work=noisy, observer=watcher)
    assert watcher.notes == [
        "pilot: at 20 iterations 3 seeds differ by 0.6 nats (sd), more than 0.2; trying 40",
        "pilot: at 40 iterations 3 seeds differ by 0.3 nats (sd), more than 0.2; trying 80",
        "pilot: at 80 iterations 3 seeds differ by 0.15 nats (sd), at most 0.2; trials have 80 iterations",
    ]
    assert (summary.finished, summary.started) == (True, 12)
    results = results_in(tmp_path)
    assert results.study.chosen is not None
    assert [tried.iters for tried in results.study.chosen.tried] == [20, 40, 80]
    assert results.study.chosen.last.losses == tuple(run.val_loss for run in results.baseline_runs)
    shorter = [(run.phase, run.config.max_iters) for run in results.runs if run.before_trials]
    assert shorter == [("pilot", 20)] * 3 + [("pilot", 40)] * 3
    assert {run.config.max_iters for run in results.runs if not run.before_trials} == {80}
    assert watcher.last is not None
    assert watcher.last.planned == planned_runs(Findings(results)) == len(results.runs) == 12


def test_no_run_of_the_baseline_is_made_twice_and_the_search_is_that_of_a_study_of_this_length(tmp_path: Path) -> None:
    """The same study without a pilot, its horizon at the chosen length, has the same trials: the oracle."""
    sweep(tmp_path / "piloted", piloted(), work=noisy)
    sweep(tmp_path / "plain", piloted(pilot=None, horizon={"iters": 40}), work=noisy)
    seen = [run for run in reproducible_part(results_in(tmp_path / "piloted")) if run["phase"] != "pilot"]
    plain = reproducible_part(results_in(tmp_path / "plain"))
    of_the_pilot = len(results_in(tmp_path / "piloted").runs) - len(plain)
    assert of_the_pilot == 3
    for run in (*seen, *plain):
        if run["optuna_study"] != "small":
            del run["trial"]  # the pilot's own trials come before
    assert seen == plain
    trials = [
        [(trial.state, trial.values, trial.params, trial.intermediate_values) for trial in optuna_trials_in(folder)]
        for folder in (tmp_path / "piloted", tmp_path / "plain")
    ]
    assert trials[0] == trials[1]


def test_at_its_bound_the_pilot_says_what_cannot_be_told(tmp_path: Path) -> None:
    watcher = Watcher()
    pilot, confirm = {"effect": 0.4, "max_iters": 79}, {"max_trials": 1, "seeds": 5, "min_effect": 0.02}
    sweep(tmp_path, piloted(pilot=pilot, confirm=confirm, trials=1), work=noisy, observer=watcher)
    # 0.02 + 2.705 x 0.3, with the factor of test_noise
    assert watcher.notes[-1] == (
        "pilot: at 40 iterations 3 seeds differ by 0.3 nats (sd), more than 0.1; trials have 40 iterations, the most "
        "that pilot.max_iters=79 allows; effects below 0.83 nats can't be told reliably on 5 seeds"
    )


def test_without_a_loss_the_pilot_ends_and_the_run_is_not_repeated(tmp_path: Path) -> None:
    def work(job: Job, report: Report) -> Result:
        if job.config.seed != 1338:
            return noisy(job, report)
        report(fake_training.point_at(job.config, 0))
        return Result(outcome="diverged", step=0, points=(), reason="loss 9 at iteration 0")

    watcher = Watcher()
    sweep(tmp_path, piloted(), work=work, observer=watcher)
    assert watcher.notes == [
        "pilot: at 20 iterations 1 of 3 seeds has no final loss, so the noise is not known; trials have 20 iterations"
    ]
    runs = [run for run in results_in(tmp_path).runs if run.phase == "baseline"]
    assert [(run.key, run.outcome) for run in runs] == [
        ("baseline:0", "complete"),
        ("baseline:1", "diverged"),
        ("baseline:2", "complete"),
    ]


TELL = (OptunaTrials, "tell")
ADOPTED = (Store, "adopted")
QUEUED = (optuna.Study, "enqueue_trial")
CHOSEN = (Store, "update_study")
"""its second call writes what was chosen; the first writes the study's growth"""


@pytest.fixture(scope="module")
def tried_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose sweep was killed as the pilot ended: Optuna doesn't know yet how its last run did."""
    folder = tmp_path_factory.mktemp("tried")
    with killing(Store, "ended", "after", 6) as death:
        sweep(folder, piloted(trials=1), work=noisy)
    assert death.happened
    return folder


@pytest.fixture(scope="module")
def gone_on(tmp_path_factory: pytest.TempPathFactory, tried_out: Path) -> Path:
    """Return a folder whose sweep went on from there."""
    folder = Path(shutil.copytree(tried_out, tmp_path_factory.mktemp("gone-on") / "copy"))
    sweep(folder, piloted(trials=1), work=noisy)
    return folder


@pytest.mark.parametrize(
    ("kill", "moment", "calls"),
    [
        (CHOSEN, "after", 2),
        (QUEUED, "after", 1),
        ((OptunaTrials, "ask"), "after", 3),
        (ADOPTED, "after", 1),
        (ADOPTED, "after", 3),
        ((OptunaTrials, "report"), "after", 5),
        (TELL, "before", 3),
        (TELL, "after", 3),
        (TELL, "before", 4),
        ((Ledger, "adopt"), "after", 2),
    ],
)
def test_killed_while_the_pilots_runs_become_the_baselines_it_ends_as_an_uninterrupted_one(
    tmp_path: Path, tried_out: Path, gone_on: Path, kill: tuple[type, str], moment: str, calls: int
) -> None:
    folder = Path(shutil.copytree(tried_out, tmp_path / "killed"))
    with killing(*kill, moment, calls) as death:
        sweep(folder, piloted(trials=1), work=noisy)
    assert death.happened
    assert sweep(folder, piloted(trials=1), work=noisy).finished
    assert searched(folder) == searched(gone_on)
    assert states(folder) == states(gone_on)
    assert states(folder, "small-confirm") == states(gone_on, "small-confirm")


def test_an_adopted_run_is_at_once_a_trial_of_the_search_that_has_ended(tmp_path: Path, tried_out: Path) -> None:
    folder = Path(shutil.copytree(tried_out, tmp_path / "killed"))
    with killing(Ledger, "adopt", "after", 1) as death:
        sweep(folder, piloted(trials=1), work=noisy)
    assert death.happened
    (trial,) = optuna_trials_in(folder)
    adopted = results_in(folder).runs[3]
    assert (trial.state.name, trial.value, len(trial.intermediate_values)) == ("COMPLETE", adopted.val_loss, 21)
    assert (trial.user_attrs["run"], trial.user_attrs["label"]) == (adopted.id, "baseline, seed 1337")


def test_a_pilot_on_two_workers_killed_at_many_ticks_ends_as_an_uninterrupted_one(tmp_path: Path, whole: Path) -> None:
    for _ in range(60):
        with contextlib.suppress(Killed):
            # at tick 50 the replay of two whole runs is over
            if sweep(tmp_path, piloted(), work=noisy, devices=("cpu", "cpu"), at_tick=die_at(70)).finished:
                break
    assert searched(tmp_path) == searched(whole)


def searched(folder: Path) -> list[dict[str, Any]]:
    """Return what the study alone determines; numbers of trials outside of the search depend on deaths."""
    runs = reproducible_part(results_in(folder))
    for run in runs:
        if run["optuna_study"] != "small":
            del run["trial"]
    return sorted(runs, key=lambda run: run["key"])


def states(folder: Path, name: str = "small") -> list[Any]:
    trials = optuna_trials_in(folder, name)
    return [(trial.number, trial.state, trial.values, trial.params, trial.intermediate_values) for trial in trials]


class TestAStudyThatHasBegun:
    @pytest.fixture
    def swept(self, tmp_path: Path, whole: Path) -> Path:
        return Path(shutil.copytree(whole, tmp_path / "swept"))

    def test_an_interrupted_pilot_goes_on_and_says_where_it_is(self, tmp_path: Path, whole: Path) -> None:
        interrupts: list[signal.Signals] = []

        def interrupt(tick: int) -> None:
            interrupts[:] = [signal.SIGINT] if tick > 80 else ()

        summary = sweep(tmp_path, piloted(), work=noisy, at_tick=interrupt, interrupts=interrupts)
        assert not summary.finished
        assert results_in(tmp_path).study.chosen is None
        watcher = Watcher()
        sweep(tmp_path, piloted(), work=noisy, observer=watcher)
        assert watcher.notes[0] == "pilot: at 20 iterations 3 seeds differ by 0.6 nats (sd), more than 0.4; trying 40"
        assert searched(tmp_path) == searched(whole)

    def test_run_again_it_keeps_its_length_and_trains_nothing(self, swept: Path) -> None:
        before, watcher = results_in(swept), Watcher()
        assert sweep(swept, piloted(), work=refuse, observer=watcher).started == 0
        after = results_in(swept)
        assert (after.study, after.runs) == (before.study, before.runs)
        assert "is finished: 9 runs" in watcher.notes[0]

    def test_grown_it_has_further_trials_and_seeds_of_the_chosen_length(self, swept: Path) -> None:
        before = results_in(swept)
        summary = sweep(swept, piloted(trials=5, baseline_seeds=4), work=noisy)
        new = results_in(swept).runs[len(before.runs) :]
        assert summary.started == 3
        assert sorted(run.key for run in new) == ["baseline:3", "trial:4", "trial:5"]
        assert {run.config.max_iters for run in new} == {40}

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"pilot": {"effect": 1.6, "max_iters": 320}}, r"pilot.max_iters: 160 → 320"),
            ({"pilot": None, "horizon": {"iters": 40}}, r"horizon.iters: 20 → 40"),
            ({"horizon": {"iters": 40}}, r"horizon.iters: 20 → 40"),
        ],
    )
    def test_another_pilot_is_another_study(self, swept: Path, changed: dict[str, Any], words: str) -> None:
        with pytest.raises(StudyChanged, match=words):
            sweep(swept, piloted(**changed), work=refuse)

    def test_a_study_without_a_pilot_gets_none_later(self, tmp_path: Path, uninterrupted: Path) -> None:
        folder = Path(shutil.copytree(uninterrupted, tmp_path / "plain"))
        with pytest.raises(StudyChanged, match=r"pilot: none → \{max_iters: 160\}"):
            sweep(folder, small_sweep.four_runs(pilot={"max_iters": 160}, baseline_seeds=3), work=refuse)

    def test_the_checkpoints_of_the_baseline_and_the_best_are_kept(self, swept: Path) -> None:
        results, paths = results_in(swept), StudyPaths(swept)
        kept = {run.id for run in results.runs if paths.checkpoint(run.id).exists()}
        assert results.best is not None
        assert kept == {run.id for run in results.runs if run.phase == "baseline"} | {results.best.id}


def test_a_trial_that_the_user_has_queued_during_the_pilot_runs_after_it(tmp_path: Path) -> None:
    def work(job: Job, report: Report) -> Result:
        if job.run == 1:
            small_sweep.enqueue(tmp_path, {"dropout": 0.25})
        return noisy(job, report)

    sweep(tmp_path, piloted(), work=work)
    results = results_in(tmp_path)
    queued = [run for run in results.runs if run.params == {"dropout": 0.25}]
    assert [(run.config.max_iters, run.phase, run.outcome) for run in queued] == [(40, "search", "complete")]
    assert [run.key for run in results.runs if run.phase == "baseline"] == ["baseline:0", "baseline:1", "baseline:2"]
    assert len(results.runs) == 9


def test_how_far_the_pilot_is() -> None:
    study, runs = piloted(), runs_of({20: FAR})
    words = "pilot: at 20 iterations 3 seeds differ by 0.5 nats (sd), more than 0.4; trying 40"
    assert pilot.standing(study, runs, small_sweep.FACTS) == words
    assert pilot.standing(study, runs[:2], small_sweep.FACTS) == ""
    assert pilot.standing(small_sweep.study(), runs, small_sweep.FACTS) == ""
    assert pilot.note_before(study, (), 20) == ""
    assert pilot.standing(study, runs_of({20: NEAR}), small_sweep.FACTS).endswith("; trials have 20 iterations")


def test_runs_that_were_too_short() -> None:
    study = piloted()
    assert pilot.rejected(study, runs_of({20: NEAR}), small_sweep.FACTS) == []
    assert pilot.rejected(study, runs_of({20: FAR}), small_sweep.FACTS) == runs_of({20: FAR})
    assert pilot.rejected(study, runs_of({20: FAR, 40: NEAR[:1]}), small_sweep.FACTS) == runs_of({20: FAR})
    assert pilot.rejected(study, runs_of({20: FAR, 40: NEAR}), small_sweep.FACTS) == runs_of({20: FAR})


@pytest.mark.parametrize(
    ("lengths", "planned"), [({}, 6), ({20: FAR[:1]}, 6), ({20: FAR}, 9), ({20: FAR, 40: FAR}, 12)]
)
def test_the_runs_of_the_finished_study_if_the_next_length_is_chosen(
    lengths: dict[int, Collection[float | None]], planned: int
) -> None:
    """Three runs at every length that was too short, the baseline's 3 and 3 trials."""
    study, runs = piloted(), runs_of(lengths)
    results = Results(study=study, data=small_sweep.FACTS, runs=tuple(runs), provenance={}, seconds=0.0)
    assert planned_runs(Findings(results)) == planned
    iters = pilot.next_length(study, pilot.tried(study, runs, small_sweep.FACTS))
    assert iters is not None
    assert pilot.PilotLength(study, small_sweep.FACTS, iters).planned(runs) == planned


@pytest.mark.parametrize(("unigram_loss", "expected"), [(None, None), (4.0, None), (3.6 / 0.95, None), (3.78, 40)])
def test_a_length_at_which_seeds_know_only_frequencies_is_too_short(
    unigram_loss: float | None, expected: int | None
) -> None:
    """Seeds that end at 3.0 to 3.6 nats differ little enough, but one of them may not have learnt anything yet."""
    facts = dataclasses.replace(small_sweep.FACTS, unigram_loss=unigram_loss)
    study = piloted()
    assert pilot.next_length(study, pilot.tried(study, runs_of({20: NEAR}), facts)) == expected


def test_trials_that_stay_too_short_are_said_to_be(whole: Path) -> None:
    facts = dataclasses.replace(small_sweep.FACTS, unigram_loss=3.61)
    study, runs = piloted(pilot={"effect": 1.6, "max_iters": 39}), runs_of({20: NEAR})
    assert pilot.standing(study, runs, facts) == (
        "pilot: at 20 iterations 3 seeds reach 3.60 nats, where token frequencies alone give 3.61, too early to tell "
        "anything; trials have 20 iterations, the most that pilot.max_iters=39 allows"
    )


def test_the_loss_of_the_frequencies_is_stored_with_the_data(whole: Path) -> None:
    results = results_in(whole)
    assert results.data.unigram_loss == 6.0
    assert results.study.chosen is not None
    assert {tried.unigram_loss for tried in results.study.chosen.tried} == {6.0}


def test_the_noise_of_the_fake_training_is_what_it_says() -> None:
    """The standard deviation of three equally spaced losses is their spacing."""
    tried = Tried(iters=40, losses=tuple(noise(small_sweep.baseline().replace(max_iters=40, seed=s)) for s in range(3)))
    assert tried.sd is not None
    assert math.isclose(tried.sd, 0.3)
