"""Profiles, overrides, --data and --baseline: their order, the places they are reported at, the knobs they widen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import SpecError
from sweeps.study.knobs import RangeKnob
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
from tests.helpers.study_files import TEXT, small
from trainer.errors import UserError

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
