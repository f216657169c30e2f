"""Folders of tokens: ours, nanoGPT's, and refused folders."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.data_folders import meta_of_tokens
from trainer.data import dataset as dataset_module
from trainer.data.dataset import open_dataset, sampled_sha256
from trainer.errors import DataError


def nanogpt_folder(folder: Path, *, train: list[int], val: list[int], meta: object = None) -> Path:
    """Write a folder as nanoGPT's prepare.py does."""
    folder.mkdir(exist_ok=True)
    np.array(train, dtype=np.uint16).tofile(folder / "train.bin")
    np.array(val, dtype=np.uint16).tofile(folder / "val.bin")
    if meta is not None:
        (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    return folder


def prepared_folder(folder: Path, **changes: Any) -> Path:
    """Write a prepared folder by hand, from the description of the format."""
    folder.mkdir(exist_ok=True)
    np.arange(10, dtype=np.uint32).tofile(folder / "train.bin")
    np.arange(4, dtype=np.uint32).tofile(folder / "val.bin")
    splits = {
        "train": {"tokens": 10, "documents": 2, "bytes": 31, "sha256": "aa"},
        "val": {"tokens": 4, "documents": 1, "bytes": 14, "sha256": "bb"},
    }
    meta = {
        "format": "plateau-sweep/1",
        "fingerprint": "f00d",
        "vocab_size": 70000,
        "dtype": "uint32",
        "splits": splits,
        "tokenizer": {"name": "gpt2", "eot": 9},
    }
    (folder / "meta.json").write_text(json.dumps(meta | changes))
    return folder


def character_meta(text: str) -> dict[str, Any]:
    """Return a meta.pkl as shakespeare_char/prepare.py writes it."""
    characters = sorted(set(text))
    stoi = {character: index for index, character in enumerate(characters)}
    return {"vocab_size": len(characters), "itos": dict(enumerate(characters)), "stoi": stoi}


def test_a_prepared_folder_opens_with_what_its_meta_says(tmp_path: Path) -> None:
    dataset = open_dataset(prepared_folder(tmp_path))
    assert (dataset.path, dataset.vocab_size, dataset.dtype, dataset.fingerprint) == (tmp_path, 70000, "uint32", "f00d")
    assert (dataset.train.tokens, dataset.train.documents, dataset.train.sha256) == (10, 2, "aa")
    assert dataset.eot == 9
    assert dataset.bytes_per_token == 14 / 4
    assert dataset.tokens("train").tolist() == list(range(10))
    with pytest.raises(ValueError, match="read-only"):
        dataset.tokens("val")[0] = 1
    with pytest.raises(ValueError, match="'test' is none of train, val"):
        dataset.tokens("test")


def folder_with_sums(folder: Path) -> Path:
    """Write a prepared folder whose description has the checksums of its bins, and is as old as they are."""
    prepared_folder(folder)
    meta = json.loads((folder / "meta.json").read_text())
    for name, split in meta["splits"].items():
        split["sha256"] = hashlib.sha256((folder / f"{name}.bin").read_bytes()).hexdigest()
    (folder / "meta.json").write_text(json.dumps(meta))
    for path in folder.iterdir():
        os.utime(path, ns=(10**18, 10**18))
    return folder


def test_a_bin_that_has_changed_since_it_was_prepared_is_refused(tmp_path: Path) -> None:
    """It has as many tokens as before."""
    folder = folder_with_sums(tmp_path)
    open_dataset(folder)
    train = folder / "train.bin"
    train.write_bytes(train.read_bytes()[::-1])
    with pytest.raises(DataError, match=r"train.bin: has changed since it was prepared .* put it back as it was"):
        open_dataset(folder)


def test_a_copied_bin_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copying gives it a new time, and it holds what it held. So it is read, but not at every opening."""
    folder = folder_with_sums(tmp_path)
    for name in ("train.bin", "val.bin"):
        os.utime(folder / name, ns=(10**18 + 1, 10**18 + 1))
    open_dataset(folder)
    monkeypatch.setattr(dataset_module.hashlib, "file_digest", None)  # calling it would fail
    open_dataset(folder)


def test_bins_that_vanish_after_opening_are_reported(tmp_path: Path) -> None:
    dataset = open_dataset(prepared_folder(tmp_path))
    (tmp_path / "val.bin").unlink()
    with pytest.raises(DataError, match=r"val\.bin: cannot be opened"):
        dataset.tokens("val")


def test_a_nanogpt_folder_without_meta_has_gpt2s_padded_vocabulary(tmp_path: Path) -> None:
    dataset = open_dataset(nanogpt_folder(tmp_path, train=[15496, 995, 50256], val=[50303]))
    assert (dataset.vocab_size, dataset.dtype) == (50304, "uint16")
    assert (dataset.train.tokens, dataset.val.tokens) == (3, 1)
    assert (
        dataset.eot
        is dataset.train.documents
        is dataset.train.bytes
        is dataset.train.sha256
        is dataset.bytes_per_token
        is None
    )
    assert dataset.tokens("train").tolist() == [15496, 995, 50256]


@pytest.mark.parametrize("spelling", ["itos", "stoi", "list"])
def test_a_character_vocabulary_gives_bytes_per_token(tmp_path: Path, spelling: str) -> None:
    text = "naïve café, 你好 🙂!\n" * 3
    meta = character_meta(text)
    tokens = [meta["stoi"][character] for character in text]
    if spelling == "list":
        meta["itos"] = list(meta["itos"].values())
    kept = {
        "vocab_size": meta["vocab_size"],
        **({"stoi": meta["stoi"]} if spelling == "stoi" else {"itos": meta["itos"]}),
    }
    dataset = open_dataset(nanogpt_folder(tmp_path, train=tokens[:20], val=tokens, meta=kept))
    assert dataset.vocab_size == len(set(text))
    assert dataset.bytes_per_token == len(text.encode()) / len(text)
    assert dataset.train.bytes == len(text[:20].encode())


def test_a_vocabulary_that_is_spelled_in_part_gives_no_bytes(tmp_path: Path) -> None:
    folder = nanogpt_folder(tmp_path, train=[0, 1], val=[1], meta={"vocab_size": 3, "itos": {0: "a", 1: "b"}})
    assert open_dataset(folder).bytes_per_token is None


def test_another_programs_meta_json_is_not_ours(tmp_path: Path) -> None:
    folder = nanogpt_folder(tmp_path, train=[1, 2], val=[3])
    (folder / "meta.json").write_text('{"made_by": "someone"}')
    assert open_dataset(folder).train.tokens == 2


class Malicious:
    """An object that is pickled as a call of os.mkdir."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    folder = nanogpt_folder(tmp_path, train=[1], val=[1], meta={"vocab_size": 5, "itos": Malicious(target)})
    with pytest.raises(DataError, match=r"meta\.pkl: refused: it refers to (posix|nt)\.mkdir.*can run any code"):
        open_dataset(folder)
    assert not target.exists()
    pickle.loads((folder / "meta.pkl").read_bytes())  # the pickle really is malicious
    assert target.exists()


@pytest.mark.parametrize("value", [np.int64(65), {1, 2}, 3 + 4j, Path("x")], ids=lambda value: type(value).__name__)
def test_only_plain_values_are_read(tmp_path: Path, value: object) -> None:
    folder = nanogpt_folder(tmp_path, train=[1], val=[1], meta={"vocab_size": value})
    with pytest.raises(DataError, match=r"meta\.pkl"):
        open_dataset(folder)


@given(
    garbage=st.binary(max_size=40)
    | st.binary(max_size=40).map(lambda tail: pickle.dumps({"vocab_size": 5})[:-1] + tail)
)
def test_a_damaged_pickle_is_a_data_error(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    nanogpt_folder(folder, train=[1], val=[1])
    (folder / "meta.pkl").write_bytes(garbage)
    with contextlib.suppress(DataError):  # any other error fails the test
        assert open_dataset(folder).vocab_size > 1


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, size)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("val.bin"), r"val\.bin: no such file"),
        (cut("train.bin", 0), r"train\.bin: is empty"),
        (cut("train.bin", 38), r"38 bytes long, not a multiple of the 4 bytes of a uint32"),
        (cut("train.bin", 36), r"holds 9 tokens, but meta\.json says 10: the file has changed.*prepare it again"),
        (write("meta.json", "{"), r"meta\.json: is not JSON"),
        (write("meta.json", '{"format": "plateau-sweep/9"}'), r"'plateau-sweep/9', but this version reads"),
        (write("meta.json", '{"format": "plateau-sweep/1", "dtype": "uint16"}'), r"is incomplete.*vocab_size"),
        (lambda folder: prepared_folder(folder, dtype="float64"), r"dtype='float64' is none of"),
        (lambda folder: prepared_folder(folder, splits=[]), r"is incomplete"),
        (lambda folder: prepared_folder(folder, tokenizer={}), r"is incomplete.*eot"),
    ],
)
def test_a_damaged_prepared_folder_is_refused(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    folder = prepared_folder(tmp_path)
    damage(folder)
    with pytest.raises(DataError, match=message):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ({"train": [1], "val": []}, r"val\.bin: is empty"),
        (
            {"train": [1, 50304], "val": [1]},
            r"train\.bin: holds the uint16 token id 50304, but vocab_size=50304 \(nanoGPT's default without a meta",
        ),
        (
            {"train": [1], "val": [65], "meta": {"vocab_size": 65}},
            r"val\.bin: holds the uint16 token id 65.*\(meta\.pkl\)",
        ),
        ({"train": [1], "val": [1], "meta": {"itos": {}}}, r"vocab_size=None must be a whole number"),
        ({"train": [1], "val": [1], "meta": {"vocab_size": True}}, r"vocab_size=True must be a whole number"),
        ({"train": [1], "val": [1], "meta": [1]}, r"holds a list, not a dict"),
    ],
)
def test_a_damaged_nanogpt_folder_is_refused(tmp_path: Path, folder: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(nanogpt_folder(tmp_path, **folder))


def test_a_bin_cut_within_a_token_is_refused(tmp_path: Path) -> None:
    folder = nanogpt_folder(tmp_path, train=[1, 2], val=[1])
    cut("train.bin", 3)(folder)
    with pytest.raises(DataError, match=r"3 bytes long, not a multiple of the 2 bytes"):
        open_dataset(folder)


def test_a_token_out_of_range_is_found_beyond_the_first_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_module, "_CHUNK", 4)
    with pytest.raises(DataError, match="token id 60000"):
        open_dataset(nanogpt_folder(tmp_path, train=[1] * 9 + [60000], val=[1]))


def test_a_path_that_is_not_a_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(tmp_path / "nowhere")
    (tmp_path / "train.bin").write_bytes(b"ab")
    with pytest.raises(DataError, match="is a file, not a folder"):
        open_dataset(tmp_path / "train.bin")


def test_an_unfinished_preparation_is_refused(tmp_path: Path) -> None:
    folder = nanogpt_folder(tmp_path, train=[1, 2], val=[3])
    (folder / "journal.jsonl").write_text("")
    with pytest.raises(DataError, match="is running or was interrupted"):
        open_dataset(folder)


def test_the_fingerprint_covers_contents_and_vocabulary(tmp_path: Path) -> None:
    def fingerprint(name: str, **folder: Any) -> str:
        return open_dataset(nanogpt_folder(tmp_path / name, **folder)).fingerprint

    first = fingerprint("a", train=[1, 2], val=[3])
    assert fingerprint("b", train=[1, 2], val=[3]) == first
    others = [
        fingerprint("c", train=[1, 4], val=[3]),
        fingerprint("d", train=[1], val=[2, 3]),
        fingerprint("e", train=[3], val=[1, 2]),
        fingerprint("f", train=[1, 2], val=[3], meta={"vocab_size": 65}),
    ]
    assert len({first, *others}) == 5


def test_a_large_files_fingerprint_covers_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_module, "_WHOLE", 1000)
    monkeypatch.setattr(dataset_module, "_SAMPLE", 10)
    path = tmp_path / "train.bin"
    content = bytearray(4096)

    def fingerprint() -> str:
        path.write_bytes(content)
        return sampled_sha256(path)

    fingerprints = {fingerprint()}
    for position in (0, 4095, 2075):  # the first byte, the last, and the first of sample 32, at 4086 * 32 // 63
        content[position] = 1
        fingerprints.add(fingerprint())
    content.append(0)
    fingerprints.add(fingerprint())
    assert len(fingerprints) == 5


def test_opening_data_needs_neither_torch_nor_pyarrow() -> None:
    heavy = "{'torch', 'pyarrow', 'tiktoken', 'optuna'}"
    code = f"import sys, trainer.data.dataset; print(sorted({heavy} & sys.modules.keys()))"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
    )


PREPARED = meta_of_tokens(train=4, val=2)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"vocab_size": 257', '"vocab_size": 1e400'),
        ('"vocab_size": 257', '"vocab_size": "257"'),
        ('"vocab_size": 257', '"vocab_size": -Infinity'),
        ('"eot": 256', '"eot": 257'),
        ('"eot": 256', '"eot": -1'),
        ('"bytes": 80,', '"bytes": NaN,'),
        ('"documents": 2', '"documents": 2.5'),
        ('"short": 3', '"short": "3"'),
        ('"short": 3', '"unheard of": 3'),
        ('"short": 30, ', ""),
        ('"min_chars": 200', '"min_chars": 1e999'),
        ('{"min_chars": 200}', "[]"),
        ('{"short": 30, "duplicate": 900}', "7"),
        ('"tokens": 4', '"tokens": null'),
    ],
)
def test_a_damaged_meta_json_is_named(tmp_path: Path, old: str, new: str) -> None:
    folder = nanogpt_folder(tmp_path, train=[1, 2, 3, 4], val=[3, 4])
    text = json.dumps(PREPARED)
    (folder / "meta.json").write_text(text)
    assert open_dataset(folder).vocab_size == 257
    assert old in text
    (folder / "meta.json").write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=r"meta\.json: is incomplete .*prepare it again"):
        open_dataset(folder)


@pytest.mark.parametrize("content", ["[" * 100_000, "", "{", "\x00", '{"format": 1e', "9" * 5000])
def test_a_meta_json_that_is_no_json_is_named(tmp_path: Path, content: str) -> None:
    folder = nanogpt_folder(tmp_path, train=[1], val=[1])
    (folder / "meta.json").write_text(content)
    with pytest.raises(DataError, match=r"meta\.json: is not JSON"):
        open_dataset(folder)


def test_a_vocabulary_whose_ids_are_no_numbers_spells_nothing(tmp_path: Path) -> None:
    folder = nanogpt_folder(tmp_path, train=[1], val=[1], meta={"vocab_size": 2, "stoi": {"a": {}, "b": [], "c": "d"}})
    assert open_dataset(folder).val.bytes is None
