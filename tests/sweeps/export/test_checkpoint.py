"""Checkpoints for nanoGPT: resuming as nanoGPT does, and refusals to write."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sweeps.export.checkpoint import export_end
from sweeps.export.nanogpt_config import ExportError
from tests.helpers.exports import as_config, config, data
from trainer import nanogpt
from trainer.config import TrainConfig
from trainer.errors import CheckpointError


def nanogpt_model(config: TrainConfig) -> torch.nn.Module:
    from trainer.model.gpt import GPT

    return GPT(config)


@pytest.fixture
def trained(tmp_path):
    """Return a run's folder with a checkpoint after two updates, its config and its model."""
    from trainer.model.optim import make_optimizer
    from trainer.run import checkpoint

    mine = config(vocab_size=11)
    torch.manual_seed(0)
    model = nanogpt_model(mine)
    optimizer = make_optimizer(model, mine)
    tokens = torch.arange(9).repeat(2, 1)
    for _ in range(2):
        model(tokens[:, :8], tokens[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path / "run"
    checkpoint.save(
        folder,
        model={f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()},
        optimizer=optimizer.state_dict(),
        config=mine,
        dataset=Path("/elsewhere"),
        iter_num=2,
        best_val_loss=1.5,
        state={},
    )
    return folder, mine, model


def test_nanogpt_resumes_from_the_checkpoint(trained, tmp_path):
    source, mine, model = trained
    exported = as_config(mine, data=data(vocab_size=11), iters=1200)
    path = export_end(source, exported, tmp_path / "out")
    assert path == tmp_path / "out" / "ckpt.pt"
    assert [file.name for file in path.parent.iterdir()] == ["ckpt.pt"]

    form = torch.load(path, map_location="cpu", weights_only=True)
    assert sorted(form) == ["best_val_loss", "config", "iter_num", "model", "model_args", "optimizer"]
    assert form["iter_num"] == 2
    assert type(form["iter_num"]) is int
    assert form["best_val_loss"].shape == ()
    assert float(form["best_val_loss"]) == 1.5
    assert form["model_args"] == {
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 16,
        "block_size": 8,
        "bias": False,
        "vocab_size": 11,
        "dropout": 0.0,
    }
    assert form["config"] == {**nanogpt.DEFAULTS, **exported.settings, "out_dir": str(tmp_path / "out")}

    # as nanoGPT does on init_from='resume': model from model_args, then weights and optimizer
    again = nanogpt_model(TrainConfig(**form["model_args"]))
    again.load_state_dict(form["model"])
    for name, tensor in model.state_dict().items():
        assert torch.equal(form["model"][name], tensor)
        assert form["model"][name].dtype is torch.float32
    groups = [[p for p in again.parameters() if p.dim() >= 2], [p for p in again.parameters() if p.dim() < 2]]
    optimizer = torch.optim.AdamW([{"params": group} for group in groups], lr=1e-3)
    optimizer.load_state_dict(form["optimizer"])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert all(int(state["step"]) == 2 for state in optimizer.state.values())


def test_a_checkpoint_is_not_written_over_another(trained, tmp_path):
    source, mine, _ = trained
    exported = as_config(mine, data=data(vocab_size=11))
    path = export_end(source, exported, tmp_path / "out")
    before = path.read_bytes()
    with pytest.raises(ExportError, match=r"ckpt\.pt: already exists; choose another folder with --checkpoint"):
        export_end(source, exported, tmp_path / "out")
    with pytest.raises(ExportError, match="already exists"):
        export_end(source, exported, source)
    assert path.read_bytes() == before


def test_a_run_whose_checkpoint_is_gone(tmp_path):
    exported = as_config(config(), data=data())
    with pytest.raises(
        CheckpointError, match=r"holds no checkpoint .*those of the best trial and of the baseline are kept"
    ):
        export_end(tmp_path, exported, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_hold_the_checkpoint(trained, tmp_path):
    source, mine, _ = trained
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        export_end(source, as_config(mine, data=data(vocab_size=11)), tmp_path / "file" / "out")
