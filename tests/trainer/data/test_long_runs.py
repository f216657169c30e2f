"""Long runs of blanks, and words without an end: parts with the same text, and the vocabulary that they train."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import tokenizer
from trainer.data.long_runs import LONGEST_BLANK, LONGEST_WORD, apart_from_blanks, cut_words, has_endless_accents
from trainer.data.selection import normalise

KINDS = [" ", "\n", "\t ", "\u3000", "a", "7", "^", "_", "é", "中", "\0", "ab", "a1", "<|"]
COUNTS = [1, 2, LONGEST_WORD - 1, LONGEST_WORD, LONGEST_WORD + 1, LONGEST_BLANK, 30_000]
RUNS = st.tuples(st.sampled_from(KINDS), st.sampled_from(COUNTS))
TEXTS = st.lists(RUNS, max_size=5).map(lambda runs: "".join(characters * count for characters, count in runs))


@given(text=TEXTS)
def test_no_character_is_lost(text: str) -> None:
    assert "".join(apart_from_blanks(text)) == text
    assert "".join(cut_words(text)) == text


@given(text=TEXTS)
def test_no_part_has_a_longer_word(text: str) -> None:
    for part in cut_words(text):
        longest = dict.fromkeys(("letter", "digit", "blank", "other"), 0)
        before, length = "", 0
        for character in part:  # counted one by one, without a pattern
            kind = ("letter" if character.isalpha() else "digit" if character.isdigit() else
                    "blank" if character.isspace() else "other")  # fmt: skip
            before, length = kind, length + 1 if kind == before else 1
            longest[kind] = max(longest[kind], length)
        assert max(longest.values()) <= LONGEST_WORD


@pytest.mark.parametrize("text", ["", "a word", "x" * LONGEST_WORD, "x y" * 5000, "word, " * 3000])
def test_an_ordinary_text_is_one_part(text: str) -> None:
    assert apart_from_blanks(text) == [text] == list(cut_words(text))


def test_an_endless_word_changes_no_vocabulary_of_ordinary_words() -> None:
    """Its characters are the words' own, and its pairs are rarer than theirs."""
    texts = ["the cat and the hat and the bat"] * 20_000
    ranks = tokenizer.train_bpe(texts, vocab_size=270)
    assert b" the" in ranks
    assert tokenizer.train_bpe([*texts, "^" * 200_000], vocab_size=270).keys() - ranks.keys() <= {
        b"^" * 2**n for n in range(20)
    }


@pytest.mark.parametrize(
    ("text", "endless"),
    [
        ("a" + "\u0301\u0316" * 600, True),
        ("a" + "\u0301" * LONGEST_WORD, False),
        ("e\u0301" * 5000, False),
        ("größe 中文 " * 5000, False),
        ("-" * 5000, False),
    ],
)
def test_endless_accents(text: str, endless: bool) -> None:
    assert has_endless_accents(text) is endless


def test_a_document_of_a_million_accents_is_compared_as_it_stands() -> None:
    """Its NFC would take an hour, and no signal ends it."""
    text = "a" + "\u0301\u0316" * 500_000
    assert normalise(f" {text}\r\n") == text
    assert normalise("e\u0301") == "é"


@pytest.fixture
def listening() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt, also in a shell's background job, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_ctrl_c_ends_a_call_that_does_not_listen_to_it() -> None:
    def endless() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        Event().wait()

    with pytest.raises(KeyboardInterrupt):
        tokenizer._interruptible(endless)


def test_a_mistake_in_another_thread_is_the_callers() -> None:
    with pytest.raises(tokenizer.DataError, match="must be at least 257"):
        tokenizer.train_bpe(["text"], vocab_size=3)
    with pytest.raises(ZeroDivisionError):
        tokenizer._interruptible(lambda: 1 // 0)
