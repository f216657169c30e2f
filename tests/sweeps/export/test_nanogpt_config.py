"""Exports: nanoGPT's own reading of a config and a checkpoint, the evidence in comments, the refusals."""

from __future__ import annotations

import ast
import dataclasses
import pickle
import re
from ast import literal_eval
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.analysis.findings import Findings
from sweeps.export import nanogpt_config as nanogpt_config_module
from sweeps.export.nanogpt_config import ExportError, export_checkpoint, nanogpt_config, write_config
from sweeps.export.trial import evidence, export_run
from sweeps.store.records import DataFacts, Results, Run
from sweeps.study import horizon
from tests.helpers import synthetic
from trainer import nanogpt
from trainer.config import TrainConfig
from trainer.errors import CheckpointError, ConfigError

SMALL = {
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 8,
    "batch_size": 4,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "min_lr": 1e-4,
    "max_iters": 600,
    "lr_decay_iters": 600,
    "warmup_iters": 15,
    "eval_interval": 20,
}


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**{**SMALL, **changes})


def data(path: str | Path = "/data/prepared", **changes: Any) -> DataFacts:
    facts = {
        "path": str(path),
        "fingerprint": "c0ffee",
        "vocab_size": 50304,
        "train_tokens": 1_000_000,
        "val_tokens": 50_000,
        "bytes_per_token": 4.2,
    }
    return DataFacts(**{**facts, **changes})


def run(number: int = 7, **changes: Any) -> Run:
    facts = {
        "id": number,
        "optuna_study": "plateau",
        "trial": number,
        "seed": 1337,
        "phase": "search",
        "origin": "sampler",
        "label": "a trial",
        "knob": None,
        "params": {},
        "config": config(),
        "device": "cuda:0",
        "outcome": "complete",
        "reason": "",
        "val_loss": 3.25,
        "val_se": 0.0125,
        "seconds": 1.0,
        "points": (),
    }
    return Run(**{**facts, **changes})


def results(*runs: Run, **provenance: str) -> Results:
    return Results(study=synthetic.study(), data=data(), runs=runs, provenance=provenance, seconds=1.0)


def nanogpt_configurator(text: str, *arguments: str) -> dict[str, Any]:
    """What nanoGPT's configurator.py makes of a config file and of --key=value arguments (its globals, after)."""
    namespace: dict[str, Any] = dict(nanogpt.DEFAULTS)
    exec(text, namespace)  # noqa: S102  # it is what nanoGPT does, and the text is ours
    del namespace["__builtins__"]
    for argument in arguments:
        assert argument.startswith("--")
        key, value = argument.split("=")
        key = key[2:]
        if key not in namespace:
            raise ValueError(f"Unknown config key: {key}")
        try:
            attempt = literal_eval(value)
        except (SyntaxError, ValueError):
            attempt = value
        assert type(attempt) is type(namespace[key])
        namespace[key] = attempt
    return namespace


def comments(text: str) -> str:
    """The comments of a config, unwrapped: one space between words."""
    return " ".join(" ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#")).split())


def read(text: str, tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "config.py"
    path.write_bytes(text.encode("ascii"))
    return nanogpt.read_config(path)


# the file


def test_nanogpt_takes_the_file_as_its_settings(tmp_path):
    made = nanogpt_config(config(dropout=0.0), data=data(), evidence=["a fact"], out_dir="out-x")
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
    assert dict(made.settings) == expected
    assert nanogpt_configurator(made.text) == {**nanogpt.DEFAULTS, **expected}
    assert read(made.text, tmp_path) == expected
    for argument in ("--dropout=0.1", "--learning_rate=3e-4", "--max_iters=10", "--compile=False", "--dataset=x"):
        nanogpt_configurator(made.text, argument)


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
        made = nanogpt_config(config, data=data(f"/{path}"), evidence=facts, iters=iters, cuda=cuda)
    except ConfigError:
        assert iters is not None
        return
    seen = nanogpt_configurator(made.text)
    assert {key: seen[key] for key in made.settings} == dict(made.settings)
    assert read(made.text, tmp_path) == dict(made.settings)
    assert seen.keys() == nanogpt.DEFAULTS.keys(), "nothing but nanoGPT's keys"
    assert all(type(seen[key]) is type(default) for key, default in nanogpt.DEFAULTS.items())
    assert made.settings.keys() >= {"max_iters", "lr_decay_iters", "warmup_iters", "min_lr"}
    if iters is None:
        same = set(made.settings) - {"dataset", "out_dir", "eval_iters", "log_interval", "device", "dtype", "compile"}
        assert {key: made.settings[key] for key in same} == {key: config.as_dict()[key] for key in same}
    else:
        assert made.settings["max_iters"] == iters
        assert made.settings["warmup_iters"] < made.settings["lr_decay_iters"] or not config.decay_lr


def test_numpy_scalars_become_plain_numbers():
    made = nanogpt_config(config(), data=data())
    odd = dataclasses.replace(config())
    object.__setattr__(odd, "learning_rate", np.float64(1e-3))
    object.__setattr__(odd, "n_embd", np.int64(16))
    assert nanogpt_config(odd, data=data()).text == made.text


HOSTILE = [
    "plain\nlearning_rate = 9.0",
    "carriage\rlearning_rate = 9.0",
    "both\r\nlearning_rate = 9.0",
    "form feed\x0clearning_rate = 9.0",
    "separators\x85\u2028\u2029learning_rate = 9.0",
    "quotes \"\"\"''' learning_rate = 9.0",
    "backslash \\\nlearning_rate = 9.0",
    "null \0 learning_rate = 9.0",
    "-*- coding: utf-7 -*- +AAo-learning_rate = 9.0",
    "a long one " * 50 + "\nlearning_rate = 9.0",
    "surrogate \udcff\nlearning_rate = 9.0",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_gets_out_of_its_comment(name):
    hostile = run(optuna_study=name, label=name, reason=name, outcome="failed", val_loss=None)
    made = export_run(Findings(results(hostile, **{"version": name, name: "x"})), hostile, date=name)
    assert made.text.isascii()
    assert nanogpt_configurator(made.text)["learning_rate"] == 1e-3
    statements = ast.parse(made.text).body
    assert all(isinstance(statement, ast.Assign) for statement in statements)
    assert len(statements) == len(made.settings)
    cookie = re.compile(r"^[ \t\f]*#.*?coding[:=]")  # of PEP 263: Python looks for it in the first two lines
    assert not any(cookie.match(line) for line in made.text.splitlines()[:2])
    assert re.fullmatch(r"out-[A-Za-z0-9._-]+-7", str(made.settings["out_dir"]))


def test_the_evidence_stands_in_the_comments():
    seeds = [run(n, origin="baseline", val_loss=loss) for n, loss in enumerate([3.5, 3.7, 3.6])]
    unfinished = run(3, origin="baseline", outcome="failed", val_loss=None)
    best = run(7, label="dropout 0", seed=1338)
    made = export_run(Findings(results(*seeds, unfinished, best, torch="2.13", commit="abc")), best, date="2026-11-24")
    said = comments(made.text)
    for fact in (
        "study plateau, trial 7 (dropout 0), seed 1338",
        "final validation loss: 3.2500 +- 0.0125 (standard error over the windows) nats a token",
        "baseline: 3.6000 +- 0.1000 nats a token (mean and standard deviation over 3 seeds)",
        "horizon: 600 iterations of 64 tokens, 38400 tokens in all",
        "data: /data/prepared, fingerprint c0ffee, 1000000 training tokens",
        "exported on 2026-11-24",
        "torch: 2.13",
        "commit: abc",
    ):
        assert fact in said
    assert all(comments(f"# {note}") in said for note in made.notes)
    assert made.settings["out_dir"] == "out-plateau-7"


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([], "no complete run to compare with"),
        ([3.5], "3.5000 nats a token, 1 seed, so its spread isn't known"),
    ],
)
def test_few_baseline_seeds(losses, said):
    seeds = [run(n, origin="baseline", val_loss=loss) for n, loss in enumerate(losses)]
    assert any(said in line for line in evidence(Findings(results(*seeds)), run(), date="d"))


def test_a_run_that_did_not_complete_has_no_loss_to_show():
    pruned = run(outcome="pruned", reason="worse than the median", val_loss=None)
    lines = evidence(Findings(results(pruned)), pruned, date="d")
    assert "NOT a complete run, so no final loss stands behind it: pruned: worse than the median" in lines


def test_a_run_on_a_cpu_is_exported_for_a_cpu():
    slow = run(device="cpu")
    made = export_run(Findings(results(slow)), slow, date="d").settings
    assert (made["device"], made["dtype"], made["compile"]) == ("cpu", "float32", False)


# what nanoGPT does otherwise


@pytest.mark.parametrize(
    ("changes", "facts", "said"),
    [
        ({}, {}, "see other batches"),
        ({"sampling": "nanogpt"}, {}, None),
        ({"sampling": "nanogpt", "seed": 7}, {}, "nanoGPT's seed is 1337, written in its train.py; the run's was 7"),
        ({"sampling": "nanogpt", "init_from": "resume"}, {}, "the checkpoint's optimizer"),
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
def test_what_nanogpt_cannot_express_is_said(changes, facts, said):
    made = nanogpt_config(config(**changes), data=data(**facts))
    if said is None:
        assert made.notes == ()
    else:
        assert sum(said in note for note in made.notes) == 1
    assert ("What nanoGPT does otherwise" in made.text) is bool(made.notes)
    assert ("uint32" in " ".join(made.notes)) is (facts.get("vocab_size", 0) > 65_536)


def test_a_folder_that_says_its_vocabulary_needs_no_note(tmp_path):
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 257}))
    mine = data(tmp_path, vocab_size=257)
    assert nanogpt_config(config(sampling="nanogpt"), data=mine).notes == ()
    (note,) = nanogpt_config(config(sampling="nanogpt", vocab_size=320), data=mine).notes
    assert "vocab_size=320 was set by hand; nanoGPT takes the data folder's, 257" in note


# the real run's length


def test_a_longer_run_keeps_the_shape_of_its_schedule():
    made = nanogpt_config(config(warmup_iters=15, lr_decay_iters=540), data=data(), iters=20_000)
    wanted = {"max_iters": 20_000, "warmup_iters": 500, "lr_decay_iters": 18_000}
    assert {key: made.settings[key] for key in wanted} == wanted
    assert (made.settings["learning_rate"], made.settings["min_lr"]) == (1e-3, 1e-4)
    assert "From 600 iterations to 20000" in made.text


def test_the_runs_own_length_needs_no_advice():
    made = nanogpt_config(config(sampling="nanogpt"), data=data(), iters=600)
    assert made.notes == ()


@pytest.mark.parametrize(
    ("iters", "warned"), [(300, False), (1200, False), (2400, False), (2401, True), (60_000, True)]
)
def test_a_rate_found_on_a_quarter_of_the_run_or_less_is_called_a_guess(iters, warned):
    notes = nanogpt_config(config(), data=data(), iters=iters).notes
    assert any(note.startswith("WARNING") and "Run a ladder" in note for note in notes) is warned
    assert any("disputed" in note for note in notes)


def test_both_answers_on_the_learning_rate_are_given_as_commands():
    made = nanogpt_config(config(), data=data(), iters=6000)
    (tries,) = (note for note in made.notes if note.startswith("Rates to try"))
    # ten times the tokens: 1e-3 * 10^-0.32 and 1e-3 * 10^0.307, min_lr a tenth of each
    assert re.findall(r"--\S+", tries.partition(": ")[2]) == [
        "--learning_rate=0.00048",
        "--min_lr=4.8e-05",
        "--learning_rate=0.002",
        "--min_lr=0.0002",
    ]
    for argument in re.findall(r"--[a-z_]+=\S+", " ".join(made.notes)):
        nanogpt_configurator(made.text, argument)
    commented = comments(made.text)
    assert "--learning_rate=0.00048 --min_lr=4.8e-05" in commented


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (10**9, "was chosen without repeated data, and stays so"),
        (100_000, "the trial made 0.384 epochs of its data, this run makes 3.84"),
        (10_000, "the trial made 3.84 epochs of its data, this run makes 38.4"),
    ],
)
def test_dropout_belongs_to_a_number_of_epochs(tokens, said):
    made = nanogpt_config(config(dropout=0.1), data=data(train_tokens=tokens), iters=6000)
    assert sum(said in note and "dropout=0.1" in note for note in made.notes) == 1


def test_a_trial_on_part_of_the_data_made_more_epochs_than_the_run_will():
    made = nanogpt_config(config(dropout=0.1, data_fraction=0.5), data=data(train_tokens=10_000), iters=600)
    assert sum("of its data, this run makes" in note for note in made.notes) == 0  # the run's own length
    made = nanogpt_config(config(dropout=0.1, data_fraction=0.5), data=data(train_tokens=10_000), iters=1200)
    assert sum("the trial made 7.68 epochs of its data, this run makes 7.68" in note for note in made.notes) == 1
    assert "data_fraction" not in made.settings


def test_weight_decay_has_two_candidates():
    made = nanogpt_config(config(weight_decay=0.1), data=data(), iters=6000)
    (note,) = (note for note in made.notes if note.startswith("weight_decay"))
    assert "= 1e+04 iterations" in note
    assert "it stays 0.1" in note
    assert "--weight_decay=0.01" in note
    assert not any(
        "weight_decay" in note for note in nanogpt_config(config(weight_decay=0.0), data=data(), iters=6000).notes
    )


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
    assert nanogpt_config(config(), data=data(), iters=iters).settings["eval_interval"] == interval


@pytest.mark.parametrize(("accumulation", "iters", "got"), [(2, 600, 20), (8, 600, 48), (2, 20_000, 200)])
def test_evaluations_cost_a_fifth_of_the_training_at_most(accumulation, iters, got):
    made = nanogpt_config(config(gradient_accumulation_steps=accumulation), data=data(), iters=iters)
    assert made.settings["eval_iters"] == got


@pytest.mark.parametrize("iters", [0, -5])
def test_a_run_has_iterations(iters):
    with pytest.raises(ExportError, match=f"--iters {iters}: a run has at least 1 iteration"):
        nanogpt_config(config(), data=data(), iters=iters)


# files


def test_a_config_is_written_once(tmp_path):
    made = nanogpt_config(config(), data=data())
    path = tmp_path / "new" / "best.py"
    assert write_config(made, path) == path
    assert path.read_text(encoding="ascii") == made.text
    assert [file.name for file in path.parent.iterdir()] == ["best.py"]
    write_config(made, path)  # the same again is no harm
    other = nanogpt_config(config(n_layer=3), data=data())
    with pytest.raises(ExportError, match=r"best\.py: is there already, with other content; choose another name"):
        write_config(other, path)
    assert path.read_text(encoding="ascii") == made.text


def test_where_a_config_cannot_be_written(tmp_path):
    made = nanogpt_config(config(), data=data())
    with pytest.raises(ExportError, match="takes an argument with '=' for a setting"):
        write_config(made, tmp_path / "lr=3.py")
    with pytest.raises(ExportError, match="is there already"):
        write_config(made, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        write_config(made, tmp_path / "file" / "best.py")


def nanogpt_model(config: TrainConfig) -> torch.nn.Module:
    from trainer.model.gpt import GPT

    return GPT(config)


@pytest.fixture
def trained(tmp_path):
    """A run's folder with the checkpoint of two updates, its config and its model."""
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
    made = nanogpt_config(mine, data=data(vocab_size=11), iters=1200)
    path = export_checkpoint(source, made, tmp_path / "out")
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
    assert form["config"] == {**nanogpt.DEFAULTS, **made.settings, "out_dir": str(tmp_path / "out")}

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
    made = nanogpt_config(mine, data=data(vocab_size=11))
    path = export_checkpoint(source, made, tmp_path / "out")
    before = path.read_bytes()
    with pytest.raises(ExportError, match=r"ckpt\.pt: is there already; choose another folder with -o"):
        export_checkpoint(source, made, tmp_path / "out")
    with pytest.raises(ExportError, match="is there already"):
        export_checkpoint(source, made, source)
    assert path.read_bytes() == before


def test_a_run_whose_checkpoint_is_gone(tmp_path):
    made = nanogpt_config(config(), data=data())
    with pytest.raises(
        CheckpointError, match=r"holds no checkpoint .*those of the best trial and of the baseline are kept"
    ):
        export_checkpoint(tmp_path, made, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_hold_the_checkpoint(trained, tmp_path):
    source, mine, _ = trained
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        export_checkpoint(source, nanogpt_config(mine, data=data(vocab_size=11)), tmp_path / "file" / "out")


def test_every_section_key_is_nanogpts():
    assert {key for keys in nanogpt_config_module._SECTIONS.values() for key in keys} <= set(nanogpt.DEFAULTS)
