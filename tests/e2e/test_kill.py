"""Real training in real processes: a sweep that SIGKILL ended is run again and ends as an uninterrupted one."""

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
from sweeps.workers.worker import TrainJob
from tests.e2e import driver
from tests.helpers.data_folders import random_walk_folder
from tests.helpers.small_sweep import attempts_in, reproducible_part, results_in, sweep
from trainer.data.dataset import open_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return random_walk_folder(tmp_path / "data").path


def drive(folder: Path, data: Path, *, until: str = "", send: int = signal.SIGKILL) -> list[str]:
    """Run the driver and return its lines. It gets the signal when it prints the line `until`."""
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


def sweep_here(folder: Path, data: Path) -> None:
    """Run the driver's sweep in this process, from start to end."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has: the order of a sum changes its last bit
    spec, dataset = driver.study(data), open_dataset(data)
    assert sweep(folder, spec, work=TrainJob(checkpoint_seconds=3600.0), data=dataset).finished
    torch.set_num_threads(threads)


def without_times(results: Results) -> list[dict[str, Any]]:
    """Return what must be equal to the last bit: everything except times and speeds."""

    def timeless(point: Any) -> Any:
        return dataclasses.replace(point, seconds=0.0, tokens_per_s=None)

    runs = reproducible_part(results)
    return [{**run, "points": tuple(timeless(point) for point in run["points"])} for run in runs]


def test_a_sweep_killed_and_resumed_ends_as_an_uninterrupted_one(tmp_path: Path, data: Path) -> None:
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    sweep_here(uninterrupted, data)

    assert drive(killed, data, until="point 1 20")[-1] != "finished"
    paths = StudyPaths(killed)
    assert paths.checkpoint(1).exists()
    again = drive(killed, data, until="point 2 40", send=signal.SIGINT)
    # training goes on from the checkpoint: the points before the kill are not reported again
    assert [line for line in again if line.startswith("point 1")] == [f"point 1 {step}" for step in range(22, 41, 2)]
    assert again[-1] == "interrupted"
    last = drive(killed, data)
    assert last[-1] == "finished"
    assert not [line for line in last if line.startswith(("point 1", "point 2"))]

    assert without_times(results_in(killed)) == without_times(results_in(uninterrupted))
    assert attempts_in(killed) == [2, 2, 1]
    assert [run.outcome for run in results_in(killed).runs[:2]] == ["complete", "complete"]
    assert paths.checkpoint(1).exists()
