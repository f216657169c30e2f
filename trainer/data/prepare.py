"""The preparation of a corpus: a folder of tokens that this trainer and nanoGPT can read.

The folder's name ends in a fingerprint of the sources, the vocabulary and the options, so the same request finds the
same folder. A killed preparation resumes after its last finished row group and writes the same bytes as an
uninterrupted run. Memory is bounded, except for one hash per document.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import filelock

from trainer.data import tokenizer as tokenizers
from trainer.data.corpus import EmbeddedCorpus
from trainer.data.dataset import FORMAT, JOURNAL, META, SPLITS, Dataset, open_dataset
from trainer.data.documents import Documents
from trainer.data.encode import HASHES, PrepareProgress, token_dtype, write_tokens
from trainer.data.files import SourceChanged
from trainer.data.journal import Journal, remove, write_file, writing
from trainer.data.parquet import ParquetDocuments
from trainer.data.selection import Options, Sieve
from trainer.data.tokenizer import Tokenizer
from trainer.errors import DataError

BPE_SAMPLE = 10_000_000
"""Characters of text, from the first training documents, that a vocabulary is trained on."""

_PARTS = (*SPLITS, HASHES)


@dataclass(frozen=True, kw_only=True)
class ParquetSource:
    """Parquet files with a column of text: paths, globs, folders, hf:// and other URLs that fsspec knows."""

    files: tuple[str, ...]
    text: str = "text"


@dataclass(frozen=True, kw_only=True)
class EmbeddedSource:
    """The sources of the running Python's standard library."""


@dataclass(frozen=True, kw_only=True)
class TokenizerChoice:
    """The choice of a tokenizer: gpt2 (`file`: its vocabulary on disk), bpe (trained, `vocab_size` tokens) or bytes."""

    type: str
    vocab_size: int = 0
    file: str | None = None


def prepare(
    source: ParquetSource | EmbeddedSource,
    tokenizer: TokenizerChoice,
    root: Path,
    *,
    threads: int,
    options: Options = Options(),  # noqa: B008 - it is frozen
    progress: Callable[[PrepareProgress], None] | None = None,
) -> Dataset:
    """Tokenize a source into `<root>/<source>-<tokenizer>-<fingerprint[:12]>`, or return that folder if it is complete.

    Encodes in `threads` threads. A second process that prepares the same folder waits for the first. Raises DataError,
    also if the training or the validation split would stay empty.
    """
    root = Path(root).expanduser().absolute()
    report = progress or (lambda _: None)
    documents: Documents
    if isinstance(source, ParquetSource):
        documents = ParquetDocuments(source.files, text=source.text)
    else:
        documents = EmbeddedCorpus()
    vocabulary = _vocabulary(tokenizer, documents, root, options, report)
    key = _key(FORMAT, documents.fingerprint, vocabulary.fingerprint, vocabulary.vocab_size, asdict(options))
    folder = root / f"{documents.name}-{vocabulary.name}-{key[:12]}"
    if not _complete(folder):
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with _locked(root / f".{folder.name}.lock", report):
            if not (folder / META).exists():  # another process may have finished it meanwhile
                vocabulary.encode_to_numpy("")  # fail here, not in a thread, if the vocabulary is missing
                _tokenize(documents, vocabulary, folder, key=key, options=options, threads=threads, report=report)
            remove(folder, _PARTS)
    dataset = open_dataset(folder)
    return replace(dataset, notes=documents.notes + dataset.notes)


def _complete(folder: Path) -> bool:
    return (folder / META).exists() and not (folder / JOURNAL).exists()


def _key(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@contextmanager
def _locked(path: Path, report: Callable[[PrepareProgress], None]) -> Iterator[None]:
    """Hold a lock file. If another process holds it, report the wait first."""
    lock = filelock.FileLock(path)
    with writing(path.parent):
        acquired = _try_acquire(lock)
    if not acquired:
        report(PrepareProgress(stage="waiting for another preparation", done=0, total=0, tokens=0, seconds=0.0))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _try_acquire(lock: filelock.BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    return True


def _vocabulary(
    choice: TokenizerChoice,
    documents: Documents,
    root: Path,
    options: Options,
    report: Callable[[PrepareProgress], None],
) -> Tokenizer:
    """Return the chosen tokenizer. A trained vocabulary is saved in `root` and trained only once."""
    if choice.type == "gpt2":
        return tokenizers.gpt2(choice.file)
    if choice.type == "bytes":
        return tokenizers.Bytes()
    if choice.type != "bpe":
        raise DataError(f"tokenizer.type={choice.type!r} is none of gpt2, bpe, bytes")
    library = importlib.metadata.version("tokenizers")
    key = _key(documents.fingerprint, asdict(options), choice.vocab_size, BPE_SAMPLE, library)
    path = root / f"bpe{choice.vocab_size}-{key[:12]}.tiktoken"
    if not path.exists():
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f".{path.name}.lock", report):
            if not path.exists():  # another process may have trained it meanwhile
                _train_vocabulary(path, documents, choice.vocab_size, options, report)
    return tokenizers.read_bpe(path)


def _train_vocabulary(
    path: Path, documents: Documents, vocab_size: int, options: Options, report: Callable[[PrepareProgress], None]
) -> None:
    """Train a byte-pair vocabulary on a sample of the training documents and save it as `path`."""
    started = time.monotonic()
    texts = _sample(documents, options)
    size = sum(map(len, texts))
    report(PrepareProgress(stage="training the vocabulary", done=0, total=size, tokens=0, seconds=0.0))
    write_file(path, tokenizers.dump_ranks(tokenizers.train_bpe(texts, vocab_size=vocab_size)))
    seconds = time.monotonic() - started
    report(PrepareProgress(stage="training the vocabulary", done=size, total=size, tokens=0, seconds=seconds))


def _sample(documents: Documents, options: Options) -> list[str]:
    """Return the first training documents, together at most BPE_SAMPLE characters; the last may be cut."""
    sieve = Sieve(options)
    texts: list[str] = []
    missing = BPE_SAMPLE
    for chunk in sieve.sift(documents):
        for document in chunk.documents:
            if document.split == "train" and missing:
                texts.append(document.text[:missing])
                missing -= len(texts[-1])
        if not missing:
            return texts
    sieve.check_splits()
    return texts


def _tokenize(
    documents: Documents,
    vocabulary: Tokenizer,
    folder: Path,
    *,
    key: str,
    options: Options,
    threads: int,
    report: Callable[[PrepareProgress], None],
) -> None:
    """Fill the folder, resuming from a journal with the same key; meta.json is written last."""
    sieve = Sieve(options)
    try:
        with Journal(folder, _PARTS, key=key) as journal:
            write_tokens(documents, vocabulary, sieve, journal, threads=threads, report=report)
            sieve.check_splits()
            sizes = {split: journal.size(split) for split in SPLITS}
            journal.finish(SPLITS)
    except SourceChanged:
        remove(folder, _PARTS)
        raise
    meta = _meta(documents, vocabulary, sieve, folder, key=key, options=options, sizes=sizes)
    write_file(folder / "meta.pkl", pickle.dumps({"vocab_size": vocabulary.vocab_size}))
    write_file(folder / META, json.dumps(meta, indent=1).encode() + b"\n")


def _meta(
    documents: Documents,
    vocabulary: Tokenizer,
    sieve: Sieve,
    folder: Path,
    *,
    key: str,
    options: Options,
    sizes: dict[str, int],
) -> dict[str, Any]:
    """Return the content of meta.json; `sizes` are the bytes of each split's bin."""
    dtype = token_dtype(vocabulary)
    counts = sieve.counts
    splits = {
        split: {
            "tokens": size // dtype.itemsize,
            "documents": counts.documents[split],
            "bytes": counts.bytes[split],
            "sha256": _sha256(folder / f"{split}.bin"),
        }
        for split, size in sizes.items()
    }
    return {
        "format": FORMAT,
        "fingerprint": key,
        "vocab_size": vocabulary.vocab_size,
        "dtype": dtype.name,
        "splits": splits,
        "left_out": {name: getattr(counts, name) for name in ("null", "undecodable", "short", "duplicate")},
        "left_out_bytes": counts.left_bytes,
        "source": {"name": documents.name, "fingerprint": documents.fingerprint, "files": documents.files},
        "tokenizer": {
            "name": vocabulary.name,
            "fingerprint": vocabulary.fingerprint,
            "n_tokens": vocabulary.n_tokens,
            "eot": vocabulary.eot,
        },
        "options": asdict(options),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
