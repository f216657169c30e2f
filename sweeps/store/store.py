"""The store: Optuna's trials and our runs, points and events in one database, a SQLite file or a server's.

`Store` is for the driver, `Reader` for everything else: `sweep status`, the report and optuna-dashboard read while a
sweep writes. Only one process writes (see `Store.lock`), so nobody waits for locks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import optuna
import pydantic
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from sweeps.errors import NotFound, StoreError
from sweeps.store import checked, tables
from sweeps.store.database import database_of
from sweeps.store.records import UNFINISHED, DataFacts, Outcome, Pruning, Results, Run
from sweeps.study.proposals import present_name
from sweeps.study.study import Study
from trainer.config import TrainConfig
from trainer.errors import ConfigError
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

    `pointer` is the file in the study's folder that names a store on a server. Raises StoreError for a URL that names
    no store, and for a database that doesn't exist, holds no store, or is newer than this code. A file that an older
    version wrote is read from a copy in memory, as it was when it was opened.
    """

    def __init__(self, url: str, *, pointer: Path | None = None) -> None:
        self.url, self._pointer = url, pointer
        self.database = database_of(url)
        self.path = self.database.name
        self._engine = self._open()

    def _open(self) -> sa.Engine:
        if not self.database.exists():
            elsewhere = ", --out names another" if self.database.file else ""
            raise StoreError(f"{self.path}: there is no store here; `sweep run` creates one{elsewhere}")
        engine = self.database.engine(write=False)
        with self.database.errors(), engine.connect() as connection:
            version = tables.version_of(connection)
            if version == 0:
                raise StoreError(f"{self.path}: holds no sweep of plateau-sweep; `sweep run` starts one")
            tables.check_readable(version)
            if version == tables.VERSION:
                tables.check_columns(connection)
                return engine
        engine.dispose()
        return self._migrated_copy()

    def _migrated_copy(self) -> sa.Engine:
        """Read a store of an older version as it would be after its migration, which only a writer makes."""
        with self.database.errors():
            copy = self.database.copy()
            try:
                with copy.begin() as connection:
                    tables.migrate(connection)
            except BaseException:
                copy.dispose()
                raise
        return copy

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
            names = connection.scalars(sa.select(tables.study.c.name).order_by(tables.study.c.id))
            return [name for name in names if isinstance(name, str)]

    def results(self, name: str, *, sampled_curves: bool = True) -> Results:
        """Read everything recorded of the study `name`. Raises NotFound.

        Without `sampled_curves`, ended trials of the sampler come without their points, most of a large store.
        """
        with self._read() as connection:
            study = self._study(connection, name)
            points: dict[int, list[Point]] = {}
            wanted = sa.select(tables.run.c.id).where(tables.run.c.study_id == study.id)
            if not sampled_curves:
                wanted = wanted.where((tables.run.c.origin != "sampler") | tables.run.c.outcome.in_(UNFINISHED))
            columns = (tables.point.c[column] for column in _POINT)
            query = sa.select(tables.point.c.run_id, *columns).where(tables.point.c.run_id.in_(wanted))
            lacking = checked.damaged_points(connection, study.id)
            if lacking:
                query = query.where(checked.sound_points())
            for run_id, *values in connection.execute(query.order_by(tables.point.c.run_id, tables.point.c.step)).all():
                points.setdefault(run_id, []).append(_point(*values))
            rows = connection.execute(
                sa.select(tables.run).where(tables.run.c.study_id == study.id).order_by(tables.run.c.id)
            )
            provenance = checked.read_cells(
                lambda: checked.PROVENANCE.validate_json(study.provenance, strict=True),
                what=f"study {name!r}",
                where=self.database.name,
            )
            earlier = _kinds_at_the_start(provenance)
            runs, damaged = [], list(checked.points_in_words(lacking))
            for row in rows:
                try:
                    runs.append(_run(row, tuple(points.get(row.id, ())), kinds=earlier))
                except (RecursionError, TypeError, ValueError, ConfigError) as error:
                    damaged.append(f"run {row.id} can't be read and is left out: {checked.reason(error)}")
        return checked.read_cells(
            lambda: Results(
                study=self._spec(study),
                data=checked.DATA.validate_json(study.data, strict=True),
                runs=tuple(runs),
                provenance=provenance,
                seconds=float(study.active_seconds),
                store=self.database.file or self._pointer,
                damaged=tuple(damaged),
            ),
            what=f"study {name!r}",
            where=self.database.name,
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
        with self.database.errors(), self._engine.connect() as connection:
            yield connection

    def _study(self, connection: sa.Connection, name: str) -> sa.Row[Any]:
        row = connection.execute(sa.select(tables.study).where(tables.study.c.name == name)).one_or_none()
        if row is None:
            names = ", ".join(map(str, connection.scalars(sa.select(tables.study.c.name)))) or "none"
            raise NotFound(f"{self.path}: has no study named {name!r}; it has: {names}")
        return row

    def _spec(self, row: sa.Row[Any]) -> Study:
        try:
            study = Study.model_validate_json(row.spec)
        except pydantic.ValidationError as error:
            raise StoreError(
                f"{self.path}: study {row.name!r} was stored by another plateau-sweep, whose settings this one doesn't "
                f"know ({error.error_count()} differ); use that version, or start the study in another folder"
            ) from error
        if study.name != row.name:  # the name is part of paths, and only the study's own is checked
            raise StoreError(f"{self.path}: names the study {study.name!r} {row.name!r:.80}; restore it from a copy")
        return study


class Store(Reader):
    """A store opened for writing, with Optuna's storage in it. Makes what is missing, and migrates its tables."""

    storage: optuna.storages.RDBStorage

    def _open(self) -> sa.Engine:
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # our events say what Optuna's log would
        with self.database.errors(), self.database.alone():
            self.database.make()
            try:
                self.storage = self.database.optuna_storage()
            except RuntimeError as error:  # Optuna's error for tables of another Optuna version
                raise StoreError(
                    f"{self.path}: its Optuna tables are not those of Optuna {optuna.__version__}; "
                    f"`optuna storage upgrade --storage {self.url}` brings older ones up to date"
                ) from error
            # alembic, which Optuna uses to read the version of its tables, sets up logging of its own
            logging.getLogger("alembic").setLevel(logging.ERROR)
            return self._migrated(self.database.engine(write=True))

    def _migrated(self, engine: sa.Engine) -> sa.Engine:
        try:
            with self.database.errors(), engine.begin() as connection:
                tables.migrate(connection)
        except StoreError:
            engine.dispose()
            self._close_storage()
            raise
        self._identity = self.database.identity()
        return engine

    def close(self) -> None:
        super().close()
        self._close_storage()

    def _close_storage(self) -> None:
        self.storage.remove_session()
        self.storage.engine.dispose()

    def lock(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Return a context with this process as the only driver of study `name`. Entering it may raise StoreBusy."""
        return self.database.hold(name, writing=self._engine)

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

    def launched(self, run: int, *, device: str, kinds: Sequence[str], attempt: int) -> None:
        """Write launch number `attempt` of a run, and the kinds of device that it has run on, this one included."""
        self._update_run(
            run,
            device=device,
            device_kinds=json.dumps(kinds),
            attempt=attempt,
            outcome=Outcome.RUNNING,
            reason="",
            finished=None,
        )

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
            reason=_storable(reason),
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
                connection.execute(_INSERT[connection.dialect.name](tables.point).on_conflict_do_nothing(), rows)
            connection.execute(tables.study.update().where(tables.study.c.name == name).values(active_seconds=seconds))

    def add_event(self, name: str, kind: str, detail: str, *, run: int | None = None) -> None:
        """Write an event of a run, or without `run` of the whole study."""
        with self._write() as connection:
            self._add_event(connection, name, kind, detail, run=run)

    def _add_event(self, connection: sa.Connection, name: str, kind: str, detail: str, *, run: int | None) -> None:
        study = self._study(connection, name)
        told = {"time": _now(), "kind": kind, "detail": _storable(detail)}
        connection.execute(tables.event.insert().values(study_id=study.id, run_id=run, **told))

    @contextlib.contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        if self.database.identity() != self._identity:  # SQLite would go on writing into a deleted file, for nobody
            raise StoreError(
                f"{self.path}: was deleted or replaced while it was written; put the file back and run again: the "
                "study goes on from it. Without the file, `sweep run` starts the study anew"
            )
        with self.database.errors(), self._engine.begin() as connection:
            yield connection


_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_SETTINGS = frozenset(field.name for field in dataclasses.fields(TrainConfig))
_POINT = [field.name for field in dataclasses.fields(Point)]


def optuna_trial(storage: optuna.storages.RDBStorage, study: optuna.Study, number: int) -> optuna.Trial:
    """Return trial `number` of an Optuna study, in whatever state, for suggesting and reporting."""
    study_id = storage.get_study_id_from_name(study.study_name)
    return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))


def _kinds_at_the_start(provenance: Mapping[str, str]) -> tuple[str, ...]:
    """Return the kind of device of a study's runs that an earlier version wrote; empty where it had several kinds."""
    names = {re.sub(r"^\d+ x ", "", name) for name in provenance.get("devices", "").split(", ") if name}
    return tuple(names) if len(names) == 1 else ()


def _run(row: sa.Row[Any], points: tuple[Point, ...], *, kinds: tuple[str, ...]) -> Run:
    """Return a row as a run. `kinds` are those of a run whose kinds of device were not stored.

    Raises ConfigError, RecursionError, TypeError or ValueError for a damaged one.
    """
    checked.check_cells(row, tables.run)
    if row.outcome == Outcome.COMPLETE and (row.val_loss is None or not abs(row.val_loss) < checked.LARGEST):
        raise ValueError(f"it is complete with the loss {row.val_loss}")
    if row.knob is not None and row.knob not in _SETTINGS:
        raise ValueError(f"knob is {row.knob!r:.60}, which is no setting")
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
        params=checked.PARAMS.validate_json(row.params, strict=True),
        config=TrainConfig.from_mapping(dict(json.loads(row.config))),
        device=row.device,
        kinds=kinds if row.device_kinds is None else checked.KINDS.validate_json(row.device_kinds),
        outcome=Outcome(row.outcome),
        reason=row.reason,
        val_loss=row.val_loss,
        val_se=row.val_se,
        seconds=seconds,
        points=points,
        pruning=checked.PRUNING.validate_json(row.pruning, strict=True) if row.pruning else None,
        key=present_name(row.key),
    )


def _json(pruning: Pruning | None) -> str | None:
    return json.dumps(dataclasses.asdict(pruning)) if pruning else None


def _point(
    step: int,
    tokens: int,
    train_loss: float | None,
    train_se: float | None,
    val_loss: float | None,
    val_se: float | None,
    lr: float | None,
    grad_norm: float | None,
    tokens_per_s: float | None,
    seconds: float,
) -> Point:
    """Return the point of a row, whose values are in the order of Point's fields. SQLite keeps NaN as NULL."""
    return Point(
        step=step,
        tokens=tokens,
        train_loss=math.nan if train_loss is None else train_loss,
        train_se=math.nan if train_se is None else train_se,
        val_loss=math.nan if val_loss is None else val_loss,
        val_se=math.nan if val_se is None else val_se,
        lr=math.nan if lr is None else lr,
        grad_norm=grad_norm,
        tokens_per_s=tokens_per_s,
        seconds=seconds,
    )


def _storable(text: str) -> str:
    """Return a text without the one character that PostgreSQL can't store; what a worker printed may have any."""
    return text.replace("\0", "\\x00")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
