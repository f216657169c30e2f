"""The commands that a study's messages name: as short as they can be, and they find the study."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from sweeps.paths import command
from sweeps.store.locate import locate
from sweeps.store.store import Reader, Store
from tests.helpers import small_sweep


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (None, "sweep export small --trial 3"),
        ("runs/small/study.db", "sweep export small --trial 3"),
        ("runs/other/study.db", "sweep export small --out runs/other --trial 3"),
        ("my results/study.db", "sweep export small --out 'my results' --trial 3"),
        ("/elsewhere/study.db", "sweep export small --out /elsewhere --trial 3"),
        ("all.db", "sweep export all.db --trial 3"),
    ],
)
def test_a_command_names_the_folder_of_out_where_it_needs_it(
    store: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("export", "small", "--trial", "3", store=None if store is None else Path(store).absolute()) == said


@pytest.mark.parametrize("store", ["runs/small/study.db", "my results/study.db", "all.db"])
def test_the_study_is_found_by_the_command_that_its_results_name(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / store}"
    with Store(url) as written:
        written.add_study(small_sweep.study(), data=small_sweep.FACTS, provenance={})
    with Reader(url) as reader:
        _, verb, study, *options = shlex.split(reader.results("small").command("status"))
    out = Path(options[options.index("--out") + 1]) if options else None
    found = locate(study, out=out)
    assert (verb, found.name, found.url) == ("status", "small", url)
