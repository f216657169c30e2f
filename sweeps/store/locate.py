"""The location of a study's results, given its name, its folder, its database or its YAML file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from sweeps.errors import NotFound
from sweeps.paths import RUNS, StudyPaths, paths_of
from sweeps.store.database import database_of
from sweeps.store.records import Results
from sweeps.store.sqlite import url_of
from sweeps.store.store import Reader
from sweeps.study.store_url import POSTGRESQL
from trainer import strict_yaml


@dataclass(frozen=True, kw_only=True)
class Located:
    """Where a study's results are."""

    name: str
    url: str
    paths: StudyPaths


def is_file(study: str) -> bool:
    """Whether `study` names a study's YAML file rather than its results."""
    return Path(study).suffix in (".yaml", ".yml")


def locate(study: str, *, out: Path | None = None) -> Located:
    """Find the results of `study`: a name (below runs/), a folder, a .db file, a URL, or the study's YAML file.

    A URL is postgresql+psycopg://user@host/database#study; one with a single study needs no #study.

    `out` is the folder given to `sweep run --out`. Raises NotFound, which names the studies that exist.
    """
    given = Path(study)
    if study.startswith(POSTGRESQL):
        return _on_a_server(study, out=out)
    if is_file(study):
        name, store = _named_in(given)
        paths = paths_of(name, out=out)
        url = store or url_of(paths.store)
        return Located(name=_name_in_store(url, name), url=url, paths=paths)
    named = out is not None and not given.is_absolute() and len(given.parts) == 1  # a name: --out says where it is
    for paths in (*(() if named else (StudyPaths(given),)), paths_of(study, out=out)):
        if paths.pointer.exists():
            return dataclasses.replace(_on_a_server(paths.pointer.read_text(encoding="utf-8").strip()), paths=paths)
    if (given / "study.db").exists() and not named:
        database = given / "study.db"
    elif not named and (given.suffix == ".db" or given.is_file()):
        database = given
    else:
        paths = paths_of(study, out=out)
        if not paths.store.exists():
            raise NotFound(_not_there(study, paths.store))
        url = url_of(paths.store)
        return Located(name=_name_in_store(url, study), url=url, paths=paths)
    if not database.exists():
        raise NotFound(_not_there(study, database))
    url = url_of(database.absolute())
    return Located(name=_name_in_store(url, None), url=url, paths=StudyPaths(database.parent))


def read(study: str, *, out: Path | None = None, sampled_curves: bool = True) -> tuple[Located, Results]:
    """Find the results of `study` as `locate` does, and read them as `Reader.results` does."""
    located = locate(study, out=out)
    with Reader(located.url, pointer=located.paths.pointer) as reader:
        return located, reader.results(located.name, sampled_curves=sampled_curves)


def _on_a_server(address: str, *, out: Path | None = None) -> Located:
    """Find a study on a server by its address, which is the store's URL with or without #study."""
    url, _, name = address.partition("#")
    database_of(url)  # raises for one with a password, which must not be printed
    found = _name_in_store(url, name or None)
    return Located(name=found, url=url, paths=paths_of(found, out=out))


def address_of(url: str, study: str) -> str:
    """Return the address of a study on a server, for `locate`."""
    return f"{url}#{study}"


def _named_in(path: Path) -> tuple[str, str | None]:
    value = strict_yaml.read(path).value
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str):
        raise NotFound(f"{path}: has no name, so its study can't be found; add name: NAME")
    store = value.get("store")
    return name, store if isinstance(store, str) else None


def _name_in_store(url: str, name: str | None) -> str:
    """Return `name` if the store has this study; without a name, that of its only study. Raises NotFound."""
    with Reader(url) as reader:
        names = reader.names()
        where = reader.path
    if name in names:
        return str(name)
    if len(names) == 1 and name is None:
        return names[0]
    if not names:
        raise NotFound(f"{where}: holds no study yet")
    listed = ", ".join(names)
    if name is None:
        or_so = f", or as {address_of(where, 'STUDY')}" if where.startswith(POSTGRESQL) else ""
        raise NotFound(f"{where}: holds several studies: {listed}; name one of them with its YAML file{or_so}")
    raise NotFound(f"{where}: holds no study {name!r}, but {listed}")


def _not_there(study: str, database: Path) -> str:
    names = sorted(path.parent.name for path in Path(RUNS).glob("*/study.db"))
    existing = f"; under {RUNS}/ there is {', '.join(names)}" if names else ""
    return (
        f"study {study!r}: there is no {database}{existing}; `sweep run` creates one; a study that ran with --out is "
        "found by its folder"
    )
