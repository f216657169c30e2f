"""Preparing a corpus: the content of the bins, resuming after interruptions, and the errors."""

from __future__ import annotations

import base64
import errno
import functools
import hashlib
import json
import os
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data import encode, journal, parquet, selection
from trainer.data import prepare as preparing
from trainer.data.dataset import Dataset, open_dataset
from trainer.data.encode import PrepareProgress, token_dtype
from trainer.data.prepare import EmbeddedSource, ParquetSource, TokenizerChoice
from trainer.data.selection import Options
from trainer.data.tokenizer import Bytes, gpt2
from trainer.errors import DataError

prepare = functools.partial(preparing.prepare, threads=2)
BYTES = TokenizerChoice(type="bytes")
GPT2 = TokenizerChoice(type="gpt2")
SOME = Options(val_fraction=0.3, min_chars=10)
WORDS = ["the", "loss", "is", "flat", "naïve", "你好", "🙂", "\n\n", "plateau", "<|endoftext|>"]


@functools.cache
def corpus(count: int = 60, *, seed: int = 0) -> tuple[str, ...]:
    """Return documents of a few to a hundred words, some of them twice, some too short."""
    generator = random.Random(seed)
    texts = [" ".join(generator.choices(WORDS, k=generator.randrange(1, 100))) for _ in range(count)]
    return (*texts, *texts[:5], "short", texts[3] + "\n")


def write(path: Path, texts: Iterable[str | None], *, rows: int = 10) -> ParquetSource:
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), path, row_group_size=rows)
    return ParquetSource(files=(str(path),))


def expected(texts: Iterable[str], *, options: Options = SOME) -> dict[str, list[str]]:
    """Return the documents of each split, computed the slow way."""
    documents: dict[str, list[str]] = {"train": [], "val": []}
    seen = set()
    for text in texts:
        if len(text) >= options.min_chars and text.strip() not in seen:
            seen.add(text.strip())
            salt = options.seed.to_bytes(16, "little")
            digest = hashlib.blake2b(text.strip().encode(), digest_size=16, salt=salt).digest()
            position = int.from_bytes(digest[:8], "big") / 2**64
            documents["val" if position < options.val_fraction else "train"].append(text)
    return documents


def decoded(dataset: Dataset, split: str, *, eot: int, decode: Callable[[list[int]], str]) -> list[str]:
    """Return the documents of a split, decoded from its bin."""
    tokens = dataset.tokens(split)
    ends = np.flatnonzero(tokens == eot)
    assert ends[-1] == len(tokens) - 1
    return [decode(document[:-1].tolist()) for document in np.split(tokens, ends[:-1] + 1)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["gpt2", "bytes", "bpe"])
def test_the_bins_hold_the_documents(tmp_path: Path, kind: str) -> None:
    texts = corpus()
    source = write(tmp_path / "web.parquet", [*texts, None])
    choice = TokenizerChoice(type=kind, vocab_size=300 if kind == "bpe" else 0)
    dataset = prepare(source, choice, tmp_path / "data", options=SOME)
    assert dataset == open_dataset(dataset.path)
    vocab_size, eot = {"gpt2": (50304, 50256), "bytes": (257, 256), "bpe": (300, 299)}[kind]
    assert (dataset.vocab_size, dataset.dtype) == (vocab_size, "uint16")
    decode: Callable[[list[int]], str] = Bytes().decode if kind == "bytes" else gpt2().decode
    if kind == "bpe":
        (vocabulary,) = (tmp_path / "data").glob("bpe300-*.tiktoken")
        tokens_of = {
            int(rank): base64.b64decode(token) for token, rank in map(str.split, vocabulary.read_text().splitlines())
        }
        assert len(tokens_of) == 299
        decode = lambda tokens: b"".join(tokens_of[token] for token in tokens).decode()  # noqa: E731
    for split, documents in expected(texts).items():
        assert decoded(dataset, split, eot=eot, decode=decode) == documents
        recorded = getattr(dataset, split)
        assert (recorded.documents, recorded.bytes) == (len(documents), sum(len(text.encode()) for text in documents))
        content = (dataset.path / f"{split}.bin").read_bytes()
        assert recorded.sha256 == hashlib.sha256(content).hexdigest()
        assert recorded.tokens == len(content) // 2
    meta = json.loads((dataset.path / "meta.json").read_text())
    short = sum(len(text) < 10 for text in texts)
    kept = sum(map(len, expected(texts).values()))
    duplicate = len(texts) - short - kept
    assert duplicate >= 5
    assert meta["left_out"] == {"null": 1, "undecodable": 0, "short": short, "duplicate": duplicate}
    assert pickle.loads((dataset.path / "meta.pkl").read_bytes()) == {"vocab_size": vocab_size}
    assert set(contents(dataset.path)) == {"train.bin", "val.bin", "meta.json", "meta.pkl"}
    assert dataset.path.name == f"web-{'bpe300' if kind == 'bpe' else kind}-{dataset.fingerprint[:12]}"


def test_gpt2_tokens_are_tiktokens(tmp_path: Path) -> None:
    texts = [f"Hello world {number}, said the naïve {number}th plateau" for number in range(20)]
    dataset = prepare(write(tmp_path / "a.parquet", texts), GPT2, tmp_path, options=SOME)
    assert dataset.tokens("train")[:2].tolist() == [15496, 995]
    encoding = gpt2()
    stream = [token for text in expected(texts)["val"] for token in [*encoding.encode_to_numpy(text).tolist(), 50256]]
    assert dataset.tokens("val").tolist() == stream


def test_threads_and_row_groups_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_CHUNK", 500)
    digests = set()
    for threads, rows in ((1, 7), (4, 7), (2, 1000)):
        source = write(tmp_path / f"{rows}.parquet", corpus(), rows=rows)
        dataset = prepare(source, BYTES, tmp_path / str(threads), options=SOME, threads=threads)
        digests.add((dataset.train.sha256, dataset.val.sha256))
    assert len(digests) == 1


def test_the_given_number_of_threads_encodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, max_workers: int, **options: Any) -> None:
            sizes.append(max_workers)
            super().__init__(max_workers, **options)

    monkeypatch.setattr(encode, "ThreadPoolExecutor", Pool)
    source = write(tmp_path / "a.parquet", corpus())
    for threads in (1, 3):
        prepare(source, BYTES, tmp_path / str(threads), options=SOME, threads=threads)
    assert sizes == [1, 3]


def test_the_validation_split_is_stable_as_shards_are_added(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    write(folder / "b.parquet", corpus(seed=1))
    source = ParquetSource(files=(str(folder),))
    few = prepare(source, BYTES, tmp_path / "data", options=SOME)
    write(folder / "a.parquet", corpus(seed=2))
    many = prepare(source, BYTES, tmp_path / "data", options=SOME)
    assert few.fingerprint != many.fingerprint
    for split in ("train", "val"):
        before, after = (set(decoded(dataset, split, eot=256, decode=Bytes().decode)) for dataset in (few, many))
        assert before < after


def test_the_same_request_finds_the_same_folder_without_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "a.parquet", corpus())
    seen: list[PrepareProgress] = []
    first = prepare(source, GPT2, tmp_path / "data", options=SOME, progress=seen.append)
    assert seen
    monkeypatch.setattr(tiktoken, "Encoding", None)  # the vocabulary isn't needed either
    seen.clear()
    assert prepare(source, GPT2, tmp_path / "data", options=SOME, progress=seen.append) == first
    assert not seen


def test_another_source_vocabulary_or_option_is_another_folder(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", corpus())
    requests = [
        (source, BYTES, SOME),
        (source, TokenizerChoice(type="bpe", vocab_size=270), SOME),
        (source, TokenizerChoice(type="bpe", vocab_size=271), SOME),
        (source, BYTES, Options(val_fraction=0.4, min_chars=10)),
        (source, BYTES, Options(val_fraction=0.3, min_chars=11)),
        (source, BYTES, Options(val_fraction=0.3, min_chars=10, dedup=False)),
        (source, BYTES, Options(val_fraction=0.3, min_chars=10, seed=7)),
        (write(tmp_path / "b.parquet", corpus(seed=1)), BYTES, SOME),
    ]
    datasets = [prepare(source, choice, tmp_path, options=options) for source, choice, options in requests]
    assert len({dataset.path for dataset in datasets}) == len(requests)
    assert len({dataset.fingerprint for dataset in datasets}) == len(requests)


def test_the_embedded_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for number, text in enumerate(corpus()):
        (library / f"{number:03}.py").write_text(text, newline="")
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(library))
    dataset = prepare(EmbeddedSource(), BYTES, tmp_path / "data", options=SOME)
    assert dataset.path.name.startswith("embedded-bytes-")
    assert decoded(dataset, "val", eot=256, decode=Bytes().decode) == expected(corpus())["val"]


def test_the_vocabulary_is_trained_on_training_documents_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    train = preparing.tokenizers.train_bpe
    monkeypatch.setattr(
        preparing.tokenizers, "train_bpe", lambda texts, **size: seen.append(texts) or train(texts, **size)
    )
    monkeypatch.setattr(preparing, "BPE_SAMPLE", 2000)
    source = write(tmp_path / "a.parquet", corpus())
    choice = TokenizerChoice(type="bpe", vocab_size=270)
    for _ in range(2):
        prepare(source, choice, tmp_path / "data", options=SOME)
    (texts,) = seen
    assert "".join(texts) == "".join(expected(corpus())["train"])[:2000]


def test_ids_above_65535_take_four_bytes() -> None:
    class Large(Bytes):
        n_tokens = 65537

    assert token_dtype(Large()) == np.uint32
    Large.n_tokens = 65536
    assert token_dtype(Large()) == np.uint16


# --- interrupted

KILLED_AFTER = """
import os, signal, sys
from pathlib import Path
from trainer.data.prepare import ParquetSource, TokenizerChoice, prepare
from trainer.data.selection import Options

source, root, kind, groups = sys.argv[1:]

def progress(now):
    journal = next(Path(root).glob("*/journal.jsonl"))
    if len(journal.read_bytes().splitlines()) > int(groups):
        os.kill(os.getpid(), signal.SIGKILL)

prepare(ParquetSource(files=(source,)), TokenizerChoice(type=kind), Path(root),
        threads=2, options=Options(val_fraction=0.3, min_chars=10), progress=progress)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_preparation_resumes_and_writes_the_same_bytes(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", corpus())
    uninterrupted = prepare(source, GPT2, tmp_path / "whole", options=SOME)
    root = tmp_path / "killed"
    for groups in (1, 4):
        process = subprocess.run([sys.executable, "-c", KILLED_AFTER, *source.files, str(root), "gpt2", str(groups)])
        assert process.returncode == -signal.SIGKILL
        (folder,) = (path for path in root.iterdir() if path.is_dir())
        assert not (folder / "train.bin").exists()
        with pytest.raises(DataError, match="is running or was interrupted"):
            open_dataset(folder)
    seen: list[PrepareProgress] = []
    resumed = prepare(source, GPT2, root, options=SOME, progress=seen.append)
    assert contents(resumed.path) == contents(uninterrupted.path)
    assert seen[0].done == seen[0].resumed > 0
    assert seen[0].tokens > 0


class Stop(Exception):
    """The interruption of a preparation."""


def interrupted(source: ParquetSource, root: Path, *, groups: int) -> Path:
    """Return a folder whose preparation stopped after some row groups."""

    def progress(now: PrepareProgress) -> None:
        (path,) = root.glob("*/journal.jsonl")
        if len(path.read_bytes().splitlines()) > groups:
            raise Stop

    with pytest.raises(Stop):
        prepare(source, BYTES, root, options=SOME, progress=progress)
    return next(path for path in root.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[ParquetSource, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("whole")
    source = write(folder / "a.parquet", corpus())
    return source, contents(prepare(source, BYTES, folder, options=SOME).path)


@settings(max_examples=30)
@given(draw=st.data())
def test_the_bytes_are_the_same_whatever_an_interruption_damages(
    tmp_path_factory: pytest.TempPathFactory, whole: tuple[ParquetSource, dict[str, bytes]], draw: st.DataObject
) -> None:
    source, uninterrupted = whole
    root = tmp_path_factory.mktemp("damaged")
    folder = interrupted(source, root, groups=draw.draw(st.integers(1, 6)))
    for path in sorted(folder.iterdir()):
        content = bytearray(path.read_bytes())
        position = draw.draw(st.integers(0, len(content)))
        match draw.draw(st.sampled_from(["whole", "cut", "flip", "longer", "gone"])):
            case "cut":
                path.write_bytes(content[:position])
            case "flip" if position < len(content):
                content[position] ^= 1 << draw.draw(st.integers(0, 7))
                path.write_bytes(content)
            case "longer":
                path.write_bytes(bytes(content) + bytes(position))
            case "gone":
                path.unlink()
    assert contents(prepare(source, BYTES, root, options=SOME).path) == uninterrupted


def test_an_interruption_keeps_finished_row_groups(
    tmp_path: Path, whole: tuple[ParquetSource, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, uninterrupted = whole
    folder = interrupted(source, tmp_path, groups=3)
    for name in ("train", "val", "hashes"):  # as if killed while writing the next group
        with (folder / f"{name}.part").open("ab") as file:
            file.write(b"torn")
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"files": {"train": [')
    started = []
    read = parquet.ParquetDocuments.read
    monkeypatch.setattr(
        parquet.ParquetDocuments, "read", lambda self, start: started.append(start) or read(self, start)
    )
    assert contents(prepare(source, BYTES, tmp_path, options=SOME).path) == uninterrupted
    assert started == [3]


@pytest.mark.parametrize("call", range(1, 9))
def test_an_interruption_anywhere_while_finishing(
    tmp_path: Path, whole: tuple[ParquetSource, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Finishing renames two bins and two small files and deletes four others; it may stop before any of these."""
    source, uninterrupted = whole
    calls = 0

    def stopping(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                raise Stop
            return real(*arguments, **options)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopping(Path.replace))
        patch.setattr(Path, "unlink", stopping(Path.unlink))
        with pytest.raises(Stop):
            prepare(source, BYTES, tmp_path, options=SOME)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    if not (folder / "meta.json").exists():
        with pytest.raises(DataError, match="is running or was interrupted"):
            open_dataset(folder)
    assert contents(prepare(source, BYTES, tmp_path, options=SOME).path) == uninterrupted


def test_a_second_preparer_waits_for_the_first(tmp_path: Path, whole: tuple[ParquetSource, dict[str, bytes]]) -> None:
    source, uninterrupted = whole
    path = lock_of(source, tmp_path)
    first = filelock.FileLock(path)
    stages: list[str] = []

    def progress(now: PrepareProgress) -> None:
        if not stages:
            assert first.is_locked
            first.release()
        else:
            with pytest.raises(filelock.Timeout):
                filelock.FileLock(path).acquire(timeout=0)
        stages.append(now.stage)

    with first:
        dataset = prepare(source, BYTES, tmp_path, options=SOME, progress=progress)
    assert contents(dataset.path) == uninterrupted
    assert stages[0] == "waiting for another preparation"
    assert set(stages[1:]) == {"tokenizing"}


def test_a_folder_that_another_preparer_has_finished_is_used(
    tmp_path: Path, whole: tuple[ParquetSource, dict[str, bytes]]
) -> None:
    source, uninterrupted = whole
    lock = filelock.FileLock(lock_of(source, tmp_path))
    stages: list[str] = []

    def progress(now: PrepareProgress) -> None:
        stages.append(now.stage)
        for name, content in uninterrupted.items():
            (tmp_path / Path(lock.lock_file).stem[1:] / name).write_bytes(content)
        lock.release()

    with lock:
        dataset = prepare(source, BYTES, tmp_path, options=SOME, progress=progress)
    assert stages == ["waiting for another preparation"]
    assert contents(dataset.path) == uninterrupted


def lock_of(source: ParquetSource, root: Path) -> Path:
    """Return the lock file that a preparation of `source` takes."""
    folder = prepare(source, BYTES, root.with_name(f"{root.name}-elsewhere"), options=SOME).path
    return root / f".{folder.name}.lock"


# --- failures


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_reported_and_the_work_resumes_later(
    tmp_path: Path, whole: tuple[ParquetSource, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    source, uninterrupted = whole
    writes = 0
    real = journal._write

    def full(file: Any, view: memoryview) -> None:
        nonlocal writes
        writes += 1
        if writes == 9:
            real(file, view[: len(view) // 2])
            raise OSError(code, os.strerror(code))
        real(file, view)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_write", full)
        with pytest.raises(
            DataError, match=r"no space left to write the data.*free some and run the same command again"
        ):
            prepare(source, BYTES, tmp_path, options=SOME)
    seen: list[PrepareProgress] = []
    assert contents(prepare(source, BYTES, tmp_path, options=SOME, progress=seen.append).path) == uninterrupted
    assert seen[0].resumed > 0


def test_a_short_write_is_completed() -> None:
    class Slow:
        written = b""

        def write(self, view: memoryview) -> int:
            self.written += bytes(view[:3])
            return min(3, len(view))

    slow = Slow()
    journal._write(slow, memoryview(b"four score"))  # type: ignore[arg-type]
    assert slow.written == b"four score"


def test_a_root_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", corpus())
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/a-bytes-.*: cannot be written \(Not a directory\)"):
        prepare(source, BYTES, tmp_path / "file", options=SOME)


def test_a_source_that_changes_leaves_nothing_to_resume(tmp_path: Path) -> None:
    source = write(tmp_path / "a.parquet", corpus())

    def change(now: PrepareProgress) -> None:
        os.utime(source.files[0], ns=(now.done, now.done))

    with pytest.raises(DataError, match="changed while it was read"):
        prepare(source, BYTES, tmp_path / "data", options=SOME, progress=change)
    assert not list((tmp_path / "data").glob("*/*"))


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["one document alone"], SOME, "the corpus has one usable document"),
        (["a", "b", None], SOME, r"none of 3 documents is usable \(1 null, 0 not UTF-8, 2 shorter"),
        (
            corpus()[:4],
            Options(val_fraction=1e-9, min_chars=1),
            r"puts none of the 4 documents into the validation split; raise it to",
        ),
    ],
)
@pytest.mark.parametrize("choice", [BYTES, TokenizerChoice(type="bpe", vocab_size=257)], ids=lambda choice: choice.type)
def test_a_corpus_that_is_too_small_is_reported(
    tmp_path: Path, texts: list[str | None], options: Options, message: str, choice: TokenizerChoice
) -> None:
    with pytest.raises(DataError, match=message):
        prepare(write(tmp_path / "a.parquet", texts), choice, tmp_path, options=options)


def test_an_unknown_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="type='gpt3' is none of gpt2, bpe, bytes"):
        prepare(write(tmp_path / "a.parquet", corpus()), TokenizerChoice(type="gpt3"), tmp_path)


def test_a_fault_while_encoding_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(self: Bytes, text: str) -> None:
        if text:
            raise ZeroDivisionError

    monkeypatch.setattr(Bytes, "encode_to_numpy", fault)
    with pytest.raises(ZeroDivisionError):
        prepare(write(tmp_path / "a.parquet", corpus()), BYTES, tmp_path, options=SOME)


def test_progress_has_a_rate_and_the_time_left(tmp_path: Path) -> None:
    seen: list[PrepareProgress] = []
    source = write(tmp_path / "a.parquet", corpus())
    dataset = prepare(source, BYTES, tmp_path, options=SOME, progress=seen.append)
    assert [now.done for now in seen] == sorted(now.done for now in seen)
    assert (seen[0].done, seen[-1].done) == (0, seen[-1].total)
    assert seen[-1].tokens == dataset.train.tokens + dataset.val.tokens
    resumed = PrepareProgress(stage="tokenizing", done=70, total=100, tokens=0, seconds=2.0, resumed=50)
    assert (resumed.rate, resumed.seconds_left) == (10.0, 3.0)
    idle = PrepareProgress(stage="tokenizing", done=50, total=100, tokens=0, seconds=0.0, resumed=50)
    assert idle.rate is idle.seconds_left is None


def test_preparing_never_imports_torch() -> None:
    code = "import sys, trainer.data.prepare; print('torch' in sys.modules, 'tokenizers' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert process.stdout.strip() == "False False"
