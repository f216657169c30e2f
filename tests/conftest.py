"""Settings of all tests: no Hypothesis deadlines, since machines may be busy; fixed examples in CI; a private cache."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import settings

from tests.helpers import postgresql_server

os.environ.setdefault("PLATEAU_SWEEP_CACHE", tempfile.mkdtemp(prefix="plateau-sweep-tests-"))

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgresql_server.Server]:
    """Yield a PostgreSQL server of the tests' own. Skips where there is none, which is a failure in CI."""
    if missing := postgresql_server.why_missing():
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with postgresql_server.server() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: postgresql_server.Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a new database, and set the password in PGPASSWORD."""
    monkeypatch.setenv("PGPASSWORD", postgresql.password)
    return postgresql.new_database()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, ...], str | Exception | int]:
    """Return the system's commands: what each prints, raises or exits with. An unlisted command doesn't exist."""
    answers: dict[tuple[str, ...], str | Exception | int] = {}

    def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        answer = answers.get(tuple(command), FileNotFoundError(command[0]))
        if isinstance(answer, Exception):
            raise answer
        code, text = (answer, "") if isinstance(answer, int) else (0, answer)
        return subprocess.CompletedProcess(command, code, stdout=text, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return answers
