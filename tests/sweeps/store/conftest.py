"""A new store, and one that holds the small study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.store.store import Store
from tests.helpers import small_sweep


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a store that doesn't exist yet, in a folder that doesn't either."""
    return tmp_path / "study" / "study.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """Yield an open store with the study "small", which has no runs yet."""
    with Store(url) as store:
        store.add_study(small_sweep.study(), data=small_sweep.FACTS, provenance={"torch": "2.13"})
        yield store
