"""A fraction of the training tokens: whole documents, the same for every run, and nothing else."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.data_folders import random_walk_folder
from trainer.config import TrainConfig
from trainer.data import subset
from trainer.data.dataset import Dataset
from trainer.data.prepare import ParquetSource, TokenizerChoice, prepare
from trainer.data.selection import Options
from trainer.data.subset import Subset
from trainer.errors import DataError
from trainer.run.sampling import StepFeed, batch_starts, window_starts

CPU = torch.device("cpu")
EOT = 0
FRACTIONS = st.floats(0.001, 1.0)
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=40)
"""tokens per document, end-of-document tokens included"""


def corpus(lengths: list[int]) -> npt.NDArray[np.uint32]:
    """Return tokens that equal their positions, counted from 1; the last token of each document is EOT."""
    tokens = np.arange(1, sum(lengths) + 1, dtype=np.uint32)
    tokens[np.cumsum(lengths) - 1] = EOT
    return tokens


def chosen(tokens: npt.NDArray[np.uint32], lengths: list[int], fraction: float) -> list[int]:
    """Return the fraction, computed the slow way: document after document until there are enough tokens."""
    documents = [document.tolist() for document in np.split(tokens, np.cumsum(lengths)[:-1])]
    order = np.random.Generator(np.random.Philox(key=subset.ORDER_SEED)).permutation(len(documents))
    missing, kept = max(1, round(fraction * len(tokens))), {}
    for index in order.tolist():
        kept[index] = documents[index][:missing]
        missing -= len(kept[index])
    return [token for index in sorted(kept) for token in kept[index]]


def taken(tokens: npt.NDArray[np.uint32], fraction: float) -> list[int]:
    return Subset(tokens, fraction=fraction, eot=EOT)[:].tolist()


@given(LENGTHS, FRACTIONS)
def test_whole_documents_in_the_files_order_make_the_fraction_exactly(lengths: list[int], fraction: float) -> None:
    tokens = corpus(lengths)
    assert taken(tokens, fraction) == chosen(tokens, lengths, fraction)
    assert len(Subset(tokens, fraction=fraction, eot=EOT)) == max(1, round(fraction * len(tokens)))


@given(LENGTHS.filter(lambda lengths: min(lengths) > 1), FRACTIONS, FRACTIONS)
def test_a_smaller_fraction_lies_within_a_larger_one(lengths: list[int], first: float, second: float) -> None:
    tokens = corpus(lengths)
    smaller, larger = (taken(tokens, fraction) for fraction in sorted([first, second]))
    assert set(smaller) <= set(larger)
    assert smaller.count(EOT) <= larger.count(EOT)


@given(LENGTHS, FRACTIONS, st.data())
def test_slices_are_those_of_the_stream(lengths: list[int], fraction: float, data: st.DataObject) -> None:
    part = Subset(corpus(lengths), fraction=fraction, eot=EOT)
    whole = part[:].tolist()
    at = data.draw(st.slices(len(whole)))
    assert part[at].tolist() == whole[at]


def test_the_fraction_one_is_the_whole_file() -> None:
    tokens = corpus([3, 1, 4, 1, 5])
    assert taken(tokens, 1.0) == tokens.tolist()


def test_the_choice_is_the_same_in_every_version() -> None:
    """A study must train on the same documents after an update of this program or of numpy."""
    stream = taken(corpus([10] * 20), 0.4)
    assert sorted({(token - 1) // 10 for token in stream if token}) == [0, 8, 10, 11, 13, 16, 17, 18]


def test_the_fraction_is_spread_over_the_corpus() -> None:
    """The first half would have its mean position at 0.25. The mean of 500 of 1000 documents has a sd of 0.009."""
    tokens = corpus([10] * 1000)
    positions = [token for token in taken(tokens, 0.5) if token]
    assert np.mean(positions) / len(tokens) == pytest.approx(0.5, abs=0.04)


def test_unmarked_documents_are_pieces_of_equal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subset, "PIECE", 10)
    tokens = np.arange(95, dtype=np.uint16)
    stream = Subset(tokens, fraction=0.5, eot=None)[:].tolist()
    assert len(stream) == round(47.5)
    jumps = [after for before, after in pairwise(stream) if after != before + 1]
    assert jumps
    assert all(after % 10 == 0 for after in jumps)
    assert sum(position % 10 == 0 for position in stream) == len({position // 10 for position in stream})


def test_data_shorter_than_a_piece_is_cut_from_its_beginning() -> None:
    assert Subset(np.arange(100), fraction=0.3, eot=None)[:].tolist() == list(range(30))


def test_ends_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subset, "_CHUNK", 4)
    assert subset.document_ends(np.array([7, 0, 7, 0, 0, 7, 7, 7, 0]), 0).tolist() == [2, 4, 5, 9]
    assert subset.document_ends(np.array([7, 0, 7, 7, 7]), 0).tolist() == [2, 5]


# --- prepared data, as a run reads it


@pytest.fixture
def prepared(tmp_path: Path) -> Dataset:
    """Sixty documents of bytes. Each repeats one letter of its own, so that a token identifies its document."""
    texts = [chr(ord("!") + number) * (30 + 7 * number % 50) for number in range(60)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    source = ParquetSource(files=(str(tmp_path / "a.parquet"),))
    options = Options(val_fraction=0.2, min_chars=1)
    return prepare(source, TokenizerChoice(type="bytes"), tmp_path / "data", threads=2, options=options)


CONFIG = TrainConfig(block_size=16, batch_size=8, gradient_accumulation_steps=1, vocab_size=257)


def rows_seen(config: TrainConfig, data: Dataset, *, steps: int = 30) -> list[list[int]]:
    """Return a run's sequences with their last targets."""
    feed, rows = StepFeed(config, data, CPU, step=0), []
    for _ in range(steps):
        x_BT, y_BT = feed.batch
        rows += torch.cat([x_BT, y_BT[:, -1:]], dim=1).tolist()
        feed.advance()
    return rows


def windows_of(feed: StepFeed, split: str) -> list[list[int]]:
    return torch.cat([x_BT for x_BT, _ in feed.evaluation(split, windows=50)]).tolist()


def test_documents_of_prepared_data_are_marked(prepared: Dataset, tmp_path: Path) -> None:
    assert prepared.eot == 256
    assert (prepared.tokens("train") == prepared.eot).sum() == prepared.train.documents
    assert random_walk_folder(tmp_path / "nanogpt").eot is None


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_a_run_reads_every_chosen_document_and_no_others(prepared: Dataset, fraction: float) -> None:
    tokens = np.array(prepared.tokens("train"), dtype=np.uint32)
    lengths = np.diff(np.flatnonzero(tokens == 256), prepend=-1).tolist()
    stream = chosen(tokens, lengths, fraction)
    rows = rows_seen(CONFIG.replace(data_fraction=fraction), prepared, steps=300)
    assert {token for row in rows for token in row} == set(stream)
    assert {tuple(row) for row in rows} <= {tuple(stream[at : at + 17]) for at in range(len(stream) - 16)}
    assert len(set(stream)) < 0.7 * len(set(tokens.tolist()))


def test_the_seed_does_not_choose_the_documents(prepared: Dataset) -> None:
    seen = [
        {token for row in rows_seen(CONFIG.replace(data_fraction=0.3, seed=seed), prepared, steps=200) for token in row}
        for seed in (1, 2)
    ]
    assert seen[0] == seen[1]


def test_the_fraction_one_changes_nothing(prepared: Dataset) -> None:
    tokens = prepared.tokens("train")
    starts = [batch_starts(CONFIG.seed, step, n_starts=len(tokens) - 16, size=8) for step in range(30)]
    assert rows_seen(CONFIG, prepared) == [tokens[at : at + 17].tolist() for at in np.concatenate(starts)]


def test_evaluations_use_the_chosen_training_documents_and_all_of_validation(prepared: Dataset) -> None:
    whole, part = (StepFeed(CONFIG.replace(data_fraction=fraction), prepared, CPU, step=0) for fraction in (1.0, 0.25))
    assert windows_of(part, "val") == windows_of(whole, "val")
    stream = Subset(prepared.tokens("train"), fraction=0.25, eot=256)
    starts = window_starts(len(stream), block_size=16, count=50)
    assert windows_of(part, "train") == [stream[at : at + 16].tolist() for at in starts]


def test_a_fraction_shorter_than_the_context_is_reported(prepared: Dataset) -> None:
    with pytest.raises(
        DataError, match=r"data_fraction=0\.001 of the training split holds \d tokens, but needs more than"
    ):
        StepFeed(CONFIG.replace(data_fraction=0.001), prepared, CPU, step=0)
