"""Bins of other types than nanoGPT's: recognised by their ids, or refused by what they begin with."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.dataset import open_dataset
from trainer.errors import DataError

CHARACTERS, DNA, GPT2, CL100K, GEMMA = 65, 4, 50257, 100277, 262144


def folder_of(folder: Path, ids: np.ndarray, dtype: str, *, vocab_size: int | None = None) -> Path:
    """Write a nanoGPT folder with these ids in train.bin and their last tenth in val.bin."""
    folder.mkdir(exist_ok=True)
    (folder / "meta.pkl").unlink(missing_ok=True)
    for name, part in (("train", ids), ("val", ids[-max(1, len(ids) // 10) :])):
        part.astype(dtype).tofile(folder / f"{name}.bin")
    if vocab_size is not None:
        (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocab_size}))
    return folder


def text_like(vocab_size: int, *, count: int = 4000, seed: int = 1) -> np.ndarray:
    """Return ids of a vocabulary, small ones more often, as a tokenizer gives them."""
    return np.random.default_rng(seed).zipf(1.2, count) % vocab_size


@pytest.mark.parametrize("vocab_size", [DNA, CHARACTERS, 256, 2048, GPT2, 65536, CL100K, GEMMA])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int32", "int64"])
def test_the_type_is_recognised_with_a_meta_pkl(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    if vocab_size - 1 > np.iinfo(dtype).max:
        pytest.skip("the type can't hold the vocabulary")
    ids = text_like(vocab_size)
    ids[0] = vocab_size - 1
    dataset = open_dataset(folder_of(tmp_path, ids, dtype, vocab_size=vocab_size))
    assert dataset.tokens("train").tolist() == ids.tolist()
    assert (dataset.train.tokens, dataset.val.tokens) == (4000, 400)
    assert bool(dataset.notes) == (dtype != "uint16")


@pytest.mark.parametrize("vocab_size", [DNA, CHARACTERS, 256, 2048, GPT2])
@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int64"])
def test_the_type_is_recognised_without_a_meta_pkl(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    ids = text_like(vocab_size)
    dataset = open_dataset(folder_of(tmp_path, ids, dtype))
    assert dataset.tokens("train").tolist() == ids.tolist()
    assert dataset.vocab_size == 50304


@pytest.mark.parametrize("vocab_size", [CL100K, GEMMA])
@pytest.mark.parametrize("dtype", ["uint32", "int64"])
def test_a_large_vocabulary_without_a_meta_pkl_is_not_taken_for_uint16(
    tmp_path: Path, vocab_size: int, dtype: str
) -> None:
    ids = text_like(vocab_size)
    ids[0] = vocab_size - 1
    words = (
        rf"train\.bin: holds the u{dtype.removeprefix('u')} token id {vocab_size - 1}, .*write the vocabulary's size"
    )
    with pytest.raises(DataError, match=words):
        open_dataset(folder_of(tmp_path, ids, dtype))


def test_single_bytes_without_a_meta_pkl_are_recognised(tmp_path: Path) -> None:
    ids = text_like(CHARACTERS)
    assert open_dataset(folder_of(tmp_path, ids, "uint8")).tokens("train").tolist() == ids.tolist()


def test_ids_that_were_cut_to_uint16_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"uint16 ends at 65535: larger ids were cut\. Write the bins as uint32"):
        open_dataset(folder_of(tmp_path, text_like(CL100K) % 65536, "uint16", vocab_size=CL100K))


@given(ids=st.lists(st.integers(0, 50303), min_size=40, max_size=200), seed=st.integers(0, 9))
def test_uint16_ids_stay_uint16(tmp_path_factory: pytest.TempPathFactory, ids: list[int], seed: int) -> None:
    """Whatever they are, unless every other one is 0."""
    ids[1], ids[3] = max(1, ids[1]), max(20, ids[3])
    folder = folder_of(tmp_path_factory.getbasetemp() / "ids", np.array(ids), "uint16", vocab_size=50304)
    assert open_dataset(folder).dtype == "uint16"
    assert open_dataset(folder_of(folder, np.array(ids), "uint16")).train.tokens == len(ids)


def test_the_type_is_told_from_the_whole_file(tmp_path: Path) -> None:
    """Eight megabytes that begin with zeros: their first part could have any type."""
    ids = np.concatenate([np.zeros(1_000_000, dtype=int), text_like(GPT2, count=3_000_000)])
    assert open_dataset(folder_of(tmp_path, ids, "uint16")).dtype == "uint16"


def llmc(magic: int, tokens: int) -> bytes:
    header = np.zeros(256, dtype=np.int32)
    header[:3] = magic, 1, tokens
    return header.tobytes()


def saved(ids: np.ndarray, path: Path) -> bytes:
    np.save(path, ids)
    return path.with_suffix(".npy").read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (llmc(20240520, 60000) + bytes(8000), r"1024-byte header of llm\.c .*60,000 uint16 tokens.*tail -c \+1025"),
        (llmc(20240801, 9) + bytes(800), r"1024-byte header of llm\.c .*9 uint32 tokens"),
        ("lake stone winter bread, größe 中文\n".encode() * 300, r"is text \('lake stone"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "is a Git LFS pointer.*git lfs pull"),
        (gzip.compress(bytes(1000), mtime=0), "is compressed with gzip"),
        (b"PK\x03\x04" + bytes(1000), "is a zip archive"),
        (b"\x93NUMPY\x01\x00" + bytes(1000), "is an .npy file"),
    ],
)
def test_files_that_are_no_raw_ids_are_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    folder = folder_of(tmp_path, text_like(GPT2), "uint16")
    (folder / "val.bin").write_bytes(content)
    with pytest.raises(DataError, match=rf"val\.bin: .*{words}"):
        open_dataset(folder)


def test_the_bytes_of_a_text_may_be_its_ids(tmp_path: Path) -> None:
    ids = np.frombuffer(b"lake stone winter bread\n" * 300, dtype=np.uint8)
    assert open_dataset(folder_of(tmp_path, ids, "uint8", vocab_size=256)).tokens("train").tolist() == ids.tolist()


def test_what_np_save_writes_has_the_beginning_that_is_refused(tmp_path: Path) -> None:
    assert saved(text_like(GPT2), tmp_path / "ids").startswith(b"\x93NUMPY")


def test_a_path_one_level_too_high_names_the_folders_below(tmp_path: Path) -> None:
    folder_of(tmp_path / "words", text_like(CHARACTERS), "uint16")
    (tmp_path / "deeper").mkdir()
    folder_of(tmp_path / "deeper" / "books", text_like(CHARACTERS), "uint16")
    with pytest.raises(
        DataError, match=r"train\.bin: no such file; name a folder below it: .*/deeper/books, .*/words$"
    ):
        open_dataset(tmp_path)
