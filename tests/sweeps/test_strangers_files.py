"""Files from strangers: large ones and pipes are refused without being read, and nothing in any of them is executed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.diagnose.log import read_log_file
from sweeps.export.config_text import comment_block
from sweeps.store.store import Reader
from sweeps.study.load import load
from sweeps.tables.rows import read_table
from tests.helpers.study_files import TEXT
from trainer.config_file import read_file
from trainer.data.dataset import open_dataset
from trainer.data.files import matching
from trainer.data.parquet import ParquetDocuments
from trainer.data.tokenizer import gpt2, read_bpe
from trainer.errors import DataError, UserError
from trainer.run.origin import read_origin

Read = Callable[[Path], Any]


def in_a_folder(path: Path) -> None:
    """Open a file as a part of a data folder."""
    for name in ("train.bin", "val.bin"):
        if path.name != name:
            (path.parent / name).write_bytes(bytes(200))
    open_dataset(path.parent)


TEXTS: dict[str, Read] = {
    "study.yaml": lambda path: load(path, devices_have_cuda=False),
    "train.py": read_file,
    "meta.json": in_a_folder,
    "meta.pkl": in_a_folder,
    "bpe.tiktoken": read_bpe,
    "encoder.json": lambda path: gpt2(path).encoding,
    "train.log": read_log_file,
    "runs.csv": read_table,
    "runs.jsonl": read_table,
    "runs.parquet": read_table,
}
"""readers of files that are small, by the file's name"""
ALL: dict[str, Read] = {
    **TEXTS,
    "text.parquet": lambda path: ParquetDocuments([str(path)]),
    "val.bin": in_a_folder,
    "ckpt.pt": read_origin,
    "study.db": lambda path: Reader(f"sqlite:///{path}"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a terabyte: reading it would end the test
    with pytest.raises(UserError, match=rf"{re.escape(name)}.*(at most|larger|more than)"):
        TEXTS[name](path)


@pytest.mark.parametrize("name", ALL)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=rf"{re.escape(name)}.*(a pipe|no such file)"):
        ALL[name](tmp_path / name)


@pytest.mark.parametrize("name", ALL)
def test_a_device_without_an_end_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(UserError, match=rf"{re.escape(name)}.*(a device|no such file)"):
        ALL[name](tmp_path / name)


def test_a_config_is_not_executed(tmp_path: Path) -> None:
    """The same text executed by Python makes the folders."""
    path, made = tmp_path / "train.py", tmp_path / "made"
    path.write_text(
        f"import os\nn_layer = 4\nn_head = os.mkdir('{made}') or 4\nif os.mkdir('{made}-2') is None:\n    n_embd = 8\n"
        f"class A:\n    os.mkdir('{made}-3')\n@os.mkdir\ndef f(a=os.mkdir('{made}-4')): pass\n"
    )
    read_file(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.mkdir [{made}]", "!!python/name:os.mkdir", "!!python/module:os", "!made {made}"]
)
def test_a_study_makes_no_objects(tmp_path: Path, tag: str) -> None:
    path, made = tmp_path / "study.yaml", tmp_path / "made"
    path.write_text(TEXT.replace("name: small", f"name: {tag.format(made=made)}"))
    with pytest.raises(UserError, match=r"study\.yaml:1: the tag .* is not read"):
        load(path, devices_have_cuda=False)
    assert not made.exists()


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../b", "..", ".", "a\\b", "", "a\nb", "x" * 65])
def test_a_studys_name_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(TEXT.replace("name: small", f"name: {name!a}".replace("'", '"')))
    with pytest.raises(UserError, match=r"study\.yaml:1: name: .*can't name a study and its folder"):
        load(path, devices_have_cuda=False)


def test_a_line_from_a_checkpoint_stays_in_its_comment() -> None:
    """nanoGPT executes the exported config."""
    lines = comment_block(
        "notes", ["its config has 'x'\nimport os\rimport os\x0bimport os\u2028import os\x85import os"]
    )
    assert all(line.startswith("#") for line in "\n".join(lines).splitlines())


def test_a_url_with_a_password_is_refused_without_printing_it() -> None:
    with pytest.raises(
        DataError, match=r"https://example\.org/x\.parquet: is given with a password in the URL"
    ) as caught:
        matching("https://someone:secret@example.org/x.parquet")
    assert "secret" not in str(caught.value)
