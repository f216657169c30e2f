"""Studies that go on by their name: killed halfway, from another folder, without the files they were begun with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from sweeps.store.locate import locate
from tests.e2e.test_sweep import COMMAND, Call, call, write_study  # noqa: F401  # `call` is a fixture
from tests.helpers.small_sweep import results_in

BASELINE = (
    "n_layer=1\nn_head=1\nn_embd=16\nblock_size=16\nbatch_size=4\ngradient_accumulation_steps=1\nlearning_rate=2e-2\n"
)


def kill_at(line: str, folder: Path, *arguments: str) -> None:
    """Start `sweep` and kill it and its workers when it prints a line that begins with `line`."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    for printed in process.stdout:
        if printed.startswith(line):
            break
    else:
        pytest.fail("it ended before the line")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.usefixtures("call")
def test_a_killed_sweep_goes_on_by_its_name_from_another_folder(tmp_path: Path, call: Call) -> None:  # noqa: F811
    begun, other = tmp_path / "begun", tmp_path / "other"
    begun.mkdir()
    other.mkdir()
    write_study(begun)
    (begun / "mine.py").write_text(BASELINE + "warmup_iters=10\nlr_decay_iters=100\nmax_iters=100\nmin_lr=2e-3\n")
    options = ["--baseline", "mine.py", "--set", "workers.devices=[cpu]", "--set", "trials=3", "--out", "results"]
    kill_at("run 3 starts", begun, "run", "tiny.yaml", *options)
    for name in ("tiny.yaml", "mine.py", "docs.parquet"):
        (begun / name).unlink()

    out = begun / "results"
    paused = call(other, "status", "tiny", "--out", str(out)).stdout
    assert "1 paused, 2 complete" in paused
    assert f"`sweep run tiny --out {out}` goes on" in paused
    stored = results_in(out, "tiny")

    refused = call(other, "run", "tiny", "--out", str(out), "--data", "x.parquet", "--set", "trials=9", code=2)
    assert refused.stderr.startswith("error: --set, --data: a study that goes on by its name stays as it was begun")
    ended = json.loads(call(other, "run", "tiny", "--out", str(out), "--json").stdout.splitlines()[-1])
    assert ended["trials"]["complete"] + ended["trials"]["pruned"] == 5
    after = results_in(out, "tiny")
    assert after.study == stored.study.model_copy(update={"store": locate("tiny", out=out).url})
    assert after.study.baseline["learning_rate"] == 2e-2
    assert after.data == stored.data
    assert after.runs[:2] == stored.runs[:2]
    assert not (other / "runs").exists()
    assert "5 of 5 runs: " in call(other, "status", "tiny", "--out", str(out)).stdout
