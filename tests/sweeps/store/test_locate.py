"""Location of a study's results: by name, folder, database or YAML file, and what a miss says."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.errors import NotFound
from sweeps.store.locate import locate
from sweeps.store.store import Store
from tests.helpers import small_sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of studies: alpha and beta below runs/, both in shared.db, none in empty.db."""
    folder = tmp_path_factory.mktemp("studies")
    for file, names in {
        "runs/alpha/study.db": ["alpha"],
        "runs/beta/study.db": ["beta"],
        "elsewhere/study.db": ["alpha"],
        "shared.db": ["alpha", "beta"],
        "empty.db": [],
    }.items():
        with Store(f"sqlite:///{folder / file}") as store:
            for name in names:
                store.add_study(small_sweep.study(name=name), data=small_sweep.FACTS, provenance={})
    (folder / "alpha.yaml").write_text("name: alpha\n")
    (folder / "shared.yml").write_text(f"name: beta\nstore: sqlite:///{folder}/shared.db\n")
    (folder / "gamma.yaml").write_text(f"name: gamma\nstore: sqlite:///{folder}/shared.db\n")
    (folder / "nameless.yaml").write_text("seed: 1\n")
    return folder


@pytest.fixture(autouse=True)
def current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.mark.parametrize(
    ("study", "out", "name", "file", "root"),
    [
        ("alpha", None, "alpha", "runs/alpha/study.db", "runs/alpha"),
        ("alpha", "elsewhere", "alpha", "elsewhere/study.db", "elsewhere"),
        ("alpha.yaml", None, "alpha", "runs/alpha/study.db", "runs/alpha"),
        ("alpha.yaml", "elsewhere", "alpha", "elsewhere/study.db", "elsewhere"),
        ("shared.yml", None, "beta", "shared.db", "runs/beta"),
        ("runs/beta", None, "beta", "runs/beta/study.db", "runs/beta"),
        ("runs/beta/study.db", None, "beta", "runs/beta/study.db", "runs/beta"),
        ("elsewhere", None, "alpha", "elsewhere/study.db", "elsewhere"),
    ],
)
def test_a_study_is_found_by_its_name_folder_database_or_yaml_file(
    folder: Path, study: str, out: str | None, name: str, file: str, root: str
) -> None:
    located = locate(study, out=None if out is None else Path(out))
    assert (located.name, located.url, located.paths.root) == (name, f"sqlite:///{folder / file}", folder / root)


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ("gamma", r"study 'gamma': there is no .*runs/gamma/study\.db; under runs/ there is alpha, beta"),
        ("missing.db", r"there is no missing\.db; under runs/ there is alpha, beta"),
        ("shared.db", r"shared\.db: holds several studies: alpha, beta; name one of them with its YAML file"),
        ("gamma.yaml", r"shared\.db: holds no study 'gamma', but alpha, beta"),
        ("empty.db", r"empty\.db: holds no study yet"),
        ("nameless.yaml", r"nameless\.yaml: has no name"),
    ],
)
def test_a_miss_names_the_studies_that_exist(study: str, words: str) -> None:
    with pytest.raises(NotFound, match=words):
        locate(study)


def test_out_wins_over_a_folder_of_the_studys_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("alpha/study.db", "out/study.db"):
        with Store(f"sqlite:///{tmp_path / file}") as store:
            store.add_study(small_sweep.study(name="alpha"), data=small_sweep.FACTS, provenance={})
    monkeypatch.chdir(tmp_path)
    assert locate("alpha").paths.root == tmp_path / "alpha"
    assert locate("alpha", out=Path("out")).paths.store.resolve() == tmp_path / "out" / "study.db"
    with pytest.raises(NotFound, match="nowhere"):
        locate("alpha", out=Path("nowhere"))
