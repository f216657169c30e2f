"""Origins: the facts in a nanoGPT checkpoint, what is noted about them, and files that are none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.data_folders import random_walk_folder
from trainer import nanogpt
from trainer.config import TrainConfig
from trainer.errors import CheckpointError
from trainer.points import Answer
from trainer.run.loop import train
from trainer.run.origin import read_origin

CONFIG = TrainConfig(
    n_layer=1, n_head=2, n_embd=8, block_size=8, batch_size=2, gradient_accumulation_steps=1, learning_rate=1e-3,
    min_lr=1e-4, warmup_iters=1, max_iters=3, lr_decay_iters=6, eval_interval=3, eval_windows=4, weight_decay=0.2,
    device="cpu",
)  # fmt: skip

Form = dict[str, Any]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint of three iterations."""
    folder = tmp_path_factory.mktemp("origin")
    train(CONFIG, random_walk_folder(folder / "data"), lambda _: Answer.GO, out=folder)
    return folder


@pytest.fixture
def changed(original: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that writes the checkpoint after a change of its content and returns the file."""

    def write(change: Callable[[Form], object]) -> Path:
        form = torch.load(original / "ckpt.pt", weights_only=True)
        change(form)
        torch.save(form, tmp_path / "ckpt.pt")
        return tmp_path / "ckpt.pt"

    return write


def test_the_facts(original: Path) -> None:
    file = original / "ckpt.pt"
    facts = read_origin(file)
    assert (facts.path, facts.iter_num, facts.vocab_size, facts.notes) == (file, 3, 32, ())
    assert facts.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert list(facts.settings) == list(nanogpt.DEFAULTS)
    settings = {**facts.settings, "device": "cpu"}
    same = {name: value for name, value in settings.items() if name in CONFIG.as_dict()}
    assert TrainConfig(**same) == CONFIG.replace(eval_windows=0)
    assert facts.dataset == str(original / "data")
    form = torch.load(file, weights_only=True)
    assert facts.best_val_loss == pytest.approx(float(form["best_val_loss"]))
    assert read_origin(original) == facts  # a folder stands for its ckpt.pt


def test_the_optimizers_settings_are_in_force(changed: Callable[..., Path]) -> None:
    """nanoGPT resumes with them, whatever the config says, and saves the config as if it were true."""

    def change(form: Form) -> None:
        form["config"].update(weight_decay=0.0, beta2=0.99)

    facts = read_origin(changed(change))
    assert (facts.settings["weight_decay"], facts.settings["beta1"], facts.settings["beta2"]) == (0.2, 0.9, 0.95)
    assert facts.notes == (
        "weight_decay is 0.2, as the checkpoint's optimizer has it; its config says 0.0, which nanoGPT ignores when it "
        "resumes",
        "beta2 is 0.95, as the checkpoint's optimizer has it; its config says 0.99, which nanoGPT ignores when it "
        "resumes",
    )


def test_the_models_shape_is_in_force(changed: Callable[..., Path]) -> None:
    facts = read_origin(changed(lambda form: form["config"].update(n_layer=12)))
    assert facts.settings["n_layer"] == 1
    assert facts.notes[0].startswith("n_layer is 1, as the checkpoint's model has it; its config says 12")


@pytest.mark.parametrize(
    ("iters", "decays", "noted"),
    [(6, True, False), (7, True, True), (7, False, False)],
    ids=["at", "beyond", "constant"],
)
def test_a_rate_that_has_ended_its_decay(changed: Callable[..., Path], iters: int, decays: bool, noted: bool) -> None:
    def change(form: Form) -> None:
        form["iter_num"] = iters
        form["config"]["decay_lr"] = decays

    notes = read_origin(changed(change)).notes
    sentence = (
        "iteration 7 is beyond lr_decay_iters=6: since then the learning rate has been min_lr=0.0001, and that alone "
        "can be the plateau"
    )
    assert notes == ((sentence,) if noted else ())


def without_config(form: Form) -> None:
    del form["config"]


def without_moments(form: Form) -> None:
    form["optimizer"]["state"] = {}


def another_eps(form: Form) -> None:
    form["optimizer"]["param_groups"][0]["eps"] = 1e-6


def of_a_fork(form: Form) -> None:
    form["config"].update(rope=True, z_loss=0.1)


def of_other_types(form: Form) -> None:
    form["config"].update(n_layer=None, max_iters="many", learning_rate=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_config, "the checkpoint holds no config"),
        (without_moments, "the checkpoint holds no moments"),
        (another_eps, "its AdamW has eps=1e-06; here eps is 1e-08"),
        (of_a_fork, "nanoGPT doesn't know, and they are passed over: rope, z_loss"),
        (of_other_types, "another type than nanoGPT's, and they are passed over: n_layer=None, max_iters='many'"),
    ],
)
def test_notes(changed: Callable[..., Path], change: Callable[[Form], object], words: str) -> None:
    facts = read_origin(changed(change))
    assert any(words in note for note in facts.notes)
    assert facts.settings["n_layer"] == 1
    if change is of_other_types:
        assert "max_iters" not in facts.settings
        assert repr(facts.settings["learning_rate"]) == "1.0"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ckpt\.pt: there is no such file; name nanoGPT's ckpt\.pt"):
        read_origin(tmp_path)


def test_damaged_files(original: Path, tmp_path: Path) -> None:
    content = (original / "ckpt.pt").read_bytes()
    for number, part in enumerate((b"", b"hello", content[:1000], content[: len(content) // 2])):
        file = tmp_path / f"{number}.pt"
        file.write_bytes(part)
        with pytest.raises(CheckpointError, match=r"is damaged.*name a complete copy of a ckpt\.pt"):
            read_origin(file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda form: form.pop("optimizer"), "it lacks optimizer"),
        (lambda form: form.update(model=3), "is not a nanoGPT checkpoint"),
        (lambda form: form.update(model_args=None), "is not a nanoGPT checkpoint"),
        (lambda form: form.update(iter_num="last"), "is not a nanoGPT checkpoint"),
        (lambda form: form["model_args"].pop("n_head"), "its model_args lack n_head"),
        (lambda form: form["model_args"].update(n_head=3), "n_embd=8 is not divisible by n_head=3"),
        (lambda form: form["model_args"].update(n_layer=2), r"it lacks transformer\.h\.1\.attn"),
        (lambda form: form["model_args"].update(block_size=9), r"wpe\.weight has the shape \(8, 8\), but .* \(9, 8\)"),
        (lambda form: form["model"].update(rotary=torch.ones(2)), "it also has rotary"),
        (lambda form: form.update(optimizer={"state": {}, "param_groups": []}), "moments don't fit the weights"),
        (lambda form: form["optimizer"].update(state={0: {"exp_avg": torch.ones(3)}}), "moments don't fit the weights"),
        (lambda form: form["optimizer"]["param_groups"].reverse(), "moments don't fit the weights"),
    ],
)
def test_files_that_are_no_nanogpt_checkpoint(
    changed: Callable[..., Path], change: Callable[[Form], object], words: str
) -> None:
    file = changed(change)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_origin(file)
    assert str(caught.value).startswith(f"{file}: ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda form: form.update(iter_num=float("inf")), "cannot convert float infinity"),
        (lambda form: form.update(iter_num=-1), "iter_num=-1 is no number of iterations"),
        (lambda form: form.update(iter_num=None), "is not a nanoGPT checkpoint"),
        (lambda form: form.update(best_val_loss=torch.zeros(2)), "is not a nanoGPT checkpoint"),
        (lambda form: form.update(best_val_loss=10**400), "is not a nanoGPT checkpoint"),
        (lambda form: form.update(model=[1]), "is not a nanoGPT checkpoint"),
        (lambda form: form["model"].update({7: torch.zeros(1)}), "is not a nanoGPT checkpoint"),
        (lambda form: form["model"].update({"transformer.wte.weight": 3}), "is not a nanoGPT checkpoint"),
        (lambda form: form.update(config={7: 1}), "its config has the key 7, which is not text"),
        (lambda form: form.update(config="text"), "is not a nanoGPT checkpoint"),
        (lambda form: form["config"].update(learning_rate=10**400), "is not a nanoGPT checkpoint"),
        (lambda form: form["optimizer"]["param_groups"][0].update(betas=3), "is not a nanoGPT checkpoint"),
        (lambda form: form["optimizer"]["param_groups"][0].update(weight_decay="x"), "is not a nanoGPT checkpoint"),
        (lambda form: form["optimizer"]["param_groups"][0].update(eps="x"), "is not a nanoGPT checkpoint"),
        (lambda form: form["optimizer"].update(state=[]), "moments don't fit"),
        (lambda form: form["model_args"].update(n_layer=10**400), "n_layer"),
        (lambda form: form["model_args"].update(vocab_size="many"), "vocab_size='many' is text"),
    ],
)
def test_an_odd_value_in_a_checkpoint_is_named(
    changed: Callable[..., Path], change: Callable[[Form], object], words: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"ckpt\.pt: .*{words}"):
        read_origin(changed(change))


def test_a_setting_of_odd_letters_is_shown_on_one_line(changed: Callable[..., Path]) -> None:
    """Notes are printed, and stand in comments of configs that nanoGPT executes."""
    file = changed(lambda form: form["config"].update({"a\nb\x1b[2J": 1}))
    (note,) = [note for note in read_origin(file).notes if "doesn't know" in note]
    assert r"'a\nb\x1b[2J'" in note
    assert note.isprintable()
