"""The interface for Python: the example of the guide, as a program of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import sweeps
from tests.e2e.test_sweep import STUDY, write_documents

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "python.md"


def example() -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(code)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the guide's example on a study of seconds, as a script without `if __name__`; return folder and stdout."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "studies").mkdir()
    write_documents(folder / "docs.parquet")
    (folder / "studies" / "smoke.yaml").write_text(STUDY.replace("name: tiny", "name: smoke"))
    (folder / "example.py").write_text(example())
    done = subprocess.run([sys.executable, "example.py"], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def test_the_examples_words_are_those_of_the_command(ran: tuple[Path, str]) -> None:
    folder, printed = ran
    command = [sys.executable, "-m", "sweeps", "verdict", "smoke"]
    words = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    headline = sweeps.open_results(folder / "runs" / "smoke").verdict.headline
    assert headline in printed
    assert headline in " ".join(words.split())
    assert printed.startswith("smoke\n20\n")
    assert re.search(r"^20 1280 \d\.\d+ \d\.\d+$", printed, re.MULTILINE)  # 20 iterations of 4 sequences of 16


def test_the_curves_are_those_of_the_store(ran: tuple[Path, str]) -> None:
    folder, _ = ran
    curves = pq.read_table(folder / "curves.parquet").sort_by([("run", "ascending"), ("step", "ascending")]).to_pylist()
    found = sweeps.open_results(folder / "runs" / "smoke")
    points = [(run.id, run.label, run.phase, point) for run in found.runs for point in run.points]
    assert len(curves) == len(points) > 200
    for row, (number, label, phase, point) in zip(curves, points, strict=True):
        assert (row["run"], row["label"], row["phase"]) == (number, label, phase)
        assert (row["step"], row["val_loss"], row["lr"]) == (point.step, point.val_loss, point.lr)


def test_as_json_is_what_status_prints(ran: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = ran
    monkeypatch.chdir(folder)  # where commands need no --out
    command = [sys.executable, "-m", "sweeps", "status", "smoke", "--json"]
    status = json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)
    planned = status.pop("planned")
    assert json.loads(json.dumps(sweeps.open_results(folder / "runs" / "smoke").as_json())) == status
    assert planned == status["trials"]["complete"] + status["trials"]["pruned"] == 14


def test_mistakes_are_user_errors(ran: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = ran
    with pytest.raises(sweeps.UserError, match="there is no"):
        sweeps.open_results(tmp_path / "nothing")
    with pytest.raises(sweeps.UserError, match="trials: 0 must be at least 1"):
        sweeps.load(folder / "studies" / "smoke.yaml", overrides=["trials=0"])


def test_another_thread_is_refused(ran: tuple[Path, str], tmp_path: Path) -> None:
    """Only the main thread can take Ctrl-C, which pauses a study."""
    study = sweeps.load(ran[0] / "studies" / "smoke.yaml")
    raised: list[Exception] = []

    def run() -> None:
        try:
            sweeps.run(study, out=tmp_path)
        except sweeps.UserError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "main thread" in str(raised[0])
    assert not list(tmp_path.iterdir())


def test_every_public_name_is_there() -> None:
    assert all(getattr(sweeps, name) is not None for name in sweeps.__all__)
    assert set(sweeps.__all__) <= set(dir(sweeps))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = sweeps.lode
