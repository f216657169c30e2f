"""Checkpoints: nanoGPT's exact form, refusal of untrusted content, and complete files at any moment."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer import nanogpt
from trainer.config import TrainConfig
from trainer.errors import CheckpointError
from trainer.model.gpt import GPT
from trainer.model.optim import make_optimizer
from trainer.run import checkpoint

CONFIG = TrainConfig(n_layer=1, n_head=2, n_embd=8, block_size=4, vocab_size=11, device="cpu")

RECORDED_KEYS = {  # from a ckpt.pt that nanoGPT 3adf61e wrote
    "": ["model", "optimizer", "model_args", "iter_num", "best_val_loss", "config"],
    "model_args": ["n_layer", "n_head", "n_embd", "block_size", "bias", "vocab_size", "dropout"],
    "optimizer": ["state", "param_groups"],
}


def save(folder: Path, iter_num: int, state: dict[str, Any] | None = None, *, before: int | None = None) -> GPT:
    torch.manual_seed(iter_num)
    model = GPT(CONFIG)
    optimizer = make_optimizer(model, CONFIG)
    model(torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.long)).backward()
    optimizer.step()
    checkpoint.save(
        folder,
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        config=CONFIG,
        dataset=folder,
        iter_num=iter_num,
        best_val_loss=2.5,
        state=state or {"here": iter_num},
        before=before,
    )
    return model


def test_a_checkpoint_has_nanogpts_form(tmp_path: Path) -> None:
    save(tmp_path, 7)
    form = torch.load(tmp_path / "ckpt.pt", weights_only=True)
    assert list(form) == RECORDED_KEYS[""]
    assert list(form["model_args"]) == RECORDED_KEYS["model_args"]
    assert list(form["optimizer"]) == RECORDED_KEYS["optimizer"]
    assert list(form["config"]) == list(nanogpt.DEFAULTS)
    assert {key: type(value) for key, value in form["config"].items()} == {
        key: type(value) for key, value in nanogpt.DEFAULTS.items()
    }
    assert form["iter_num"] == 7
    assert type(form["iter_num"]) is int
    assert form["best_val_loss"].shape == ()
    assert list(form["model"])[:2] == ["transformer.wte.weight", "transformer.wpe.weight"]
    assert list(form["model"])[-1] == "lm_head.weight"
    assert all(tensor.dtype == torch.float32 for tensor in form["model"].values())


def test_a_saved_checkpoint_is_loaded(tmp_path: Path) -> None:
    model = save(tmp_path, 3)
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert (loaded.iter_num, loaded.best_val_loss, loaded.state) == (3, 2.5, {"here": 3})
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model[name], tensor)


def test_the_compiled_models_prefix_is_removed(tmp_path: Path) -> None:
    model = save(tmp_path, 3)
    form = torch.load(tmp_path / "ckpt.pt", weights_only=True)
    form["model"] = {f"_orig_mod.{name}": tensor for name, tensor in form["model"].items()}
    torch.save(form, tmp_path / "ckpt.pt")
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert list(loaded.model) == list(model.state_dict())


def masked(form: dict[str, Any]) -> None:
    form["model"]["transformer.h.0.attn.bias"] = torch.tril(torch.ones(4, 4)).view(1, 1, 4, 4)
    form["model"]["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)


def before_the_bias_key(form: dict[str, Any]) -> None:
    del form["model_args"]["bias"]


def prefixed(prefix: str) -> Callable[[dict[str, Any]], None]:
    def dress(form: dict[str, Any]) -> None:
        form["model"] = {f"{prefix}{name}": tensor for name, tensor in form["model"].items()}

    return dress


def inside(wrapper: str) -> Callable[[dict[str, Any]], None]:
    """Wrap every block, as torch.compile and FSDP may."""

    def dress(form: dict[str, Any]) -> None:
        form["model"] = {
            name.replace("transformer.h.0.", f"transformer.h.0.{wrapper}."): tensor
            for name, tensor in form["model"].items()
        }

    return dress


def without_the_tied_copy(form: dict[str, Any]) -> None:
    del form["model"]["lm_head.weight"]


def all_at_once(form: dict[str, Any]) -> None:
    for dress in (masked, before_the_bias_key, inside("_orig_mod"), prefixed("module.model.")):
        dress(form)


DRESSES = [
    masked,
    before_the_bias_key,
    without_the_tied_copy,
    all_at_once,
    *map(inside, ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module._orig_mod")),
]
PREFIXES = ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.", "module.module.", "model.", "net.model.",
            "model._orig_mod.", "_forward_module.model."]  # fmt: skip


@pytest.mark.parametrize("dress", [*DRESSES, *map(prefixed, PREFIXES)])
def test_older_and_wrapped_checkpoints(tmp_path: Path, dress: Callable[[dict[str, Any]], None]) -> None:
    """Old versions of nanoGPT keep the attention mask as a buffer, and have no key `bias`."""
    model = save(tmp_path, 3)
    form = torch.load(tmp_path / "ckpt.pt", weights_only=True)
    dress(form)
    torch.save(form, tmp_path / "ckpt.pt")
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert loaded.model_args["bias"] is False
    assert list(loaded.model) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model[name], tensor)


def test_a_real_model_in_its_wrappers(tmp_path: Path) -> None:
    """A wrapper of torch's, and a class that holds the model, give the names themselves."""
    model = save(tmp_path, 3)
    holder = torch.nn.Module()
    holder.gpt = torch.nn.DataParallel(model)
    form = torch.load(tmp_path / "ckpt.pt", weights_only=True)
    form["model"] = holder.state_dict()
    assert "gpt.module.transformer.wte.weight" in form["model"]
    torch.save(form, tmp_path / "ckpt.pt")
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert list(loaded.model) == list(model.state_dict())


def two_models(form: dict[str, Any]) -> None:
    weights = form["model"]
    form["model"] = {f"{holder}.{name}": weights[name] for holder in ("model", "ema") for name in weights}


def untied(form: dict[str, Any]) -> None:
    form["model"]["lm_head.weight"] = form["model"]["lm_head.weight"] + 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (two_models, "holds two models: model.transformer.wte.weight and ema.transformer.wte.weight"),
        (untied, "lm_head.weight differs from transformer.wte.weight"),
        (lambda form: form.pop("optimizer"), "it lacks optimizer$"),
        (lambda form: form["config"].update(learning_rate=np.float64(1e-3)), "such as numpy"),
        (lambda form: form.update(config=argparse.Namespace(n_layer=1)), "such as argparse.Namespace"),
    ],
)
def test_a_dress_that_hides_another_model_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    save(tmp_path, 3)
    form = torch.load(tmp_path / "ckpt.pt", weights_only=True)
    change(form)
    torch.save(form, tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError, match=words) as caught:
        checkpoint.load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/ckpt.pt: ")


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"transformer.wte.weight": torch.ones(2, 2)}, "it holds weights only, as torch.save"),
        ({"state_dict": {}, "global_step": 3, "optimizer_states": []}, "PyTorch Lightning's keys"),
        ([1, 2], "it lacks model, .*; it holds a list"),
    ],
)
def test_another_programs_file_is_named(tmp_path: Path, form: object, words: str) -> None:
    torch.save(form, tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load(tmp_path)


def test_an_lfs_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "ckpt.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(CheckpointError, match="is a Git LFS pointer"):
        checkpoint.load(tmp_path)


def test_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None
    assert checkpoint.load(tmp_path / "nowhere") is None


def test_a_checkpoint_that_nanogpt_wrote_has_no_state(tmp_path: Path) -> None:
    save(tmp_path, 3)
    (tmp_path / "state-3.pt").unlink()
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert loaded.state is None


class _Payload:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("open('pwned', 'w')",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is damaged"),
        (b"not a checkpoint", "is damaged"),
        (pickle.dumps(_Payload(), protocol=2), "is damaged, or holds more than tensors and plain Python"),
    ],
)
def test_a_file_that_is_not_a_checkpoint(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "ckpt.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load(tmp_path)
    assert not Path("pwned").exists()


def test_a_pickle_inside_a_real_archive_is_not_executed(tmp_path: Path) -> None:
    torch.save({"model": _Payload()}, tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError, match="weights_only=True"):
        checkpoint.load(tmp_path)
    assert not Path("pwned").exists()


def test_missing_keys_of_another_programs_file_are_named(tmp_path: Path) -> None:
    torch.save({"model": {}, "step": 3}, tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError, match="it lacks optimizer, model_args, iter_num, best_val_loss"):
        checkpoint.load(tmp_path)


def test_killed_between_the_two_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new state exists, but the checkpoint still names the old state, which is complete."""
    save(tmp_path, 1)
    written: list[str] = []
    real = checkpoint.write

    def killed_before_the_checkpoint(content: object, path: Path) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path.name)
        real(content, path)

    monkeypatch.setattr(checkpoint, "write", killed_before_the_checkpoint)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2)
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert (written, loaded.iter_num, loaded.state) == (["state-2.pt"], 1, {"here": 1})


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"the checkpoint cannot be written: No space left on device"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt.pt", "state-1.pt"]


def test_only_the_newest_state_stays(tmp_path: Path) -> None:
    for iter_num in (1, 2, 3):
        save(tmp_path, iter_num)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt.pt", "state-3.pt"]


@pytest.mark.parametrize("before", [None, 1])
def test_a_disk_that_torch_finds_full_is_named(tmp_path: Path, before: int | None) -> None:
    """torch reports it as an error of its own. What was saved before stays."""
    save(tmp_path, 1)

    class Full(io.BytesIO):
        def write(self, content: Any) -> int:
            if self.tell() > 1000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    @contextlib.contextmanager
    def full(path: Path) -> Iterator[Full]:
        yield Full()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "replacing", full)
        with pytest.raises(CheckpointError, match=r"written: No space left on device; the disk is full: make"):
            save(tmp_path, 2, {"large": torch.zeros(1000)}, before=before)
    assert checkpoint.mend(tmp_path) == ""
    loaded = checkpoint.load(tmp_path)
    assert loaded is not None
    assert (loaded.iter_num, loaded.state) == (1, {"here": 1})


def flip_a_bit(path: Path, name: str) -> None:
    """Flip a bit in the middle of a record, whose name ends in `name`, of an archive that torch has written."""
    with zipfile.ZipFile(path) as archive:
        record = next(record for record in archive.infolist() if record.filename.endswith(name))
        content = archive.read(record)
    whole = bytearray(path.read_bytes())
    whole[whole.index(content) + len(content) // 2] ^= 1
    path.write_bytes(whole)


def truncate(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a weight's bit": lambda folder: flip_a_bit(folder / "ckpt.pt", "data/0"),
    "half of the checkpoint": lambda folder: truncate(folder / "ckpt.pt"),
    "nothing in the checkpoint": lambda folder: truncate(folder / "ckpt.pt", 0.0),
    "a missing key": lambda folder: torch.save({"model": {}}, folder / "ckpt.pt"),
    "half of the state": lambda folder: truncate(folder / "state-2.pt"),
    "a bit of the state": lambda folder: flip_a_bit(folder / "state-2.pt", "data.pkl"),
    "no state": lambda folder: (folder / "state-2.pt").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
class TestDamage:
    """A damaged checkpoint is never trained on."""

    def test_the_one_before_takes_its_place(self, tmp_path: Path, damage: Callable[[Path], object]) -> None:
        save(tmp_path, 1)
        save(tmp_path, 2, {"here": 2, "table": torch.arange(8)}, before=1)
        damage(tmp_path)
        words = checkpoint.mend(tmp_path)
        assert words.startswith(f"its checkpoint was dropped, and the run goes on from the one before: {tmp_path}")
        loaded = checkpoint.load(tmp_path)
        assert loaded is not None
        assert (loaded.iter_num, loaded.state) == (1, {"here": 1})
        assert checkpoint.mend(tmp_path) == ""

    def test_without_one_before_it_is_deleted(self, tmp_path: Path, damage: Callable[[Path], object]) -> None:
        save(tmp_path, 2, {"here": 2, "table": torch.arange(8)})
        damage(tmp_path)
        assert checkpoint.mend(tmp_path).startswith(
            f"its checkpoint was dropped, and the run is trained again from its start: {tmp_path}"
        )
        assert list(tmp_path.iterdir()) == []


def test_both_damaged(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2, before=1)
    truncate(tmp_path / "ckpt.pt")
    truncate(tmp_path / "previous.pt")
    assert "is trained again from its start" in checkpoint.mend(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_can_not_be_read_is_not_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(torch, "load", failing)
    with pytest.raises(CheckpointError, match="cannot be read: Input/output error"):
        checkpoint.mend(tmp_path)
    assert (tmp_path / "ckpt.pt").exists()


@given(st.data())
def test_whatever_bit_flips_the_weights_are_those_that_were_saved(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = save(folder, 1)
        path = folder / "ckpt.pt"
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        try:
            loaded = checkpoint.load(folder)
        except CheckpointError:
            return
        assert loaded is not None
        assert all(torch.equal(loaded.model[key], value) for key, value in model.state_dict().items())


def test_the_checkpoint_before_is_kept_until_the_last(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2, before=1)
    save(tmp_path, 3, before=2)
    save(tmp_path, 3, before=3)  # once more at the same step, which keeps the one before
    names = ["ckpt.pt", "previous-state.pt", "previous.pt", "state-3.pt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert checkpoint.read(tmp_path / "previous.pt", remedy="").iter_num == 2
    save(tmp_path, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt.pt", "state-4.pt"]
