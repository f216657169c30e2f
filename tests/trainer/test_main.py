"""`python -m trainer` as a user starts it: a real process, nanoGPT's log lines, JSON lines, kill -9."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.data_folders import random_walk_folder
from trainer.__main__ import main
from trainer.machine import cpu
from trainer.machine.cards import driver_is_here

CONFIG = """
# takes about a second
n_layer = 1
n_head = 2
n_embd = 16
block_size = 16
batch_size = 4
gradient_accumulation_steps = 2
dropout = 0.1
learning_rate = 1e-2
min_lr = 1e-3
warmup_iters = 2
lr_decay_iters = 30
max_iters = 30
eval_interval = 10
eval_iters = 4
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random_walk_folder(tmp_path / "data")
    (tmp_path / "train_x.py").write_text(CONFIG)
    return tmp_path


def arguments(folder: Path, *more: str, out: str = "out", config: str = "train_x.py") -> list[str]:
    return [str(folder / config), "--data", str(folder / "data"), "--out", str(folder / out), *more]


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_branches_from_the_checkpoint_of_another(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(folder)) == 0
    ended = re.findall(r"step 30: train loss \S+ val loss (\S+)", capsys.readouterr().out)
    origin = ["--origin", str(folder / "out"), "--set", "max_iters=10", "--set", "lr_decay_iters=10"]
    assert main(arguments(folder, *origin, out="branch")) == 0
    began = re.findall(r"step 0: train loss \S+ val loss (\S+)", capsys.readouterr().out)
    assert began == ended  # the same weights
    assert main(arguments(folder, "--origin", str(folder / "none"), out="third")) == 2
    assert f"{folder / 'none'}" in capsys.readouterr().err
    going_on = ["--origin", str(folder / "out"), "--set", "init_from=resume", "--set", "max_iters=40"]
    assert main(arguments(folder, *going_on, out="fourth")) == 0
    assert re.findall(r"step (\d+): train", capsys.readouterr().out) == ["30", "40"]


def test_what_is_passed_over_in_a_config_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "train_x.py").write_text(CONFIG + "import time\nwandb_run_name = str(time.time())\nrope = True\n")
    assert main(arguments(folder, "--set", "max_iters=1")) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert [note.split(": ")[1] for note in notes] == [f"{folder / 'train_x.py'}:{line}" for line in (17, 18, 19)]
    assert notes[2].endswith("nanoGPT has no key 'rope'")


def test_points_and_log_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(folder, "--points", str(folder / "p.jsonl"))) == 0
    written = records(folder / "p.jsonl")
    evaluations = [record for record in written if "step" in record]
    iterations = [record for record in written if "iter" in record]
    assert [record["step"] for record in evaluations] == [0, 10, 20, 30]
    assert [record["iter"] for record in iterations] == list(range(30))
    assert all(set(record) == {"step", "train_loss", "val_loss", "val_se"} for record in evaluations)
    assert all(set(record) == {"iter", "loss"} for record in iterations)
    # an evaluation comes before the update at its step
    assert written[0] == evaluations[0]
    assert written.index(evaluations[1]) == written.index(iterations[9]) + 1
    shown = capsys.readouterr().out
    assert "tokens per iteration will be: 128\n" in shown
    assert re.search(r"^step 0: train loss 3\.\d{4}, val loss 3\.\d{4}$", shown, re.MULTILINE)
    assert re.search(r"^iter 29: loss \d\.\d{4}, time \d+\.\d\dms$", shown, re.MULTILINE)
    assert f"final: val loss {evaluations[-1]['val_loss']:.4f}" in shown


def test_yaml_and_overrides(folder: Path) -> None:
    (folder / "run.yaml").write_text(
        "n_layer: 1\nn_head: 2\nn_embd: 16\nblock_size: 16\nlearning_rate: 1e-2\nmax_iters: 4\neval_interval: 2\n"
        "eval_windows: 4\nbatch_size: 2\ngradient_accumulation_steps: 1\n"
    )
    more = ["--set", "max_iters=6", "--set", "compile=False", "--points", str(folder / "p.jsonl")]
    assert main(arguments(folder, *more, config="run.yaml")) == 0
    assert [record["step"] for record in records(folder / "p.jsonl") if "step" in record] == [0, 2, 4, 6]


def test_parity_mode(folder: Path) -> None:
    assert main(arguments(folder, "--set", "sampling=nanogpt", "--points", str(folder / "p.jsonl"))) == 0
    written = records(folder / "p.jsonl")
    assert [record["iter"] for record in written if "iter" in record] == list(range(31))
    assert [record["step"] for record in written if "step" in record] == [0, 10, 20, 30]
    assert "iter" in written[-1]  # nanoGPT's last update comes after its last evaluation


@pytest.mark.parametrize(
    ("more", "config", "words"),
    [
        (["--set", "n_embd=17"], "train_x.py", "n_embd=17 is not divisible by n_head=2; nearest widths: 16 and 18"),
        (["--set", "n_emb=16"], "train_x.py", "unknown setting 'n_emb'; did you mean n_embd?"),
        (["--set", "dropout"], "train_x.py", "--set dropout: write --set key=value"),
        ([], "none.py", "No such file or directory"),
        ([], "none.yaml", "No such file or directory"),
        (["--set", "block_size=5000"], "train_x.py", "lower block_size or use more text"),
        (["--set", "device=cuda:7"], "train_x.py", "device=cuda:7"),
    ],
)
def test_mistakes_are_reported_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], config: str, words: str
) -> None:
    assert main(arguments(folder, *more, config=config)) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.startswith("error: ")
    assert len(shown.strip().splitlines()) == 1


def test_divergence_has_its_own_exit_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--set", "learning_rate=1e3", "--set", "min_lr=1e3", "--set", "grad_clip=0.0", "--set", "warmup_iters=0"]
    assert main(arguments(folder, *more, "--points", str(folder / "p.jsonl"))) == 3
    assert capsys.readouterr().err.startswith("diverged: ")
    assert all(math.isfinite(r["val_loss"]) for r in records(folder / "p.jsonl") if r.get("val_loss") is not None)


def test_killed_with_9_and_started_again(folder: Path) -> None:
    """A run that was killed and started again writes the same points as an uninterrupted run."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MALLOC_TOP_PAD_": "1048576"}
    command = [sys.executable, "-u", "-m", "trainer"]
    whole, killed = folder / "whole.jsonl", folder / "killed.jsonl"
    again = arguments(folder, "--points", str(killed), out="b")
    process = subprocess.Popen([*command, *again], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("iter 23:"):
            settings = psutil.Process(process.pid).environ()
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    assert settings["MALLOC_TOP_PAD_"] == "1048576"  # the user's value
    if not driver_is_here():  # with a card the allocator's settings aren't needed
        assert cpu.missing_settings(settings) == {}
    assert max(record.get("iter", 0) for record in records(killed)) >= 22  # the last line may be cut
    for arguments_ in (arguments(folder, "--points", str(whole), out="a"), again):
        subprocess.run([*command, *arguments_], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert records(killed) == records(whole)
