"""Studies written for a diagnosis: they load, their knobs are the findings', and faults are refused."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.diagnose.findings.finding import Code
from sweeps.diagnose.study_file import Place, study_text, write_study_of
from sweeps.errors import LogError, SpecError
from sweeps.study.load import load
from sweeps.study.study import Study
from tests.helpers.data_folders import random_walk_folder
from tests.helpers.logged_runs import Simulated, falling, flat
from tests.helpers.training_logs import text_of
from trainer.config import TrainConfig
from trainer.points import Answer
from trainer.run.loop import train


def above(step: float) -> float:
    return flat(step) + 0.05


CASES: dict[str, tuple[Simulated, set[str], dict[str, Any] | None]] = {
    "dropout": (Simulated(train=above, val=flat, settings={"dropout": 0.4}), {"dropout"}, {"dropout": 0.0}),
    "width": (Simulated(train=above, val=flat, settings={"n_embd": 16, "n_layer": 1}), {"n_embd"}, None),
    "rate": (
        Simulated(train=flat, val=flat, settings={"learning_rate": 1e-5, "min_lr": 1e-6}),
        {"learning_rate", "min_lr"},
        {"learning_rate": 0.0013, "min_lr": 0.00013},
    ),
    "weight decay": (
        Simulated(train=above, val=flat, settings={"weight_decay": 2.0}),
        {"weight_decay"},
        {"weight_decay": 0.1},
    ),
    "decay": (
        Simulated(train=flat, val=flat, settings={"lr_decay_iters": 400}),
        {"learning_rate", "min_lr"},
        {"lr_decay_iters": 2000},
    ),
    "nothing": (Simulated(), {"learning_rate", "min_lr"}, None),
    "batch": (Simulated(train=flat, val=flat, settings={"batch_size": 2, "block_size": 8}), {"batch_size"}, None),
}
"""a run, knobs that its study has, and a candidate"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return random_walk_folder(tmp_path / "data", vocab_size=512).path


def written(run: Simulated, folder: Path, data: Path | None) -> Study:
    path = folder / "next.yaml"
    write_study_of(run.diagnosis(), path, Place(checkpoint=None, log=None, data=data))
    return load(path, devices_have_cuda=False)


@pytest.mark.parametrize("name", CASES)
def test_a_study_loads_and_has_the_knobs_of_the_findings(name: str, tmp_path: Path, data: Path) -> None:
    run, knobs, candidate = CASES[name]
    study = written(run, tmp_path, data)
    assert knobs <= set(study.knobs)
    assert study.baseline["n_embd"] == run.settings.get("n_embd", 128)
    if candidate is not None:
        (found,) = study.candidates
        assert found == pytest.approx(candidate)


def test_faults_are_refused_with_their_check(tmp_path: Path, data: Path) -> None:
    for run, code in (
        (Simulated(train=lambda _: math.nan, val=lambda _: math.nan), "nan"),
        (Simulated(train=flat, val=flat, noise=0.0, iters=flat), Code.NO_UPDATE),
    ):
        with pytest.raises(LogError, match=f"no sweep mends.*{code}"):
            written(run, tmp_path, data)
    assert not (tmp_path / "next.yaml").exists()


def test_what_is_missing_is_named(tmp_path: Path, data: Path) -> None:
    with pytest.raises(LogError, match="name the run's data with --data"):
        written(Simulated(), tmp_path, None)
    with pytest.raises(LogError, match="give --config"):
        written(Simulated(known=False), tmp_path, data)
    written(Simulated(), tmp_path, data)
    with pytest.raises(SpecError, match="exists already"):
        written(Simulated(), tmp_path, data)
    with pytest.raises(SpecError, match=r"must end in \.yaml"):
        write_study_of(Simulated().diagnosis(), tmp_path / "next.txt", Place(checkpoint=None, log=None, data=data))


def test_with_a_checkpoint_width_races_and_the_length_is_a_share_of_the_run(tmp_path: Path, data: Path) -> None:
    run = Simulated(train=above, val=flat, settings={"n_embd": 16, "n_layer": 1}, last=2000, iters=falling)
    path = tmp_path / "next.yaml"
    write_study_of(run.diagnosis(), path, Place(checkpoint=tmp_path / "ckpt.pt", log=tmp_path / "t.log", data=data))
    text = path.read_text(encoding="utf-8")
    assert "race: {iters: 666, n_embd: [32]}" in text
    assert "  n_embd:" not in text
    assert "horizon: {iters: 400}" in text
    assert f'log: "{tmp_path / "t.log"}"' in text


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint of three iterations, and its data."""
    folder = tmp_path_factory.mktemp("trained")
    config = TrainConfig(
        n_layer=1, n_head=2, n_embd=8, block_size=8, batch_size=2, gradient_accumulation_steps=1, learning_rate=1e-3,
        min_lr=1e-4, warmup_iters=1, max_iters=3, lr_decay_iters=3, eval_interval=1, eval_windows=4, device="cpu",
    )  # fmt: skip
    train(config, random_walk_folder(folder / "data"), lambda _: Answer.GO, out=folder)
    return folder


def test_the_command_reads_a_checkpoint_and_plans_the_study_of_its_run(trained: Path, tmp_path: Path) -> None:
    alone = json.loads(CliRunner().invoke(app, ["diagnose", "--ckpt", str(trained), "--json"]).stdout)
    assert (alone["verdict"], alone["facts"]["step"], alone["facts"]["vocab_size"]) == ("too_short", 3, 32)
    log, path = tmp_path / "train.log", tmp_path / "next.yaml"
    log.write_text("step 0: train loss 3.4657, val loss 3.4657\nstep 3: train loss 3.4, val loss 3.4\n", "utf-8")
    page = tmp_path / "page.html"
    options = ["--ckpt", str(trained), "--study", str(path), "--html", str(page)]
    done = CliRunner().invoke(app, ["diagnose", str(log), *options])
    assert done.exit_code == 0, done.output
    assert "every trial is a branch of it, 240 iterations long" in " ".join(done.stdout.split())
    assert page.exists()
    study = load(path, devices_have_cuda=False)
    assert set(study.knobs) == {"batch_size", "warmup_iters"}  # 16 tokens per update; a third of the run is warm-up


@pytest.mark.parametrize(
    "settings",
    [
        {"dropout": 0.4},
        {"weight_decay": 2.0},
        {"batch_size": 12, "block_size": 8},
        {"batch_size": 1, "block_size": 8},
        {"learning_rate": 1e-5, "min_lr": 1e-6},
        {"warmup_iters": 600},
    ],
)
@pytest.mark.parametrize("last", [1000, 1150, 2310, 20_000])
def test_what_is_written_needs_no_widening(settings: dict[str, Any], last: int, tmp_path: Path, data: Path) -> None:
    run = Simulated(train=above, val=flat, settings={**settings, "max_iters": last, "lr_decay_iters": last}, last=last)
    assert not [note for note in written(run, tmp_path, data).notes if note.startswith("knobs.")]


def test_a_spent_rate_is_swept_up_to_its_peak_and_tried_at_half_of_it(tmp_path: Path) -> None:
    settings = {"lr_decay_iters": 400, "min_lr": 1e-6}
    run = Simulated(train=flat, val=flat, settings=settings)
    found = run.diagnosis()
    given = dataclasses.replace(found.measured.given, checkpoint_step=2000)
    text = study_text(
        dataclasses.replace(found, measured=dataclasses.replace(found.measured, given=given)),
        name="next",
        place=Place(checkpoint=tmp_path / "ckpt.pt", log=None, data=None),
    )
    assert "learning_rate: {low: 1e-06, high: 0.001" in text
    assert "  - {learning_rate: 0.0005, min_lr: 0.0}" in text


def test_the_plan_of_a_race_from_a_checkpoint_counts_it(trained: Path, tmp_path: Path) -> None:
    log, path = tmp_path / "train.log", tmp_path / "next.yaml"
    log.write_text(text_of(Simulated(train=above, val=flat).lines()), encoding="utf-8")
    done = CliRunner().invoke(app, ["diagnose", str(log), "--ckpt", str(trained), "--study", str(path)])
    assert done.exit_code == 0, done.output
    assert "race: {iters: 666, n_embd: [16]}" in path.read_text(encoding="utf-8")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[1] for row in rows if row[:1] == ["races"]] == ["2"]


def test_a_run_too_large_for_a_cpu_has_a_miniature_there(tmp_path: Path, data: Path) -> None:
    large = {"n_layer": 12, "n_head": 12, "n_embd": 384, "block_size": 1024, "gradient_accumulation_steps": 32}
    run = Simulated(train=above, val=flat, settings={**large, "dropout": 0.1}, vocab_size=50304)
    path = tmp_path / "next.yaml"
    write_study_of(run.diagnosis(), path, Place(checkpoint=None, log=None, data=data))
    here, on_a_card = load(path, devices_have_cuda=False), load(path, devices_have_cuda=True)
    assert (here.baseline["n_embd"], on_a_card.baseline["n_embd"]) == (64, 384)
    assert {"n_embd", "dropout"} <= set(here.knobs)
    small = Simulated(train=above, val=flat)
    (tmp_path / "small").mkdir()
    assert written(small, tmp_path / "small", data).baseline["n_embd"] == 128
