"""Swept studies that the engine's tests compare with. Tests must not write to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.paths import StudyPaths
from tests.helpers import small_sweep


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which `small_sweep.four_runs()` has been run in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    small_sweep.sweep(folder, small_sweep.four_runs())
    return folder


@pytest.fixture(scope="session")
def plateau_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which `small_sweep.plateau_study()` has been run in one go."""
    folder = tmp_path_factory.mktemp("plateau")
    small_sweep.sweep(folder, small_sweep.plateau_study())
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def each_database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test's small sweeps on each database. On the server, each folder has a database of its own."""
    if request.param == "sqlite":
        return "sqlite"
    server, urls = request.getfixturevalue("postgresql"), dict[Path, str]()
    monkeypatch.setenv("PGPASSWORD", server.password)

    def url_of(folder: Path) -> str:
        file = StudyPaths(folder).store
        if file.exists():  # a study that was swept for all tests
            return f"sqlite:///{file}"
        if folder not in urls:
            urls[folder] = server.new_database()
        return urls[folder]

    monkeypatch.setattr(small_sweep, "url_of", url_of)
    return "postgresql"
