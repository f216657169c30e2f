"""The selection of documents: which are kept, their splits, and the errors for an empty split."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.selection import Options, Sieve, normalise
from trainer.errors import DataError

TEXTS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=30, unique_by=normalise)


def splits(texts: list[str], **options: float) -> dict[str, str]:
    """Return the split of each kept text."""
    sieve = Sieve(Options(min_chars=0, **options))
    kept = [sieve.admit(text) for text in texts]
    return {document.text: document.split for document in kept if document}


@given(texts=TEXTS, more=TEXTS, seed=st.integers(0, 2**63 - 1), fraction=st.floats(0.01, 0.99))
def test_a_documents_split_depends_only_on_itself_and_the_seed(
    texts: list[str], more: list[str], seed: int, fraction: float
) -> None:
    alone = splits(texts, seed=seed, val_fraction=fraction)
    among = splits([*reversed(texts), *more], seed=seed, val_fraction=fraction)
    assert {text: among[text] for text in alone} == alone


@given(texts=TEXTS, low=st.floats(0.01, 0.98))
def test_a_larger_fraction_only_adds_validation_documents(texts: list[str], low: float) -> None:
    few, many = splits(texts, val_fraction=low), splits(texts, val_fraction=low + 0.01)
    assert {text for text, split in few.items() if split == "val"} <= {
        text for text, split in many.items() if split == "val"
    }


def test_the_fraction_is_of_documents_and_another_seed_draws_other_documents() -> None:
    texts = [f"document {number}" for number in range(20_000)]
    drawn = [{text for text, split in splits(texts, seed=seed).items() if split == "val"} for seed in (1, 2)]
    for chosen in drawn:
        assert len(chosen) == pytest.approx(1000, abs=4 * (20_000 * 0.05 * 0.95) ** 0.5)
    assert len(drawn[0] & drawn[1]) == pytest.approx(50, abs=30)


def test_the_split_follows_from_the_documented_hash() -> None:
    """Written out, so that no change moves documents between splits unnoticed."""
    digest = hashlib.blake2b("naïve".encode(), digest_size=16, salt=(1337).to_bytes(16, "little")).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    assert splits(["naïve"], val_fraction=position * 0.999) == {"naïve": "train"}
    assert splits(["naïve"], val_fraction=position * 1.001) == {"naïve": "val"}


@pytest.mark.parametrize("same", ["na\u0131ve\ncafé", "na\u0131ve\r\ncafe\u0301", "  na\u0131ve\ncafé\n\n"])
def test_equal_documents_are_kept_once(same: str) -> None:
    sieve = Sieve(Options(min_chars=0))
    assert sieve.admit("na\u0131ve\ncafé")
    assert sieve.admit(same) is None
    assert sieve.admit("NA\u0131VE\ncafé")
    assert sieve.counts.duplicate == 1
    twice = Sieve(Options(min_chars=0, dedup=False))
    assert twice.admit(same)
    assert twice.admit(same)


def test_short_documents_are_left_out_by_characters() -> None:
    sieve = Sieve(Options(min_chars=3))
    assert [bool(sieve.admit(text)) for text in ("éé", "éée", "", "abcd")] == [False, True, False, True]
    assert sieve.counts.short == 2
    assert sum(sieve.counts.bytes.values()) == 5 + 4
    without_minimum = Sieve(Options(min_chars=0))
    assert without_minimum.admit("") is None


@given(texts=TEXTS, at=st.integers(0, 30))
def test_a_restored_sieve_continues_as_if_uninterrupted(texts: list[str], at: int) -> None:
    texts = texts + texts[::2]
    whole, first, second = (Sieve(Options(min_chars=2)) for _ in range(3))
    expected = [whole.admit(text) for text in texts]
    kept = [first.admit(text) for text in texts[:at]]
    second.restore(vars(first.counts), b"".join(document.digest for document in kept if document))
    assert kept + [second.admit(text) for text in texts[at:]] == expected
    assert second.counts == whole.counts


@given(texts=TEXTS, fraction=st.floats(0.0001, 0.9999))
def test_an_empty_split_is_reported_with_a_fraction_that_helps(texts: list[str], fraction: float) -> None:
    sieve = Sieve(Options(min_chars=0, val_fraction=fraction))
    for text in texts:
        sieve.admit(text)
    documents = sieve.counts.documents
    if all(documents.values()):
        sieve.check_splits()
        return
    with pytest.raises(DataError) as raised:
        sieve.check_splits()
    if len(texts) == 1:
        assert "one usable document" in str(raised.value)
        return
    remedy = re.search(r"(raise|lower) it to ([\d.e-]+)", str(raised.value))
    assert remedy
    assert remedy[1] == ("raise" if documents["train"] else "lower")
    remedied = splits(texts, val_fraction=float(remedy[2]))
    assert set(remedied.values()) == {"train", "val"}


@pytest.mark.parametrize(
    ("lowest", "highest", "val", "remedy"),
    [
        (0.1234, 0.5, 0, "raise it to 0.13 or add documents"),
        (0.1234, 0.5678, 2, "lower it to 0.56 or add documents"),
        (0.4048, 0.4058, 2, "lower it to 0.405 or add documents"),
        (0.4048, 0.4058, 0, "raise it to 0.405 or add documents"),
        (0.9987, 0.99881, 0, "raise it to 0.9988 or add documents"),
        (0.00001234, 0.5, 0, "raise it to 1.3e-05 or add documents"),
        (0.3, 0.3, 2, "add different documents"),
    ],
)
def test_the_suggested_fraction_lies_between_the_documents(
    lowest: float, highest: float, val: int, remedy: str
) -> None:
    sieve = Sieve(Options())
    sieve.counts.documents = {"train": 2 - val, "val": val}
    sieve.counts.lowest, sieve.counts.highest = lowest, highest
    with pytest.raises(DataError, match=rf"split; {re.escape(remedy)}$"):
        sieve.check_splits()


def test_an_empty_selection_is_reported_with_the_reasons() -> None:
    sieve = Sieve(Options(min_chars=100))
    sieve.admit("short")
    sieve.counts.null = 3
    with pytest.raises(
        DataError, match=r"none of 4 documents is usable \(3 null, 0 not UTF-8, 1 shorter than data\.min_chars=100\)"
    ):
        sieve.check_splits()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 0.0}, "val_fraction=0.0"),
        ({"val_fraction": 1.0}, "val_fraction=1.0"),
        ({"min_chars": -1}, "min_chars=-1"),
    ],
)
def test_options_outside_their_limits_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Options(**options)
