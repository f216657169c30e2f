"""Configs for nanoGPT: read back as nanoGPT reads them, its differences, the files."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.export import config_text
from sweeps.export.nanogpt_config import ExportError, write_config
from sweeps.study import horizon
from tests.helpers.exports import SMALL, as_config, config, data, nanogpt_configurator, read
from trainer import nanogpt
from trainer.config import TrainConfig
from trainer.errors import ConfigError


def test_nanogpt_takes_the_file_as_its_settings(tmp_path):
    exported = as_config(config(dropout=0.0), data=data(), evidence=["a fact"], out_dir="out-x")
    expected = {
        **{key: SMALL[key] for key in SMALL},
        "dropout": 0.0,
        "bias": False,
        "weight_decay": 0.1,
        "beta1": 0.9,
        "beta2": 0.95,
        "grad_clip": 1.0,
        "decay_lr": True,
        "dataset": "/data/prepared",
        "out_dir": "out-x",
        "device": "cuda",
        "dtype": "bfloat16",
        "compile": True,
        "init_from": "scratch",
        "log_interval": 1,
        "always_save_checkpoint": True,
        "eval_iters": 20,
    }
    assert dict(exported.settings) == expected
    assert nanogpt_configurator(exported.text) == {**nanogpt.DEFAULTS, **expected}
    assert read(exported.text, tmp_path) == expected
    for argument in ("--dropout=0.1", "--learning_rate=3e-4", "--max_iters=10", "--compile=False", "--dataset=x"):
        nanogpt_configurator(exported.text, argument)


@st.composite
def configs(draw: st.DrawFn) -> TrainConfig:
    rate = draw(st.floats(1e-9, 10.0))
    decay = draw(st.integers(1, 10**7))
    return TrainConfig(
        n_layer=draw(st.integers(1, 48)),
        n_head=(heads := draw(st.integers(1, 8))),
        n_embd=heads * draw(st.integers(1, 64)),
        block_size=draw(st.integers(1, 4096)),
        bias=draw(st.booleans()),
        dropout=draw(st.floats(0.0, 0.99)),
        label_smoothing=draw(st.sampled_from([0.0, 0.1])),
        data_fraction=draw(st.sampled_from([1.0, 0.5])),
        vocab_size=draw(st.sampled_from([0, 257, 50304, 100_000])),
        learning_rate=rate,
        min_lr=draw(st.floats(0.0, rate)),
        weight_decay=draw(st.floats(0.0, 10.0)),
        beta1=draw(st.floats(0.0, 0.999)),
        beta2=draw(st.floats(0.0, 0.9999)),
        grad_clip=draw(st.floats(0.0, 100.0)),
        max_iters=draw(st.integers(1, 10**7)),
        lr_decay_iters=decay,
        warmup_iters=draw(st.integers(0, decay - 1)),
        decay_lr=draw(st.booleans()),
        batch_size=draw(st.integers(1, 512)),
        gradient_accumulation_steps=draw(st.integers(1, 512)),
        seed=draw(st.integers(0, 2**40)),
        eval_interval=draw(st.integers(1, 10**5)),
        eval_iters=draw(st.integers(1, 1000)),
        device=draw(st.sampled_from(["auto", "cpu", "cuda", "cuda:1"])),
        compile=draw(st.booleans()),
        dtype=draw(st.sampled_from(["float32", "bfloat16", "float16"])),
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=configs(),
    iters=st.none() | st.integers(1, 10**7),
    facts=st.lists(st.text(), max_size=3),
    path=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
    cuda=st.booleans(),
)
def test_every_config_comes_back_with_values_and_types(tmp_path, config, iters, facts, path, cuda):
    try:
        exported = as_config(config, data=data(f"/{path}"), evidence=facts, iters=iters, cuda=cuda)
    except ConfigError:
        assert iters is not None
        return
    seen = nanogpt_configurator(exported.text)
    assert {key: seen[key] for key in exported.settings} == dict(exported.settings)
    assert read(exported.text, tmp_path) == dict(exported.settings)
    assert seen.keys() == nanogpt.DEFAULTS.keys(), "nothing but nanoGPT's keys"
    assert all(type(seen[key]) is type(default) for key, default in nanogpt.DEFAULTS.items())
    assert exported.settings.keys() >= {"max_iters", "lr_decay_iters", "warmup_iters", "min_lr"}
    if iters is None:
        same = set(exported.settings) - {
            "dataset",
            "out_dir",
            "eval_iters",
            "log_interval",
            "device",
            "dtype",
            "compile",
        }
        assert {key: exported.settings[key] for key in same} == {key: config.as_dict()[key] for key in same}
    else:
        assert exported.settings["max_iters"] == iters
        assert exported.settings["warmup_iters"] < exported.settings["lr_decay_iters"] or not config.decay_lr


def test_numpy_scalars_become_plain_numbers():
    exported = as_config(config(), data=data())
    odd = dataclasses.replace(config())
    object.__setattr__(odd, "learning_rate", np.float64(1e-3))
    object.__setattr__(odd, "n_embd", np.int64(16))
    assert as_config(odd, data=data()).text == exported.text


@pytest.mark.parametrize(
    ("changes", "facts", "expected"),
    [
        ({}, {}, "see other batches"),
        ({"sampling": "nanogpt"}, {}, None),
        ({"sampling": "nanogpt", "seed": 7}, {}, "nanoGPT's seed is 1337, written in its train.py; the run's was 7"),
        (
            {"sampling": "nanogpt", "init_from": "resume"},
            {},
            "takes weight_decay and the betas from ckpt.pt",
        ),
        ({"label_smoothing": 0.1}, {}, "the run had label_smoothing=0.1"),
        ({"data_fraction": 0.25}, {}, "nanoGPT trains on all of them, about 4 times as many"),
        ({"sampling": "nanogpt"}, {"vocab_size": 257}, "257 tokens, but the data folder holds no meta.pkl"),
        ({"vocab_size": 300}, {"vocab_size": 257}, "the run's vocabulary has 300 tokens, but"),
        ({}, {"vocab_size": 100_000}, "uint32"),
        ({}, {"vocab_size": 65_537}, "uint32"),
        (
            {"sampling": "nanogpt", "max_iters": 610},
            {},
            "so the last 10 of 610 iterations are neither evaluated nor saved; a run of 600",
        ),
    ],
)
def test_what_nanogpt_cannot_express_is_said(changes, facts, expected):
    exported = as_config(config(**changes), data=data(**facts))
    if expected is None:
        assert exported.notes == ()
    else:
        assert sum(expected in note for note in exported.notes) == 1
    assert ("What nanoGPT does differently" in exported.text) is bool(exported.notes)
    assert ("uint32" in " ".join(exported.notes)) is (facts.get("vocab_size", 0) > 65_536)


def test_a_folder_that_says_its_vocabulary_needs_no_note(tmp_path):
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 257}))
    mine = data(tmp_path, vocab_size=257)
    assert as_config(config(sampling="nanogpt"), data=mine).notes == ()
    (note,) = as_config(config(sampling="nanogpt", vocab_size=320), data=mine).notes
    assert "vocab_size=320 was set by hand; nanoGPT takes the data folder's, 257" in note


@given(iters=st.integers(1, 10**6))
@settings(deadline=None)
def test_evaluations_of_a_run(iters):
    interval = horizon.eval_interval(iters)
    assert interval >= 1
    assert 1 <= iters // interval <= 60
    if any(iters % count == 0 for count in range(20, 41)):
        assert iters % interval == 0
        assert 20 <= iters // interval <= 40


@pytest.mark.parametrize(
    ("iters", "interval"), [(20_000, 625), (30_000, 1000), (600, 20), (10_007, 333), (7, 1), (22, 1)]
)
def test_evaluations_divide_the_run_where_they_can(iters, interval):
    assert as_config(config(), data=data(), iters=iters).settings["eval_interval"] == interval


@pytest.mark.parametrize(("accumulation", "iters", "got"), [(2, 600, 20), (8, 600, 48), (2, 20_000, 200)])
def test_evaluations_cost_a_fifth_of_the_training_at_most(accumulation, iters, got):
    exported = as_config(config(gradient_accumulation_steps=accumulation), data=data(), iters=iters)
    assert exported.settings["eval_iters"] == got


@pytest.mark.parametrize("iters", [0, -5])
def test_a_run_has_iterations(iters):
    with pytest.raises(ExportError, match=f"--iters {iters}: a run has at least 1 iteration"):
        as_config(config(), data=data(), iters=iters)


def test_a_config_is_written_once(tmp_path):
    exported = as_config(config(), data=data())
    path = tmp_path / "new" / "best.py"
    assert write_config(exported, path) == path
    assert path.read_text(encoding="ascii") == exported.text
    assert [file.name for file in path.parent.iterdir()] == ["best.py"]
    write_config(exported, path)  # the same text may be written again
    other = as_config(config(n_layer=3), data=data())
    with pytest.raises(ExportError, match=r"best\.py: already exists with other content; choose another name"):
        write_config(other, path)
    assert path.read_text(encoding="ascii") == exported.text


def test_where_a_config_cannot_be_written(tmp_path):
    exported = as_config(config(), data=data())
    with pytest.raises(ExportError, match="reads an argument with '=' as a setting"):
        write_config(exported, tmp_path / "lr=3.py")
    with pytest.raises(ExportError, match="already exists"):
        write_config(exported, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        write_config(exported, tmp_path / "file" / "best.py")


def test_every_section_key_is_nanogpts():
    assert {key for keys in config_text.SECTIONS.values() for key in keys} <= set(nanogpt.DEFAULTS)
