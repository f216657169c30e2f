"""The store: Optuna's trials and our runs, points and events in one SQLite file.

`Store` is for the driver, `Reader` for everything else: `sweep status`, the report and optuna-dashboard read while a
sweep writes. Only one process writes (see `Store.lock`), so nobody waits for locks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import optuna
import pydantic
import sqlalchemy as sa

from sweeps.errors import NotFound, StoreError
from sweeps.store import sqlite, tables
from sweeps.store.records import DataFacts, Outcome, Pruning, Results, Run
from sweeps.store.sqlite import as_store_errors, check_file, connect_to_read, connect_to_write, path_of
from sweeps.study.proposals import present_name
from sweeps.study.study import Study
from trainer.config import TrainConfig
from trainer.points import Point


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a run, or to the whole study."""

    run: int | None
    """id of the run; None: the whole study"""
    time: str
    """ISO 8601, UTC"""
    kind: str
    detail: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launch:
    """A run's last launch."""

    attempt: int
    """number of the launch, from 1; 0: never launched"""
    step: int
    """updates done when the run ended; 0: it has not ended"""


class Reader:
    """A store opened for reading, which never keeps its writer waiting.

    Raises StoreError for a URL that isn't sqlite:///, and for a file that doesn't exist, isn't a store, or is newer
    than this code.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.path = path_of(url)
        check_file(self.path)
        self._engine = self._open()

    def _open(self) -> sa.Engine:
        if not self.path.exists():
            raise StoreError(f"{self.path}: there is no store here; `sweep run` creates one, --out names another")
        engine = sa.create_engine(
            "sqlite://", creator=functools.partial(connect_to_read, self.path), poolclass=sa.pool.NullPool
        )
        with as_store_errors(self.path), engine.connect() as connection:
            version = tables.version_of(connection)
            if version == 0:
                raise StoreError(f"{self.path}: holds no sweep of plateau-sweep; `sweep run` starts one")
            tables.check_readable(version)
            if version < tables.VERSION:
                raise StoreError(
                    f"{self.path}: was written by an older plateau-sweep (schema version {version}, now "
                    f"{tables.VERSION}); `sweep run` with its study brings it up to date"
                )
        return engine

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    def names(self) -> list[str]:
        """Name the studies, oldest first."""
        with self._read() as connection:
            return list(connection.scalars(sa.select(tables.study.c.name).order_by(tables.study.c.id)))

    def results(self, name: str) -> Results:
        """Read everything recorded of the study `name`. Raises NotFound."""
        with self._read() as connection:
            study = self._study(connection, name)
            points: dict[int, list[Point]] = {}
            of_study = sa.select(tables.run.c.id).where(tables.run.c.study_id == study.id)
            columns = [column for column in tables.point.c if column.name != "run_id"]
            query = sa.select(tables.point.c.run_id, *columns).where(tables.point.c.run_id.in_(of_study))
            for run_id, *values in connection.execute(query.order_by(tables.point.c.step)):
                points.setdefault(run_id, []).append(_point(values))
            rows = connection.execute(
                sa.select(tables.run).where(tables.run.c.study_id == study.id).order_by(tables.run.c.id)
            )
            runs = tuple(_run(row, tuple(points.get(row.id, ()))) for row in rows)
        return Results(
            study=self._spec(study),
            data=DataFacts(**json.loads(study.data)),
            runs=runs,
            provenance=json.loads(study.provenance),
            seconds=study.active_seconds,
            store=self.path,
        )

    def events(self, name: str) -> list[Event]:
        """Read the events of the study `name`, in order. Raises NotFound."""
        table = tables.event
        with self._read() as connection:
            study = self._study(connection, name)
            rows = connection.execute(sa.select(table).where(table.c.study_id == study.id).order_by(table.c.id))
            return [Event(run=row.run_id, time=row.time, kind=row.kind, detail=row.detail) for row in rows]

    @contextlib.contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with as_store_errors(self.path), self._engine.connect() as connection:
            yield connection

    def _study(self, connection: sa.Connection, name: str) -> sa.Row[Any]:
        row = connection.execute(sa.select(tables.study).where(tables.study.c.name == name)).one_or_none()
        if row is None:
            names = ", ".join(connection.scalars(sa.select(tables.study.c.name))) or "none"
            raise NotFound(f"{self.path}: has no study named {name!r}; it has: {names}")
        return row

    def _spec(self, row: sa.Row[Any]) -> Study:
        try:
            return Study.model_validate_json(row.spec)
        except pydantic.ValidationError as error:
            raise StoreError(
                f"{self.path}: study {row.name!r} was stored by another plateau-sweep, whose settings this one doesn't "
                f"know ({error.error_count()} differ); use that version, or start the study in another folder"
            ) from error


class Store(Reader):
    """A store opened for writing, with Optuna's storage in it. Creates the file if needed, and migrates it."""

    storage: optuna.storages.RDBStorage

    def _open(self) -> sa.Engine:
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # our events say what Optuna's log would
        connect = functools.partial(connect_to_write, self.path)
        with as_store_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with sqlite.opening(self.path):
                return self._create(connect)

    def _create(self, connect: Callable[[], sqlite3.Connection]) -> sa.Engine:
        """Open the file, and bring Optuna's tables and ours up to date."""
        with as_store_errors(self.path):
            connect().close()  # fails for a file that is no database, before Optuna opens it
            try:
                self.storage = sqlite.optuna_storage(connect)
            except RuntimeError as error:  # Optuna's error for tables of another Optuna version
                raise StoreError(
                    f"{self.path}: its Optuna tables are not those of Optuna {optuna.__version__}; "
                    f"`optuna storage upgrade --storage {self.url}` brings older ones up to date"
                ) from error
        # alembic, which Optuna uses to read the version of its tables, sets up logging of its own
        logging.getLogger("alembic").setLevel(logging.ERROR)
        engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.StaticPool)
        try:
            with as_store_errors(self.path), engine.begin() as connection:
                tables.migrate(connection)
        except StoreError:
            engine.dispose()
            self._close_storage()
            raise
        self._number = self._file_number()
        return engine

    def _file_number(self) -> int | None:
        """Return what tells the file from another at its path. None: it is gone."""
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return None

    def close(self) -> None:
        super().close()
        self._close_storage()

    def _close_storage(self) -> None:
        self.storage.remove_session()
        self.storage.engine.dispose()

    def lock(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Return a context with this process as the only driver of study `name`. Entering it may raise StoreBusy."""
        return sqlite.hold(sqlite.lock_of(self.path, name), what=f"study {name!r}")

    def add_study(self, study: Study, *, data: DataFacts, provenance: Mapping[str, str]) -> None:
        """Write a new study. Raises StoreError if the name is that of a foreign Optuna study."""
        if study.name in optuna.get_all_study_names(self.storage):
            raise StoreError(
                f"{self.path}: has an Optuna study {study.name!r} that no sweep created; give this study another name"
            )
        with self._write() as connection:
            connection.execute(
                tables.study.insert().values(
                    name=study.name,
                    spec=study.model_dump_json(),
                    data=json.dumps(dataclasses.asdict(data)),
                    provenance=json.dumps(dict(provenance)),
                    created=_now(),
                    active_seconds=0.0,
                )
            )

    def update_study(
        self, name: str, *, study: Study | None = None, data: DataFacts | None = None, seconds: float | None = None
    ) -> None:
        """Write a study that has grown, data that has moved, or the seconds taken so far."""
        values = {
            "spec": study.model_dump_json() if study is not None else None,
            "data": json.dumps(dataclasses.asdict(data)) if data is not None else None,
            "active_seconds": seconds,
        }
        given = {column: value for column, value in values.items() if value is not None}
        with self._write() as connection:
            connection.execute(tables.study.update().where(tables.study.c.name == name).values(given))

    def add_provenance(self, name: str, key: str, text: str) -> None:
        """Add a sentence to what is known of where a study ran, unless it is there already."""
        where = tables.study.c.name == name
        with self._write() as connection:
            facts = json.loads(connection.execute(sa.select(tables.study.c.provenance).where(where)).scalar_one())
            if text in facts.get(key, ""):
                return
            facts[key] = "; ".join(filter(None, (facts.get(key), text)))
            connection.execute(tables.study.update().where(where).values(provenance=json.dumps(facts)))

    def add_run(self, name: str, run: Run, *, fingerprint: str, versions: Mapping[str, str], commit: str | None) -> Run:
        """Write a run that is about to start. Returns it with its id."""
        with self._write() as connection:
            study = self._study(connection, name)
            done = connection.execute(
                tables.run.insert().values(
                    study_id=study.id,
                    optuna_study=run.optuna_study,
                    trial=run.trial,
                    key=run.key,
                    seed=run.seed,
                    phase=run.phase,
                    origin=run.origin,
                    label=run.label,
                    knob=run.knob,
                    params=json.dumps(dict(run.params)),
                    config=json.dumps(run.config.as_dict()),
                    data_fingerprint=fingerprint,
                    device=run.device,
                    versions=json.dumps(dict(versions)),
                    git_commit=commit,
                    outcome=run.outcome,
                    reason=run.reason,
                    step=0,
                    seconds=0.0,
                    attempt=0,
                    started=_now(),
                )
            )
            assert done.inserted_primary_key is not None
            return dataclasses.replace(run, id=int(done.inserted_primary_key[0]))

    def launched(self, run: int, *, device: str, attempt: int) -> None:
        """Write launch number `attempt` of a run."""
        self._update_run(run, device=device, attempt=attempt, outcome=Outcome.RUNNING, reason="", finished=None)

    def ended(
        self,
        run: int,
        *,
        outcome: Outcome,
        reason: str,
        step: int,
        seconds: float,
        val_loss: float | None,
        val_se: float | None,
        pruning: Pruning | None,
    ) -> None:
        """Write how a run ended."""
        self._update_run(
            run,
            outcome=outcome,
            reason=reason,
            step=step,
            seconds=seconds,
            val_loss=val_loss,
            val_se=val_se,
            finished=_now(),
            pruning=_json(pruning),
        )

    def adopted(self, run: Run) -> None:
        """Write what a run is now: its trial, and the proposal that it answers."""
        self._update_run(
            run.id,
            optuna_study=run.optuna_study,
            trial=run.trial,
            key=run.key,
            phase=run.phase,
            origin=run.origin,
            label=run.label,
            params=json.dumps(dict(run.params)),
        )

    def decided(self, name: str, run: int, pruning: Pruning) -> None:
        """Write a decision against a run. A sentinel's event is written here, a stopped run's when it ends."""
        with self._write() as connection:
            connection.execute(tables.run.update().where(tables.run.c.id == run).values(pruning=_json(pruning)))
            if pruning.sentinel:
                self._add_event(connection, name, "sentinel", pruning.why, run=run)

    def _update_run(self, run: int, **values: Any) -> None:
        with self._write() as connection:
            connection.execute(tables.run.update().where(tables.run.c.id == run).values(values))

    def launches(self, name: str) -> dict[int, Launch]:
        """Read how each run of the study was last launched, by the run's id."""
        with self._read() as connection:
            study = self._study(connection, name)
            rows = connection.execute(sa.select(tables.run).where(tables.run.c.study_id == study.id))
            return {row.id: Launch(attempt=row.attempt, step=row.step) for row in rows}

    def add_points(self, points: Sequence[tuple[int, Point]], *, name: str, seconds: float) -> None:
        """Write (run, point) pairs and the study's seconds so far in one transaction. Known points stay."""
        rows = [{"run_id": run, **vars(point)} for run, point in points]
        with self._write() as connection:
            if rows:
                connection.execute(tables.point.insert().prefix_with("OR IGNORE"), rows)
            connection.execute(tables.study.update().where(tables.study.c.name == name).values(active_seconds=seconds))

    def add_event(self, name: str, kind: str, detail: str, *, run: int | None = None) -> None:
        """Write an event of a run, or without `run` of the whole study."""
        with self._write() as connection:
            self._add_event(connection, name, kind, detail, run=run)

    def _add_event(self, connection: sa.Connection, name: str, kind: str, detail: str, *, run: int | None) -> None:
        study = self._study(connection, name)
        connection.execute(
            tables.event.insert().values(study_id=study.id, run_id=run, time=_now(), kind=kind, detail=detail)
        )

    @contextlib.contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        if self._file_number() != self._number:  # SQLite would go on writing into the deleted file, for nobody
            raise StoreError(
                f"{self.path}: was deleted or replaced while it was written; put the file back and run again: the "
                "study goes on from it. Without the file, `sweep run` starts the study anew"
            )
        with as_store_errors(self.path), self._engine.begin() as connection:
            yield connection


_POINT = [field.name for field in dataclasses.fields(Point)]


def optuna_trial(storage: optuna.storages.RDBStorage, study: optuna.Study, number: int) -> optuna.Trial:
    """Return trial `number` of an Optuna study, in whatever state, for suggesting and reporting."""
    study_id = storage.get_study_id_from_name(study.study_name)
    return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))


def _run(row: sa.Row[Any], points: tuple[Point, ...]) -> Run:
    seconds = points[-1].seconds if row.finished is None and points else row.seconds
    return Run(
        id=row.id,
        optuna_study=row.optuna_study,
        trial=row.trial,
        seed=row.seed,
        phase=row.phase,
        origin=present_name(row.origin),
        label=row.label,
        knob=row.knob,
        params=json.loads(row.params),
        config=TrainConfig.from_mapping(json.loads(row.config)),
        device=row.device,
        outcome=Outcome(row.outcome),
        reason=row.reason,
        val_loss=row.val_loss,
        val_se=row.val_se,
        seconds=seconds,
        points=points,
        pruning=Pruning(**json.loads(row.pruning)) if row.pruning else None,
        key=present_name(row.key),
    )


def _json(pruning: Pruning | None) -> str | None:
    return json.dumps(dataclasses.asdict(pruning)) if pruning else None


_LOSSES = ("train_loss", "train_se", "val_loss", "val_se", "lr")


def _point(values: Sequence[Any]) -> Point:
    named = dict(zip([column.name for column in tables.point.c if column.name != "run_id"], values, strict=True))
    for name in _LOSSES:
        if named[name] is None:
            named[name] = math.nan
    return Point(**{name: named[name] for name in _POINT})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
