"""`sweep init`: the file that it writes loads under any valid name."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.errors import SpecError
from sweeps.study import load
from sweeps.study.authoring import write_study


@pytest.mark.parametrize("cuda", [False, True])
def test_the_study_loads(tmp_path: Path, cuda: bool) -> None:
    path = write_study("my-run.2", tmp_path)
    study = load.load(path, devices_have_cuda=cuda)
    assert path == tmp_path / "my-run.2.yaml"
    assert study.name == "my-run.2"
    assert len(study.knobs) == 7
    assert "sweep run my-run.2.yaml" in path.read_text()


def test_existing_files_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("mine")
    with pytest.raises(SpecError, match=r"x\.yaml: exists already; choose another name"):
        write_study("x", tmp_path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x-confirm", "x" * 65])
def test_invalid_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match=r"can't name a study and its folder|ends in -confirm"):
        write_study(name, tmp_path)
    assert not list(tmp_path.iterdir())
