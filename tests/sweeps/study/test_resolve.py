"""Profiles, overrides, --data and --baseline: their order, the places they are reported at, the knobs they widen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import SpecError
from sweeps.study.knobs import ChoicesKnob, RangeKnob
from sweeps.study.load import load
from sweeps.study.resolve import Resolved
from sweeps.study.sections import (
    BinData,
    BpeTokenizer,
    EmbeddedData,
    Gpt2Tokenizer,
    NoPruning,
    ParquetData,
    PlateauPruning,
    TokenHorizon,
)
from sweeps.study.widening import widened
from tests.helpers.study_files import TEXT, small, write
from trainer.errors import ConfigError, UserError

PROFILES = (
    TEXT
    + """\
profiles:
  cuda:
    horizon: {iters: 900}
    baseline: {n_layer: 8}
    candidates:
      - {dropout: 0.2}
  cpu:
    tokenizer: {type: bpe, vocab_size: 512}
    horizon: {tokens: 409600}
    knobs: {dropout: null, n_embd: {high: 64}}
  empty:
"""
)


def test_profiles_merge_replace_and_remove(tmp_path: Path) -> None:
    cpu = small(tmp_path, text=PROFILES)
    assert cpu.tokenizer == BpeTokenizer(type="bpe", vocab_size=512)
    assert cpu.horizon == TokenHorizon(tokens=409600)
    assert "dropout" not in cpu.knobs
    assert cpu.knobs["n_embd"] == RangeKnob(low=32, high=64, step=16)
    assert len(cpu.candidates) == 2
    cuda = small(tmp_path, text=PROFILES, cuda=True)
    assert (cuda.iters, cuda.baseline["n_layer"], cuda.baseline["n_embd"]) == (900, 8, 64)
    assert cuda.candidates == ({"dropout": 0.2},)


@pytest.mark.parametrize(("profile", "cuda", "layers"), [("cuda", False, 8), ("cpu", True, 2), ("empty", True, 2)])
def test_the_profile_asked_for_wins(tmp_path: Path, profile: str, cuda: bool, layers: int) -> None:
    assert small(tmp_path, text=PROFILES, cuda=cuda, profile=profile).baseline["n_layer"] == layers


def test_a_study_without_the_devices_profile_is_as_it_stands(tmp_path: Path) -> None:
    text = TEXT + "profiles: {cuda: {trials: 5}}\n"
    assert small(tmp_path, text=text).trials == 40
    assert small(tmp_path, text=text, cuda=True).trials == 5


@pytest.mark.parametrize(
    ("text", "profile", "message"),
    [
        (TEXT, "cpu", "--profile cpu: {} has no profiles; leave it out"),
        (PROFILES, "gpu", "--profile gpu: {} has no such profile; it has cuda, cpu, empty; did you mean cpu?"),
        (TEXT + "profiles: [cpu]", None, "{}:27: profiles: is not a mapping of names to changes, such as cpu: ..."),
        (TEXT + "profiles: {cpu: 1}", None, "{}:27: profiles.cpu: is not a mapping of what the profile changes"),
    ],
)
def test_invalid_profiles(tmp_path: Path, text: str, profile: str | None, message: str) -> None:
    with pytest.raises(SpecError) as error:
        small(tmp_path, text=text, profile=profile)
    assert str(error.value).replace("{horizon: {iters: 400}}", "...") == message.format(tmp_path / "study.yaml")


def test_a_mistake_in_a_profile_names_its_line(tmp_path: Path) -> None:
    text = PROFILES.replace("n_layer: 8", "n_layer: 0")
    with pytest.raises(SpecError, match=r"study\.yaml:30: baseline\.n_layer: 0 must be at least 1"):
        small(tmp_path, text=text, cuda=True)


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("trials=7", "trials", 7),
        ("hours=null", "hours", None),
        ("knobs.dropout.high=0.5", "knobs.dropout.high", 0.5),
        ("knobs.dropout={choices: [0.1, 0.2]}", "knobs.dropout.choices", (0.1, 0.2)),
        ("knobs.dropout.choices=[0.1, 0.2]", "knobs.dropout.choices", (0.1, 0.2)),
        ("knobs.beta2={low: 0.9, high: 0.999}", "knobs.beta2.low", 0.9),
        ("candidates.0.dropout=0.25", "candidates.0.dropout", 0.25),
        ("candidates.1={beta2: 0.99}", "candidates.1", {"beta2": 0.99}),
        ("candidates=[]", "candidates", ()),
        ("baseline.n_head=4", "baseline.n_head", 4),  # takes the place of head_size
        ("horizon.tokens=512000", "horizon.tokens", 512000),
        ("pruner.type=none", "pruner", NoPruning(type="none")),
        ("pruner={type: plateau, looks: [0.2, 0.5]}", "pruner.looks", (0.2, 0.5)),
        ("data.parquet=a=b.parquet", "data.parquet", ("a=b.parquet",)),
        ("workers.devices=[cpu, cpu]", "workers.devices", ("cpu", "cpu")),
    ],
)
def test_overrides(tmp_path: Path, override: str, path: str, value: Any) -> None:
    result: Any = small(tmp_path, override)
    for part in path.split("."):
        if isinstance(result, tuple):
            result = result[int(part)]
        else:
            result = result[part] if isinstance(result, dict) else getattr(result, part)
    assert result == value


@pytest.mark.parametrize(
    ("before", "override", "path", "value"),
    [
        ("pruner={type: median, warmup: 0.5}", "pruner.type=none", "pruner", NoPruning(type="none")),
        ("pruner={type: median, warmup: 0.5}", "pruner.type=plateau", "pruner", PlateauPruning(type="plateau")),
        ("tokenizer={type: bpe, vocab_size: 300}", "tokenizer.type=gpt2", "tokenizer", Gpt2Tokenizer(type="gpt2")),
        ("data={source: embedded, dedup: false}", "data.bin=d", "data", BinData(bin="d")),
        ("data={parquet: a, text: b}", "data.source=embedded", "data", EmbeddedData(source="embedded")),
    ],
)
def test_another_kind_drops_the_keys_of_the_one_before(
    tmp_path: Path, before: str, override: str, path: str, value: Any
) -> None:
    assert getattr(small(tmp_path, before, override), path) == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trials", "--set trials: is not KEY=VALUE, such as knobs.dropout.high=0.4"),
        ("=3", "--set =3: is not KEY=VALUE, such as knobs.dropout.high=0.4"),
        ("knobs..high=3", "--set knobs..high=3: is not KEY=VALUE, such as knobs.dropout.high=0.4"),
        ("trials=", "--set trials=: has no value; null removes a key"),
        ("trials=[1", "--set trials:1: is not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("trails=3", "--set: trails: unknown key 'trails'; did you mean trials?"),
        ("knobs.dropuot.high=1", "--set: knobs.dropuot: unknown key 'dropuot'; did you mean dropout?"),
        ("knobs.dropout.hihg=1", "--set: knobs.dropout.hihg: unknown key 'hihg'; did you mean high?"),
        ("candidates.2.dropout=1", "--set: candidates is a list of 2, counted from 0; it has no '2'"),
        ("candidates.-1=1", "--set: candidates is a list of 2, counted from 0; it has no '-1'"),
        ("candidates.dropout=1", "--set: candidates is a list of 2, counted from 0; it has no 'dropout'"),
        ("name.first=1", "--set: name is 'small' and has no 'first' below it"),
        ("name=null", "{}:1: name is missing"),
    ],
)
def test_invalid_overrides(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        small(tmp_path, override)
    assert str(error.value) == message.format(tmp_path / "study.yaml")


def test_later_overrides_win(tmp_path: Path) -> None:
    assert small(tmp_path, "trials=7", "trials=9").trials == 9


keys = st.sampled_from(["a", "b", "c"])
trees = st.recursive(st.integers(0, 9), lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8)


def _laid(base: Any, over: Any) -> Any:
    """The rule of overlays as the documentation states it."""
    if over is None:
        return None
    if not isinstance(over, dict):
        return over
    base = base if isinstance(base, dict) else {}
    both = {key: _laid(base.get(key), over[key]) if key in over else base[key] for key in {**base, **over}}
    return {key: value for key, value in both.items() if value is not None}


@given(
    st.dictionaries(keys, trees, max_size=3),
    st.recursive(
        st.integers(10, 19) | st.none(), lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8
    ).filter(lambda tree: isinstance(tree, dict)),
)
@settings(deadline=None)
def test_merging_follows_its_rule(base: dict[str, Any], over: dict[str, Any]) -> None:
    resolved = Resolved(name="x", value=base, places={(): "x:1"})
    expected = _laid(base, over)

    def places(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str | int, ...], str]:
        below = value.items() if isinstance(value, dict) else ()
        written: dict[tuple[str | int, ...], str] = {path: ".".join(path)}
        for key, child in below:
            written |= places(child, (*path, key))
        return written

    resolved.merge((), over, places(over))
    assert resolved.value == expected

    def check(value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                check(child, (*path, key))
        elif value >= 10:  # only the overlay has numbers from 10 on
            assert resolved.place(path) == ".".join(path)
        else:
            assert resolved.place(path) in {"x:1", *(".".join(path[:depth]) for depth in range(1, len(path)))}

    check(resolved.value, ())


# --- --data -------------------------------------------------------------------------------------------------


def test_data_options(tmp_path: Path) -> None:
    bins, parquets = tmp_path / "bins", tmp_path / "parquets"
    for folder in (bins, parquets):
        folder.mkdir()
    for path in (bins / "train.bin", bins / "val.bin", parquets / "a.parquet"):
        path.write_bytes(b"")
    text = TEXT.replace("{source: embedded}", "{source: embedded, min_chars: 7}")

    def data(option: str) -> Any:
        return small(tmp_path, text=text, data=option).data

    assert data(str(bins)) == data(str(bins / "train.bin")) == BinData(bin=str(bins))
    for option in (str(parquets), str(parquets / "a.parquet"), f"{parquets}/*.parquet", "hf://datasets/x/y.parquet"):
        assert data(option) == ParquetData(parquet=(option,), min_chars=7)
    odd = tmp_path / "run [2]?"  # no pattern, because there is such a folder
    odd.mkdir()
    (odd / "train.bin").write_bytes(b"")
    assert data(str(odd)) == BinData(bin=str(odd))
    with pytest.raises(SpecError, match="--data nowhere: there is no such file or folder"):
        data("nowhere")
    with pytest.raises(SpecError, match="--data: is empty"):
        data("")


def test_data_replaces_the_studys(tmp_path: Path) -> None:
    text = TEXT.replace("{source: embedded}", "{bin: somewhere}")
    assert small(tmp_path, text=text, data="*.parquet").data == ParquetData(parquet=("*.parquet",))
    text = TEXT.replace("data: {source: embedded}\n", "")
    assert small(tmp_path, text=text).data == EmbeddedData(source="embedded")
    assert small(tmp_path, text=text, data="*.parquet").data == ParquetData(parquet=("*.parquet",))


# --- --baseline ---------------------------------------------------------------------------------------------


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "train_mine.py"
    path.write_text(text, encoding="utf-8")
    return path


MINE = """\
out_dir = 'out'
wandb_log = True
device = 'mps'
n_layer = 4
n_head = 4
n_embd = 64
learning_rate = 1e-3
min_lr = 1e-4
max_iters = 4000
lr_decay_iters = 4000
warmup_iters = 100
batch_size = 8
"""


def test_a_baseline_replaces_the_studys_wholly(tmp_path: Path) -> None:
    study = small(tmp_path, baseline=config(tmp_path, MINE))
    assert study.baseline["n_layer"] == 4
    assert study.baseline["head_size"] == 16
    assert study.baseline["gradient_accumulation_steps"] == 40  # nanoGPT's, not the study's 2
    assert study.baseline["dropout"] == 0.0
    assert study.baseline["block_size"] == 1024
    assert study.iters == 600
    assert study.notes == ()


def test_overrides_lie_on_top_of_a_baseline(tmp_path: Path) -> None:
    study = small(tmp_path, "baseline.dropout=0.25", baseline=config(tmp_path, MINE))
    assert study.baseline["dropout"] == 0.25


def test_ranges_are_widened_to_hold_a_new_baseline(tmp_path: Path) -> None:
    mine = MINE.replace("n_embd = 64", "n_embd = 192") + "dropout = 0.4\nlearning_rate = 1e-2\n"
    path = config(tmp_path, mine)
    study = small(tmp_path, baseline=path)
    assert study.baseline["head_size"] == 48
    assert study.knobs["n_embd"] == RangeKnob(low=48, high=192, step=48)
    assert study.knobs["dropout"] == RangeKnob(low=0.0, high=0.4)
    assert study.knobs["learning_rate"] == RangeKnob(low=1e-4, high=1e-2, log=True)
    assert study.notes == (
        f"knobs.learning_rate: 0.0001 to 0.01 instead of 0.0001 to 0.006, to contain the value of {path}: 0.01",
        f"knobs.dropout: 0 to 0.4 instead of 0 to 0.3, to contain the value of {path}: 0.4",
        f"knobs.n_embd: 48 to 192 in steps of 48 instead of 32 to 128 in steps of 16, to contain the value of {path}: "
        "192",
    )


def test_candidates_that_a_new_baseline_has_already_are_left_out(tmp_path: Path) -> None:
    path = config(tmp_path, MINE.replace("warmup_iters = 100", "warmup_iters = 200"))
    study = small(tmp_path, baseline=path)
    assert study.candidates == ({"learning_rate": 5e-4, "min_lr": 5e-5},)
    assert study.notes == (f"candidates.1: left out, {path} contains it already",)


def test_candidates_that_a_new_baseline_cannot_run(tmp_path: Path) -> None:
    text = TEXT.replace("{warmup_iters: 200}", "{n_embd: 80}")
    path = config(tmp_path, MINE.replace("n_embd = 64", "n_embd = 96"))
    with pytest.raises(SpecError) as error:
        small(tmp_path, text=text, baseline=path)
    assert str(error.value) == (
        f"{tmp_path / 'study.yaml'}:26: candidates.1.n_embd: n_embd=80 is not divisible by head_size=24; "
        "nearest widths: 72 and 96; to leave out the study's candidates: --set candidates=[]"
    )
    assert small(tmp_path, "candidates=[]", text=text, baseline=path).candidates == ()


def test_a_log_scale_has_no_zero(tmp_path: Path) -> None:
    text = TEXT.replace("  dropout: {low", "  weight_decay: {low: 1e-3, high: 0.5, log: true}\n  dropout: {low")
    path = config(tmp_path, MINE + "weight_decay = 0\n")
    with pytest.raises(
        SpecError, match=re.escape(f"{path}: baseline.weight_decay: weight_decay=0 can't be on the log")
    ):
        small(tmp_path, text=text, baseline=path)
    study = small(tmp_path, "knobs.weight_decay.log=false", text=text, baseline=path)
    assert study.knobs["weight_decay"] == RangeKnob(low=0.0, high=0.5)


def test_pretrained_weights_are_noted(tmp_path: Path) -> None:
    path = config(tmp_path, MINE + "init_from = 'gpt2-xl'\n")
    assert small(tmp_path, baseline=path).notes == (
        f"{path} has init_from = 'gpt2-xl'; the study's trials start from scratch",
    )


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("n_emb = 64", ConfigError, "1: nanoGPT has no key 'n_emb' and would ignore it silently; did you mean n_embd?"),
        ("import os", ConfigError, "1: only 'key = value' lines"),
        (
            "n_embd = 100",
            SpecError,
            " baseline.n_embd: n_embd=100 is not divisible by n_head=12; nearest widths: 96 and 108",
        ),
        ("dropout = 1.5", SpecError, " baseline.dropout: 1.5 must be below 1"),
    ],
)
def test_configs_that_cannot_be_a_baseline(tmp_path: Path, text: str, error: type[UserError], message: str) -> None:
    path = config(tmp_path, text)
    with pytest.raises(error, match=re.escape(f"{path}:{message}")):
        small(tmp_path, "candidates=[]", baseline=path)


def test_without_head_size_widths_stay_multiples_of_the_heads(tmp_path: Path) -> None:
    text = TEXT.replace("head_size: 16", "n_head: 4")
    study = small(tmp_path, text=text, baseline=config(tmp_path, MINE.replace("n_head = 4", "n_head = 8")))
    assert (study.baseline["n_head"], study.knobs["n_embd"]) == (8, RangeKnob(low=32, high=128, step=16))


@given(
    st.integers(1, 8),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 12),
    st.sampled_from([1, 8, 12, 16, 24, 96]),
)
@settings(deadline=None)
def test_widened_widths_hold_everything(low: int, steps: int, width: int, step: int, unit: int) -> None:
    """For any range and new head size, heads divide all widths, and the baseline's width is among them."""
    knob = RangeKnob(low=16 * low, high=16 * low + 16 * step * steps, step=16 * step)
    settings = {"n_embd": width * unit}
    wider = widened("n_embd", knob, settings, unit=unit)
    assert isinstance(wider, RangeKnob)
    assert wider.contains(width * unit)
    assert all(value % unit == 0 for value in wider.wholes())
    assert wider.low <= max(knob.low, unit)
    assert wider.high >= knob.high
    if knob.contains(width * unit) and all(value % unit == 0 for value in knob.wholes()):
        assert wider is knob


@pytest.mark.parametrize(
    ("name", "knob", "value", "expected"),
    [
        ("dropout", RangeKnob(low=0.0, high=0.3, step=0.1), 0.25, RangeKnob(low=0.0, high=0.3)),
        ("dropout", RangeKnob(low=0.0, high=0.3, step=0.1), 0.2, RangeKnob(low=0.0, high=0.3, step=0.1)),
        ("beta2", RangeKnob(low=0.95, high=0.99), 0.9, RangeKnob(low=0.9, high=0.99)),
        ("n_layer", RangeKnob(low=4, high=12, step=4), 6, RangeKnob(low=4, high=12, step=2)),
        ("n_layer", RangeKnob(low=4, high=12, step=4), 16, RangeKnob(low=4, high=16, step=4)),
        ("n_layer", RangeKnob(low=4, high=12), 2, RangeKnob(low=2, high=12)),
        ("batch_size", ChoicesKnob(choices=(4, 8)), 12, ChoicesKnob(choices=(4, 8, 12))),
        ("batch_size", ChoicesKnob(choices=(4, 8)), 8, ChoicesKnob(choices=(4, 8))),
    ],
)
def test_widened(name: str, knob: Any, value: float, expected: Any) -> None:
    assert widened(name, knob, {name: value}, unit=1) == expected


def test_the_order_of_layers(tmp_path: Path) -> None:
    """File, profile, --baseline, --set."""
    text = TEXT + "profiles: {cpu: {baseline: {dropout: 0.2, n_layer: 9}, trials: 11}}\n"
    path = config(tmp_path, MINE)
    study = load(write(tmp_path, text), overrides=["baseline.dropout=0.05"], baseline=path, devices_have_cuda=False)
    assert (study.trials, study.baseline["n_layer"], study.baseline["dropout"]) == (11, 4, 0.05)
