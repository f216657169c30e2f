"""What the command says about data, and where it keeps a study, in a folder whose name means something to URLs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sweeps import cli
from tests.e2e.test_sweep import STUDY, sweep
from trainer.errors import DataError

FEW_RUNS = ["--set", "trials=1", "--set", "baseline_seeds=1"]
WARNING = (
    "most of the data is left out: 300 of 330 documents, 83% of the text (300 shorter than data.min_chars=200); lower "
    "data.min_chars=200, or join the lines of each document into one row"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder named `what?` with a study and a corpus of 300 lines and 30 documents."""
    folder = tmp_path / "what?"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(STUDY.replace("min_chars: 20", "min_chars: 200"))
    rows = [*(f"line {number:03} " * 13 for number in range(300)), *(f"{number:03} " * 60 for number in range(30))]
    pq.write_table(pa.table({"text": rows}), folder / "docs.parquet")
    return folder


def test_every_command_says_what_was_left_out_and_finds_its_study(folder: Path) -> None:
    assert f"warning: {WARNING}\n" in sweep(folder, "prepare", "tiny.yaml").stdout
    planned = sweep(folder, "plan", "tiny.yaml", *FEW_RUNS).stdout
    assert planned.count(f"warning: {WARNING}\n") == 1
    ran = sweep(folder, "run", "tiny.yaml", *FEW_RUNS)
    assert f"warning: {WARNING}\n" in ran.stdout
    assert WARNING in (folder / "runs/tiny/report.html").read_text()
    assert sweep(folder, "status", "tiny").stdout.startswith("tiny: ")
    assert (folder / "runs/tiny/study.db").is_file()
    assert [path.name for path in folder.parent.iterdir()] == ["what?"]


def test_a_folders_files_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "web").mkdir()
    (folder / "docs.parquet").rename(folder / "web" / "docs.parquet")
    (folder / "web" / "._docs.parquet").write_bytes(b"\0\5\x16\7Mac OS X")
    said = CliRunner().invoke(cli.app, ["prepare", "tiny.yaml", "--data", "web"]).stdout.splitlines()
    left = "for a name that begins with . or _ is no data: web/._docs.parquet"
    assert said[:2] == [f"note: web: 1 parquet file; 1 left out, {left}", f"warning: {WARNING}"]
    facts = json.loads(CliRunner().invoke(cli.app, ["prepare", "tiny.yaml", "--data", "web", "--json"]).stdout)
    assert facts["warnings"] == [WARNING]
    assert facts["notes"] == [f"web: 1 parquet file; 1 left out, {left}"]


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize("val_tokens", [15, 16, 17])
def test_a_validation_split_shorter_than_a_sequence_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, val_tokens: int
) -> None:
    monkeypatch.chdir(folder)
    (folder / "bins").mkdir()
    np.arange(2000, dtype=np.uint16).tofile(folder / "bins/train.bin")
    np.arange(val_tokens, dtype=np.uint16).tofile(folder / "bins/val.bin")
    failed = CliRunner().invoke(cli.app, [command, "tiny.yaml", "--data", "bins"]).exception
    assert isinstance(failed, DataError)
    assert f"the validation split holds {val_tokens} tokens, but needs more than block_size=16 + 1" in str(failed)
    assert "val_fraction" not in str(failed)
