"""URLs of stores: which are taken, and that a password is neither taken nor repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import SpecError
from sweeps.study.load import load
from sweeps.study.store_url import problem_with
from tests.helpers import small_sweep, study_files


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///study.db",
        "sqlite:////srv/50% done/study.db",
        "postgresql+psycopg://sweep@db.lab/sweeps",
        "postgresql+psycopg://sweep@db.lab:5433/sweeps?sslmode=verify-full",
        "postgresql+psycopg://[::1]/sweeps",
        "postgresql+psycopg:///sweeps?host=/run/postgresql",
    ],
)
def test_what_names_a_store_is_taken(url: str) -> None:
    assert problem_with(url) is None
    assert small_sweep.study(store=url).store == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("study.db", "is not a SQLite URL"),
        ("sqlite:///", "is not a SQLite URL"),
        ("sqlite:///study.db?mode=ro", "is not a SQLite URL"),
        ("mysql://u@h/d", "mysql:// is neither SQLite nor PostgreSQL"),
        ("postgresql://u@h/d", "is not the driver that is used; write postgresql+psycopg://"),
        ("postgresql+psycopg2://u@h/d", "is not the driver that is used"),
        ("postgresql+psycopg://u@h", "names no database"),
        ("postgresql+psycopg://u@h/", "names no database"),
        ("postgresql+psycopg://u@h/a/b", "names no database"),
        ("postgresql+psycopg://u@h:99999/d", "can't be read"),
        ("postgresql+psycopg://u@h:0/d", "port 0"),
        ("postgresql+psycopg://u@h/d#plateau", "leave out the #"),
    ],
)
def test_what_names_none_is_refused_with_what_to_write(url: str, words: str) -> None:
    assert words in str(problem_with(url))


PASSWORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6).map(lambda text: f"zQ{text}Qz")


@given(PASSWORDS, st.sampled_from(["postgresql+psycopg", "postgresql", "postgres", "mysql", "mysql+pymysql"]))
def test_a_password_is_never_taken_nor_repeated(password: str, scheme: str) -> None:
    for url in (f"{scheme}://user:{password}@host/db", f"{scheme}://user@host/db?password={password}"):
        problem = problem_with(url)
        assert problem is not None
        assert "zQ" not in problem


def test_the_password_is_not_in_the_error_of_a_study_file(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(f"{study_files.TEXT}\nstore: postgresql+psycopg://user:hunter2@host/db\n")
    with pytest.raises(SpecError, match=r"study.yaml:\d+: store: the PostgreSQL URL holds a password") as caught:
        load(file, devices_have_cuda=False)
    assert "hunter2" not in str(caught.value)
