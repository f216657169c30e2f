"""Real training in real processes, killed with SIGKILL in the middle and run again: nothing shows it afterwards."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeps.paths import StudyPaths
from sweeps.store.records import Results
from sweeps.store.store import Reader
from sweeps.workers.worker import TrainJob
from tests.e2e import driver
from tests.helpers.data_folders import random_walk_folder
from tests.helpers.small_sweep import essence, stored_results, sweep
from trainer.data.dataset import open_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return random_walk_folder(tmp_path / "data").path


def drive(folder: Path, data: Path, *, until: str = "", send: int = signal.SIGKILL) -> list[str]:
    """Run the driver, to its end or until it prints the line `until`, when it gets the signal; what it printed."""
    command = [sys.executable, "-m", "tests.e2e.driver", str(folder), str(data), until]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.strip())
            if lines[-1] == until:
                process.send_signal(send)
                if send != signal.SIGKILL:
                    process.stdin.write("go on\n")
    killed = bool(until) and send == signal.SIGKILL
    assert process.returncode == (-signal.SIGKILL if killed else 0)
    return lines


def calm(folder: Path, data: Path) -> None:
    """The driver's sweep in this process, start to end."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the worker's: the order of a sum shows in its last bit
    spec, dataset = driver.study(data), open_dataset(data)
    assert sweep(folder, spec, work=TrainJob(checkpoint_seconds=3600.0), data=dataset).finished
    torch.set_num_threads(threads)


def without_times(results: Results) -> list[dict[str, Any]]:
    """What must be equal to the last bit: everything but how long it took."""

    def still(point: Any) -> Any:
        return dataclasses.replace(point, seconds=0.0, tokens_per_s=None)

    return [{**run, "points": tuple(still(point) for point in run["points"])} for run in essence(results)]


def attempts(folder: Path) -> list[int]:
    with Reader(f"sqlite:///{StudyPaths(folder).store}") as reader, reader._engine.connect() as connection:
        return list(connection.exec_driver_sql("SELECT attempt FROM run ORDER BY id").scalars())


def test_a_sweep_killed_and_resumed_ends_as_an_undisturbed_one(tmp_path: Path, data: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    calm(undisturbed, data)

    assert drive(killed, data, until="point 1 20")[-1] != "finished"
    paths = StudyPaths(killed)
    assert paths.checkpoint(1).exists()
    again = drive(killed, data, until="point 2 40", send=signal.SIGINT)
    # the store has the points up to the kill, and they are not told again: training went on from the checkpoint
    assert [line for line in again if line.startswith("point 1")] == [f"point 1 {step}" for step in range(22, 41, 2)]
    assert again[-1] == "interrupted"
    last = drive(killed, data)
    assert last[-1] == "finished"
    assert not [line for line in last if line.startswith(("point 1", "point 2"))]

    assert without_times(stored_results(killed)) == without_times(stored_results(undisturbed))
    assert attempts(killed) == [2, 2, 1]
    assert [run.outcome for run in stored_results(killed).runs[:2]] == ["complete", "complete"]
    assert paths.checkpoint(1).exists()
