"""Branches for nanoGPT: the exported pair goes on as the branch did, and says what it needs and rests on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sweeps import cli
from sweeps.analysis.findings import Findings
from sweeps.commands import export as commands_export
from sweeps.engine.origin import known
from sweeps.export.branch import gain
from sweeps.export.checkpoint import write_checkpoint
from sweeps.export.nanogpt_config import ExportError
from sweeps.export.trial import check_options, export_ladder, export_run
from sweeps.paths import StudyPaths
from sweeps.store.records import Run
from tests.helpers.data_folders import random_walk_folder
from tests.helpers.exports import branch_results, comments, nanogpt_configurator, run
from tests.helpers.nanogpt_resume import Batch, Resumed
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset
from trainer.errors import CheckpointError
from trainer.points import Answer, Point
from trainer.run.loop import train
from trainer.run.sampling import batch_starts, window_starts

pytestmark = pytest.mark.usefixtures("one_thread")

ORIGIN = TrainConfig(
    n_layer=2, n_head=2, n_embd=16, block_size=16, dropout=0.1, learning_rate=1e-2, min_lr=1e-3, warmup_iters=3,
    lr_decay_iters=60, max_iters=60, batch_size=4, gradient_accumulation_steps=2, eval_interval=12, eval_windows=8,
    final_windows=40, beta2=0.95, device="cpu",
)  # fmt: skip
CONTROL = ORIGIN.replace(
    learning_rate=9e-3, warmup_iters=0, lr_decay_iters=20, max_iters=20, eval_interval=2, init_from="branch",
    origin="0" * 64,
)  # fmt: skip
STEP = 12
OWN = {
    "out_dir": "out-own", "eval_interval": 5, "eval_iters": 33, "log_interval": 7, "always_save_checkpoint": False,
    "wandb_log": True, "wandb_project": "mine", "wandb_run_name": "gpt2", "backend": "nccl", "device": "cuda:1",
    "dtype": "float16", "compile": False, "dataset": "own", "n_layer": 2, "eval_only": False,
}  # fmt: skip
"""some of what a user's checkpoint holds; wandb_run_name and backend are nanoGPT's defaults"""


@dataclass
class Branched:
    """A branch that has run, and where its study keeps its files."""

    run: Run
    data: Dataset
    points: list[Point]
    losses: list[float]
    paths: StudyPaths
    findings: Findings

    def export(self, folder: Path, **options: Any) -> dict[str, Any]:
        """Write the pair, and return nanoGPT's settings after its config."""
        config = export_run(self.findings, self.run, date="d", checkpoint=folder, **options)
        options.pop("iters", None)
        write_checkpoint(
            self.findings.study, self.run, self.paths, config, folder, trained=options.get("trained", False)
        )
        return nanogpt_configurator(config.text)


def branched(folder: Path, **changes: Any) -> Branched:
    """Train an origin for STEP iterations, then a branch of 20 with `changes`."""
    data, paths = random_walk_folder(folder / "data"), StudyPaths(folder / "study")
    train(ORIGIN, data, lambda point: Answer.PAUSE if point.step == STEP else Answer.GO, out=paths.origin.parent)
    sha256 = hashlib.sha256(paths.origin.read_bytes()).hexdigest()
    config = CONTROL.replace(origin=sha256, vocab_size=32, **changes)
    points: list[Point] = []
    losses: list[float] = []

    def report(point: Point) -> Answer:
        points.append(point)
        return Answer.GO

    result = train(
        config, data, report, out=paths.run(7), origin=paths.origin, on_iter=lambda _, loss: losses.append(loss)
    )
    done = run(7, config=config, seed=config.seed, val_loss=result.val_loss, points=tuple(points), device="cpu")
    found = Findings(branch_results(done, folder=str(data.path), checkpoint=paths.origin, sha256=sha256))
    return Branched(done, data, points, losses, paths, found)


def batches_of(config: TrainConfig, data: Dataset, step: int) -> list[Batch]:
    """Return an iteration's micro-batches by the rule: starts from (seed, step), in order."""
    tokens = data.tokens("train")
    starts = batch_starts(config.seed, step, n_starts=len(tokens) - config.block_size, size=config.sequences_per_iter)
    return read(tokens, starts, config)


def read(tokens: Any, starts: Any, config: TrainConfig) -> list[Batch]:
    rows = torch.from_numpy(np.stack([tokens[s : s + config.block_size + 1] for s in starts]).astype(np.int64))
    return [(part[:, :-1], part[:, 1:]) for part in rows.split(config.batch_size)]


SETTINGS = {
    "weight_decay": 3.0,
    "beta1": 0.8,
    "beta2": 0.99,
    "learning_rate": 2e-2,
    "warmup_iters": 4,
    "grad_clip": 0.5,
}
CHANGES = {
    "settings": {**SETTINGS, "dropout": 0.0},
    "batch": {"batch_size": 8, "gradient_accumulation_steps": 1, "seed": 5, "dropout": 0.0},
    "no clipping": {"grad_clip": 0.0, "dropout": 0.0},
    "deeper": {"n_layer": 3, "dropout": 0.0},
    "wider": {"n_embd": 32, "n_head": 4, "weight_decay": 1.0, "dropout": 0.0},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_nanogpt_goes_on_as_the_branch_did(tmp_path: Path, changes: dict[str, Any]) -> None:
    branch = branched(tmp_path, **changes)
    settings, config = branch.export(tmp_path / "out"), branch.run.config
    resumed = Resumed(settings)
    assert (resumed.iter_num, resumed.best_val_loss, settings["max_iters"]) == (0, 1e9, 20)

    tokens = branch.data.tokens("val")
    windows = read(tokens, window_starts(len(tokens), block_size=16, count=8), config)
    assert resumed.loss_on(windows) == pytest.approx(branch.points[0].val_loss, abs=1e-5)

    steps = range(0, 20, 2)
    assert [resumed.rate(step) for step in steps] == pytest.approx([p.lr for p in branch.points[:10]], rel=1e-12)
    assert [point.step for point in branch.points[:10]] == list(steps)

    matrices, vectors = resumed.optimizer.param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (config.weight_decay, 0.0)
    assert matrices["betas"] == vectors["betas"] == (config.beta1, config.beta2)

    losses = resumed.updates([batches_of(config, branch.data, step) for step in range(10)])
    assert losses == pytest.approx(branch.losses[:10], abs=1e-4)
    later = resumed.updates([batches_of(config, branch.data, step) for step in range(10, 20)])
    assert later == pytest.approx(branch.losses[10:], abs=1e-4)


def test_the_branchs_dropout_is_nanogpts(tmp_path: Path) -> None:
    assert Resumed(branched(tmp_path, dropout=0.25).export(tmp_path / "out")).model.dropout == 0.25


def test_the_checkpoint_is_plain(tmp_path: Path) -> None:
    branch = branched(tmp_path, n_layer=3)
    settings = branch.export(tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["ckpt.pt"]
    form = torch.load(tmp_path / "out" / "ckpt.pt", weights_only=True)
    assert sorted(form) == ["best_val_loss", "config", "iter_num", "model", "model_args", "optimizer"]
    assert type(form["iter_num"]) is int
    assert form["best_val_loss"].shape == ()
    assert form["model_args"]["n_layer"] == 3
    assert form["config"] == settings
    assert all(tensor.dtype is torch.float32 for tensor in form["model"].values())


def test_the_checkpoint_holds_what_the_config_says(tmp_path: Path) -> None:
    """Of the branch's changes, the config may take over some only."""
    branch = branched(tmp_path, weight_decay=3.0, beta2=0.99)
    config = export_run(branch.findings, branch.run, date="d", checkpoint=tmp_path / "out")
    fewer = dataclasses.replace(config, settings={**config.settings, "weight_decay": 0.1})
    write_checkpoint(branch.findings.study, branch.run, branch.paths, fewer, tmp_path / "out", trained=False)
    resumed = Resumed(dict(nanogpt_configurator(config.text)))
    assert resumed.optimizer.param_groups[0]["weight_decay"] == 0.1
    assert resumed.optimizer.param_groups[0]["betas"] == (0.9, 0.99)


def test_the_end_of_the_branch(tmp_path: Path) -> None:
    branch = branched(tmp_path, dropout=0.0)
    settings = branch.export(tmp_path / "out", trained=True)
    resumed = Resumed(settings)
    assert (resumed.iter_num, settings["max_iters"]) == (20, 20)
    tokens = branch.data.tokens("val")
    windows = read(tokens, window_starts(len(tokens), block_size=16, count=40), branch.run.config)
    assert resumed.loss_on(windows) == pytest.approx(branch.run.val_loss, abs=1e-5)
    longer = branch.export(tmp_path / "longer", trained=True, iters=100)
    assert (Resumed(longer).iter_num, longer["max_iters"], longer["lr_decay_iters"]) == (20, 100, 100)
    with pytest.raises(ExportError, match="--iters 20: the branch has done 20 iterations"):
        branch.export(tmp_path / "shorter", trained=True, iters=20)


def test_a_longer_branch_keeps_the_shape_of_its_schedule(tmp_path: Path) -> None:
    branch = branched(tmp_path, warmup_iters=4)
    settings = branch.export(tmp_path / "out", iters=100)
    wanted = {"max_iters": 100, "warmup_iters": 20, "lr_decay_iters": 100, "learning_rate": 9e-3, "min_lr": 1e-3}
    assert {key: settings[key] for key in wanted} == wanted
    assert Resumed(settings).iter_num == 0
    notes = export_run(branch.findings, branch.run, date="d", iters=100).notes
    assert sum("The branch ran for 20 iterations" in note for note in notes) == 1
    assert not any("ladder" in note for note in notes)


def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    branch = branched(tmp_path)
    branch.paths.origin.write_bytes(branch.paths.checkpoint(7).read_bytes())
    with pytest.raises(CheckpointError, match="is not the checkpoint that the run goes on from"):
        branch.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_is_not_written_over_another(tmp_path: Path) -> None:
    branch = branched(tmp_path)
    branch.export(tmp_path / "out")
    before = (tmp_path / "out" / "ckpt.pt").read_bytes()
    with pytest.raises(ExportError, match="already exists; choose another folder with --checkpoint"):
        branch.export(tmp_path / "out")
    assert (tmp_path / "out" / "ckpt.pt").read_bytes() == before


def test_the_study_keeps_the_users_own_config(tmp_path: Path) -> None:
    """As nanoGPT left it in the checkpoint, before anything else is known of the origin."""
    branch = branched(tmp_path)
    form = torch.load(branch.paths.origin, weights_only=True)
    form["config"] |= {"wandb_log": True, "out_dir": "out-own", "eval_interval": 4}
    torch.save(form, tmp_path / "ckpt.pt")
    results = branch_results(checkpoint=tmp_path / "ckpt.pt")
    unknown = dataclasses.replace(results, study=results.study.model_copy(update={"origin": None}))
    study = known(unknown, StudyPaths(tmp_path / "new"), data=dataclasses.replace(results.data, vocab_size=32))
    assert study is not None
    found = dataclasses.replace(results, study=type(study).model_validate(study.model_dump()))
    config = export_run(Findings(found), run(7, config=CONTROL), date="d").settings
    assert (config["wandb_log"], config["eval_interval"], config["out_dir"]) == (True, 4, "out-own-plateau-7")


def test_the_command_writes_the_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    branch = branched(tmp_path)
    located = SimpleNamespace(paths=branch.paths)
    monkeypatch.setattr(commands_export, "findings_of", lambda *_: (located, branch.findings))
    pair = ["--checkpoint", str(tmp_path / "out"), "-o", str(tmp_path / "branch.py")]
    said = CliRunner().invoke(cli.app, ["export", "plateau", "--trial", "7", *pair])
    assert said.exit_code == 0
    assert f"{tmp_path / 'out' / 'ckpt.pt'}: nanoGPT resumes from it with this config" in said.stderr
    assert Resumed(nanogpt_configurator((tmp_path / "branch.py").read_text())).iter_num == 0
    again = ["--checkpoint", str(tmp_path / "end"), "--trained", "--json"]
    ended = json.loads(CliRunner().invoke(cli.app, ["export", "plateau", "--trial", "7", *again]).stdout)
    assert (ended["trial"], ended["race"]) == (7, None)
    assert Resumed(nanogpt_configurator(ended["text"])).iter_num == 20


def test_a_moved_studys_origin_is_found(tmp_path: Path) -> None:
    branch = branched(tmp_path)
    (tmp_path / "study").rename(tmp_path / "moved")
    branch.paths = StudyPaths(tmp_path / "moved")
    assert Resumed(branch.export(tmp_path / "out")).iter_num == 0


class TestTheConfig:
    """What stands in it, without any training."""

    def test_it_says_what_it_needs(self) -> None:
        branch = run(7, config=CONTROL)
        exported = export_run(Findings(branch_results(branch)), branch, date="d")
        needed = "sweep export plateau --trial 7 --checkpoint out-plateau-7 -o FILE"
        assert sum(needed in note for note in exported.notes) == 1
        assert needed in comments(exported.text)
        assert (exported.settings["init_from"], exported.settings["out_dir"]) == ("resume", "out-plateau-7")
        folder = Path("/elsewhere")
        written = export_run(Findings(branch_results(branch)), branch, date="d", checkpoint=folder)
        assert written.settings["out_dir"] == "/elsewhere"
        assert not any("--checkpoint" in note for note in written.notes)

    def test_the_users_own_settings_are_kept(self) -> None:
        branch = run(7, config=CONTROL.replace(batch_size=8))
        exported = export_run(Findings(branch_results(branch, own=OWN)), branch, date="d").settings
        kept = ("eval_interval", "eval_iters", "log_interval", "always_save_checkpoint", "device", "dtype", "compile")
        logged = ("wandb_log", "wandb_project")
        assert {key: exported[key] for key in (*kept, *logged)} == {key: OWN[key] for key in (*kept, *logged)}
        assert not exported.keys() & {"wandb_run_name", "backend", "eval_only"}
        assert exported["out_dir"] == "out-own-plateau-7"  # out-own holds the user's own ckpt.pt
        assert (exported["batch_size"], exported["dataset"]) == (8, "own")
        assert nanogpt_configurator(export_run(Findings(branch_results(branch, own=OWN)), branch, date="d").text)

    def test_an_interval_that_misses_the_end_is_not_kept(self) -> None:
        branch = run(7, config=CONTROL)
        exported = export_run(Findings(branch_results(branch, own={**OWN, "eval_interval": 250})), branch, date="d")
        assert exported.settings["eval_interval"] == 2
        assert sum("eval_interval is 2 instead of your 250" in note for note in exported.notes) == 1

    @pytest.mark.parametrize("changes", [{"label_smoothing": 0.1}, {"data_fraction": 0.5}])
    def test_what_nanogpt_cannot_express_is_said(self, changes: dict[str, float]) -> None:
        branch = run(7, config=CONTROL.replace(**changes))
        notes = export_run(Findings(branch_results(branch)), branch, date="d").notes
        (name,) = changes
        assert sum(f"{name}=" in note for note in notes) == 1

    def test_the_vocabulary_is_the_checkpoints(self) -> None:
        branch = run(7, config=CONTROL.replace(vocab_size=257))
        assert not any(
            "meta.pkl" in note for note in export_run(Findings(branch_results(branch)), branch, date="d").notes
        )

    def test_the_evidence_is_against_the_control(self) -> None:
        config = CONTROL.replace(weight_decay=1.0)
        runs = [
            run(number, config=each.replace(seed=seed), seed=seed, val_loss=loss, origin=origin, phase=origin)
            for number, (each, origin, seed, loss) in enumerate(
                [(CONTROL, "baseline", 1337 + i, 3.5 + i / 100) for i in range(3)]
                + [(config, "candidate", 1337 + i, 3.4 + i / 50) for i in range(2)]
            )
        ]
        found = Findings(branch_results(*runs))
        effect = gain(found, runs[3])
        assert effect is not None
        assert effect.differences == pytest.approx({1337: 0.1, 1338: 0.09})
        # mean 0.095 and standard error 0.005; Student's t with one degree of freedom: 12.706
        assert (effect.low, effect.high) == pytest.approx((0.095 - 12.7062 * 0.005, 0.095 + 12.7062 * 0.005), abs=1e-5)
        text = comments(export_run(found, runs[3], date="d").text)
        for fact in (
            "origin: /origin/ckpt.pt (sha256 aaaaaaaaaaaa), iteration 4000, learning rate 3e-4, 3.6000 nats per token "
            "on the branches' windows; its curve: a plateau since iteration 2500",
            "the origin going on under its own schedule: falls by 0.0200 nats",
            "gain over the control, the branch with nothing changed: +0.09 nats (95 % interval +0.03 to +0.16, 2 "
            "paired seeds); seeds 1337 and 1338",
            "control: 3.5100 +- 0.0100 nats per token (mean and standard deviation over 3 seeds)",
        ):
            assert fact in text, fact
        assert gain(found, runs[0]) is None

    def test_a_branch_has_no_ladder(self, tmp_path: Path) -> None:
        branch = run(7, config=CONTROL)
        with pytest.raises(ExportError, match="trial 7 goes on from a checkpoint, and a ladder trains from scratch"):
            export_ladder(Findings(branch_results(branch)), branch, tmp_path / "ladder", date="d")
        assert not (tmp_path / "ladder").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trained": True}, "name its folder with --checkpoint"),
        ({"race": "n_embd=64", "trial": 0}, "leave --trial out"),
        ({"race": "n_embd=64", "checkpoint": Path("x")}, "leave --checkpoint out"),
        ({"race": "n_embd=64", "ladder": Path("x")}, "leave --ladder out"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], words: str) -> None:
    none: dict[str, Any] = {"race": None, "trial": None, "checkpoint": None, "ladder": None, "trained": False}
    with pytest.raises(ExportError, match=words):
        check_options(**{**none, **options})
    check_options(**none)
