"""A study around a checkpoint: its settings become the baseline, its data set the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweeps.errors import SpecError
from sweeps.study.authoring import write_study
from sweeps.study.load import load
from sweeps.study.start import CheckpointStart
from sweeps.study.study import Study
from tests.helpers.study_files import write
from trainer.config import TrainConfig
from trainer.errors import CheckpointError
from trainer.model.gpt import GPT
from trainer.model.optim import make_optimizer
from trainer.run import checkpoint
from trainer.schedule import lr_at

RESUME = Path(__file__).parents[3] / "studies" / "resume.yaml"
TEXT = """\
name: mine
horizon: {iters: 100}
knobs:
  dropout: {low: 0, high: 0.3}
  learning_rate: {low: 1e-4, high: 1e-2, log: true}
"""


def nanogpt_folder(folder: Path, *, iter_num: int = 500, **settings: Any) -> Path:
    """Write what nanoGPT leaves: out/ckpt.pt, and data/tiny with 100 training tokens. Returns the checkpoint."""
    known = {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 8, "max_iters": 2000, "lr_decay_iters": 2000}
    config = TrainConfig(**{**known, "warmup_iters": 10, "dropout": 0.2, "vocab_size": 50304, **settings})
    model = GPT(config)
    optimizer = make_optimizer(model, config)
    model(torch.zeros((1, 8), dtype=torch.long), torch.zeros((1, 8), dtype=torch.long)).backward()
    optimizer.step()
    form = checkpoint.nanogpt_form(
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        config=config,
        dataset=Path("tiny"),
        out=Path("out"),
        iter_num=iter_num,
        best_val_loss=3.5,
    )
    path = folder / "out" / "ckpt.pt"
    path.parent.mkdir()
    checkpoint.write(form, path)
    data = folder / "data" / "tiny"
    data.mkdir(parents=True)
    for split in ("train", "val"):
        np.arange(100, dtype=np.uint16).tofile(data / f"{split}.bin")
    return path


def loaded(folder: Path, text: str = TEXT, **options: Any) -> Study:
    return load(write(folder, text), devices_have_cuda=False, **options)


def test_one_command_takes_settings_and_data_from_the_checkpoint(tmp_path: Path) -> None:
    path = nanogpt_folder(tmp_path)
    study = loaded(tmp_path, start=str(path), log="train.log")
    assert study.start == CheckpointStart(checkpoint=str(path), log="train.log")
    assert (study.baseline["n_embd"], study.baseline["head_size"], study.baseline["dropout"]) == (8, 4, 0.2)
    assert study.baseline["max_iters"] == 2000
    assert study.data.model_dump() == {"bin": str(tmp_path / "data" / "tiny")}
    assert any(note.startswith("data: ") for note in study.notes)


def test_a_folder_names_the_checkpoint_in_it(tmp_path: Path) -> None:
    path = nanogpt_folder(tmp_path)
    assert loaded(tmp_path, start=str(path.parent)).baseline["n_embd"] == 8


def test_the_shipped_study_needs_only_a_checkpoint(tmp_path: Path) -> None:
    study = load(RESUME, start=str(nanogpt_folder(tmp_path)), devices_have_cuda=False)
    assert study.branches
    assert study.knobs["dropout"].contains(0.2)


@pytest.mark.parametrize(("size", "sizes"), [(12, (6, 12, 24)), (8, (4, 8, 16)), (5, (2, 5, 10)), (1, (1, 2))])
def test_batch_sizes_lie_on_both_sides_of_the_checkpoints(tmp_path: Path, size: int, sizes: tuple[int, ...]) -> None:
    """Loading checks that each of them can see equal tokens in whole iterations."""
    path = nanogpt_folder(tmp_path, batch_size=size)
    for study in (
        load(RESUME, start=str(path), devices_have_cuda=False),
        load(write_study("mine", tmp_path, checkpoint=str(path)), devices_have_cuda=False),
    ):
        assert study.knobs["batch_size"].words() == "one of " + ", ".join(map(str, sizes))


def test_the_file_may_name_it_and_correct_its_settings(tmp_path: Path) -> None:
    path = nanogpt_folder(tmp_path)
    text = f"{TEXT}start: {{checkpoint: {path}}}\nbaseline: {{dropout: 0.1}}\n"
    study = loaded(tmp_path, text)
    assert (study.baseline["dropout"], study.baseline["n_embd"]) == (0.1, 8)
    assert "baseline.dropout: 0.1 instead of the checkpoint's 0.2" in study.notes


def test_another_shape_is_refused_with_a_race(tmp_path: Path) -> None:
    path = nanogpt_folder(tmp_path)
    text = f"{TEXT}start: {{checkpoint: {path}}}\nbaseline: {{n_embd: 16}}\n"
    with pytest.raises(SpecError, match=r"baseline\.n_embd: 16 is not the checkpoint's 8; drop it, and race other"):
        loaded(tmp_path, text)


def test_data_that_are_nowhere_are_asked_for(tmp_path: Path) -> None:
    path = nanogpt_folder(tmp_path)
    (tmp_path / "data" / "tiny" / "train.bin").unlink()
    with pytest.raises(SpecError, match=r"the data set 'tiny' of .* isn't there \(tried: .*\); name it with --data"):
        loaded(tmp_path, start=str(path))


def test_the_commands_data_win(tmp_path: Path) -> None:
    path = nanogpt_folder(tmp_path)
    other = tmp_path / "other"
    (tmp_path / "data" / "tiny").rename(other)
    assert loaded(tmp_path, start=str(path), data=str(other)).data.model_dump() == {"bin": str(other)}


def test_a_checkpoint_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        loaded(tmp_path, start=str(tmp_path / "ckpt.pt"))


def test_init_writes_a_study_around_a_checkpoint(tmp_path: Path) -> None:
    path = nanogpt_folder(tmp_path)
    written = write_study("mine", tmp_path, checkpoint=str(path), log="my train.log")
    study = load(written, devices_have_cuda=False)
    assert study.start == CheckpointStart(checkpoint=str(path), log="my train.log")
    rate = lr_at(500, TrainConfig(max_iters=2000, lr_decay_iters=2000, warmup_iters=10))
    low, high = study.knobs["learning_rate"].ends().values()
    assert (low, high) == (pytest.approx(rate / 5, rel=0.05), pytest.approx(rate * 5, rel=0.05))
    text = written.read_text(encoding="utf-8")
    assert "# race: {iters: 166, n_embd: [16], n_layer: [2]}" in text
    words = " ".join(text.replace("\n#", " ").split())
    assert "iteration 500, 1 layer, width 8, context 8, best validation loss 3.5000." in words


def test_a_log_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--log: belongs to a checkpoint; name it with --from"):
        loaded(tmp_path, TEXT, log="train.log")


def test_a_rate_that_is_pinned_at_min_lr_is_said(tmp_path: Path) -> None:
    path = nanogpt_folder(tmp_path, iter_num=2500, max_iters=3000)
    study = loaded(tmp_path, start=str(path))
    assert any("min_lr" in note for note in study.notes)


def test_a_config_beside_a_checkpoint_hides_no_mistake(tmp_path: Path) -> None:
    path = nanogpt_folder(tmp_path)
    mine = tmp_path / "mine.py"
    mine.write_text("dropuot = 0.3\nweight_decay = f()\nlearning_rate = 2e-3\n")
    with pytest.raises(SpecError) as caught:
        loaded(tmp_path, start=str(path), baseline=mine)
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [f"{mine}:1", f"{mine}:2"]
    mine.write_text("learning_rate = 2e-3\n")
    study = loaded(tmp_path, start=str(path), baseline=mine)
    assert (study.baseline["learning_rate"], study.baseline["n_embd"]) == (2e-3, 8)
    assert study.own is not None
    assert study.data.model_dump() == {"bin": str(tmp_path / "data" / "tiny")}  # the checkpoint's
