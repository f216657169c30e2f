"""The store on each database: all that is written is read back, by a reader that neither writes nor waits."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa

from sweeps.engine.optuna_trials import OptunaTrials
from sweeps.errors import NotFound, StoreError
from sweeps.store.records import Outcome, Pruning, Run
from sweeps.store.store import Reader, Store
from tests.helpers import small_sweep
from tests.helpers.fake_training import point_at

PRUNING = Pruning(
    rule="plateau",
    reason="dominated",
    evaluation=4,
    step=4,
    val_loss=4.25,
    sentinel=False,
    completed=7,
    best=3.52,
    predicted=3.71,
    scale=0.02,
    degrees=11.0,
    low=3.66,
    high=3.8,
    chance=0.004,
    epsilon=0.02,
)
SENTINEL = dataclasses.replace(PRUNING, sentinel=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, path: Path) -> str:
    """Return the URL of a store that doesn't exist yet, on each database."""
    return f"sqlite:///{path}" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")


def started(store: Store, **changes: object) -> Run:
    """Add dropout's single-knob run to the study, and return it with its id."""
    fields = {
        "id": 0,
        "origin": "one-at-a-time",
        "label": "dropout at its high, 0.4",
        "knob": "dropout",
        "params": {"dropout": 0.4, "learning_rate": 1e-3},
        "key": "one-at-a-time:dropout:high",
        "outcome": Outcome.RUNNING,
        "val_loss": None,
        "val_se": None,
        "seconds": 0.0,
    }
    run = small_sweep.run(0, **{**fields, **changes})
    return store.add_run("small", run, fingerprint="f", versions={"torch": "2"}, commit=None)


def ended(store: Store, run: Run, **changes: object) -> None:
    fields = {
        "outcome": Outcome.COMPLETE,
        "reason": "",
        "step": 20,
        "seconds": 9.0,
        "val_loss": 3.25,
        "val_se": 0.5,
        "pruning": None,
    }
    store.ended(run.id, **{**fields, **changes})


def test_provenance_grows_by_sentences_that_are_new(store: Store) -> None:
    for text in ("a; b", "c", "a; b", "c"):
        store.add_provenance("small", "fallbacks", text)
    with Reader(store.url) as reader:
        assert reader.results("small").provenance == {"torch": "2.13", "fallbacks": "a; b; c"}


class TestRoundTrip:
    def test_everything_is_read_back(self, store: Store) -> None:
        run = started(store)
        points = [point_at(run.config, step) for step in (0, 1)]
        store.launched(run.id, device="cuda:1", kinds=("EPYC",), attempt=3)
        store.add_points([(run.id, point) for point in points], name="small", seconds=12.5)
        ended(store, run)
        store.add_event("small", "crashed", "boom", run=run.id)
        with Reader(store.url) as reader:
            results, events = reader.results("small"), reader.events("small")
        assert results.study == small_sweep.study()
        assert results.data == small_sweep.FACTS
        assert results.provenance == {"torch": "2.13"}
        assert results.seconds == 12.5
        expected = dataclasses.replace(
            run,
            device="cuda:1",
            kinds=("EPYC",),
            outcome="complete",
            val_loss=3.25,
            val_se=0.5,
            seconds=9.0,
            points=tuple(points),
        )
        assert results.runs == (expected,)
        assert [(event.run, event.kind, event.detail) for event in events] == [(run.id, "crashed", "boom")]

    @pytest.mark.parametrize(
        "pruning",
        [
            PRUNING,
            dataclasses.replace(PRUNING, reason="diverged", predicted=None, scale=None, degrees=None, low=None),
            dataclasses.replace(PRUNING, rule="median", best_so_far=4.0, peers_median=3.9, peers_best=0.1 + 0.2),
        ],
        ids=lambda pruning: f"{pruning.rule} {pruning.reason}",
    )
    def test_the_reason_for_pruning_is_read_back(self, store: Store, pruning: Pruning) -> None:
        ended(store, started(store), outcome=Outcome.PRUNED, reason="r", val_loss=None, val_se=None, pruning=pruning)
        assert store.results("small").runs[0].pruning == pruning

    def test_names_of_an_earlier_version_are_read_as_todays(self, store: Store) -> None:
        started(store, origin="star", key="star:dropout:high")
        (run,) = store.results("small").runs
        assert (run.origin, run.key) == ("one-at-a-time", "one-at-a-time:dropout:high")

    def test_nan_and_none_are_told_apart(self, store: Store) -> None:
        """SQLite has no NaN and keeps NULL instead."""
        losses = {"val_loss": math.nan, "val_se": math.nan, "train_loss": math.inf, "grad_norm": None}
        run = started(store)
        store.add_points([(run.id, dataclasses.replace(point_at(run.config, 3), **losses))], name="small", seconds=0.0)
        point = store.results("small").runs[0].points[0]
        assert math.isnan(point.val_loss)
        assert math.isnan(point.val_se)
        assert point.train_loss == math.inf
        assert point.grad_norm is None

    def test_a_point_is_kept_once_with_its_first_values(self, store: Store) -> None:
        run = started(store)
        point, following = point_at(run.config, 0), point_at(run.config, 1)
        again = dataclasses.replace(point, seconds=99.0)
        store.add_points([(run.id, point)], name="small", seconds=1.0)
        store.add_points([(run.id, again), (run.id, following)], name="small", seconds=2.0)
        points = store.results("small").runs[0].points
        assert [(point.step, point.seconds) for point in points] == [(0, 0.0), (1, 0.5)]

    def test_a_running_run_has_the_seconds_of_its_last_point(self, store: Store) -> None:
        run = started(store)
        store.add_points([(run.id, point_at(run.config, 8))], name="small", seconds=1.0)
        assert store.results("small").runs[0].seconds == 4.0


class TestWithoutSampledCurves:
    def test_ended_trials_of_the_sampler_lack_their_points_and_nothing_else(self, store: Store) -> None:
        ids = {}
        for number, (origin, ends) in enumerate((("sampler", True), ("sampler", False), ("one-at-a-time", True))):
            run = started(store, trial=number, origin=origin, key=f"k{number}")
            store.add_points([(run.id, point_at(run.config, step)) for step in (0, 1)], name="small", seconds=1.0)
            if ends:
                ended(store, run)
            ids[run.id] = 0 if origin == "sampler" and ends else 2
        whole, lean = store.results("small"), store.results("small", sampled_curves=False)
        assert {run.id: len(run.points) for run in lean.runs} == ids
        assert [dataclasses.replace(run, points=()) for run in whole.runs] == [
            dataclasses.replace(run, points=()) for run in lean.runs
        ]


class TestSentinel:
    def test_it_is_stored_with_its_event_and_stays_one_when_it_ends(self, store: Store) -> None:
        run = started(store)
        store.decided("small", run.id, SENTINEL)
        store.launched(run.id, device="cpu", kinds=("EPYC",), attempt=2)
        (running,) = store.results("small").runs
        assert (running.outcome, running.pruning) == ("running", SENTINEL)
        ended(store, run, pruning=SENTINEL)
        assert store.results("small").runs[0].pruning == SENTINEL
        events = [(event.run, event.kind, event.detail) for event in store.events("small")]
        assert events == [(run.id, "sentinel", SENTINEL.why)]

    def test_it_is_never_stored_without_its_event(self, store: Store) -> None:
        run = started(store)
        with store.storage.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE event")
        with pytest.raises((StoreError, sa.exc.ProgrammingError)):
            store.decided("small", run.id, SENTINEL)
        assert store.results("small").runs[0].pruning is None


class TestStudies:
    def test_studies_in_one_file_are_separate(self, store: Store) -> None:
        store.add_study(small_sweep.study(name="other"), data=small_sweep.FACTS, provenance={})
        started(store)
        assert store.names() == ["small", "other"]
        assert len(store.results("small").runs) == 1
        assert store.results("other").runs == ()

    def test_an_unknown_study_is_refused_with_the_known_ones(self, store: Store) -> None:
        with pytest.raises(NotFound, match=r"'nothing'; it has: small"):
            store.results("nothing")

    def test_an_optuna_study_of_the_same_name_is_not_taken_over(self, url: str) -> None:
        with Store(url) as store:
            optuna.create_study(storage=store.storage, study_name="small")
            with pytest.raises(StoreError, match="give this study another name"):
                store.add_study(small_sweep.study(), data=small_sweep.FACTS, provenance={})


class TestReader:
    def test_it_reads_during_a_write_and_holds_no_writer_up(self, store: Store) -> None:
        run = started(store)
        engine = sa.create_engine(store.url)
        with engine.begin() as writing:
            writing.exec_driver_sql("UPDATE run SET reason = 'half done'")
            with Reader(store.url) as reader:
                assert reader.results("small").runs[0].reason == ""
        engine.dispose()
        assert store.results("small").runs[0].reason == "half done"
        store.launched(run.id, device="cpu", kinds=("EPYC",), attempt=1)

    def test_it_cannot_write(self, store: Store) -> None:
        with (
            Reader(store.url) as reader,
            reader._engine.connect() as connection,
            pytest.raises((sa.exc.OperationalError, sa.exc.InternalError)),
        ):
            connection.exec_driver_sql("DELETE FROM study")

    def test_optuna_reads_the_file_as_its_own(self, store: Store) -> None:
        OptunaTrials(small_sweep.study(), store.storage)
        store.close()
        storage = optuna.storages.RDBStorage(store.url)
        try:
            assert sorted(optuna.get_all_study_names(storage)) == ["small", "small-confirm"]
        finally:
            storage.remove_session()
            storage.engine.dispose()
