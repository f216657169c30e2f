"""Long runs of one kind of characters: a million blanks, or a word without an end, as broken web pages hold them.

Tokenizers split text into words first. Blanks before a word make that search go back, and tiktoken's stack ends at
about half a million of them. The training of a vocabulary takes a time that grows with the square of a word's length,
and so does Unicode's normal form with the accents on one letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST_BLANK = 10_000
"""characters of a run of blanks that tiktoken is given before a word"""
LONGEST_WORD = 1000
"""characters of a word that a vocabulary is trained on; the longest English words have 45, a line of base64 has 76"""


def _runs(*kinds: str, longer_than: int) -> re.Pattern[str]:
    """Return a pattern of whole runs of one kind of characters. Its search takes a time linear in the text."""
    return re.compile("|".join(rf"(?<!{kind}){kind}{{{longer_than + 1},}}+" for kind in kinds))


# Unicode's White_Space, as tiktoken's \s has it; Python's has four control characters more
_BLANK = _runs(r"[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]", longer_than=LONGEST_BLANK)
_SUSPECT = _runs(r"\S", r"\s", longer_than=LONGEST_WORD)
# letters, digits, marks and spaces: the kinds of words that GPT-2 tells apart
_LONG_WORD = _runs(r"[^\W\d_]", r"\d", r"(?:[^\w\s]|_)", r"\s", longer_than=LONGEST_WORD)
_ACCENTS = _runs(r"[^\w\s\x00-\x7f]", longer_than=LONGEST_WORD)


def has_endless_accents(text: str) -> bool:
    """Whether a text has a run of signs outside of ASCII that may be accents, too long for a normal form."""
    return not text.isascii() and _ACCENTS.search(text) is not None


def apart_from_blanks(text: str) -> list[str]:
    """Split a text into parts whose tokens, one part after the other, are those of the text.

    A long run of blanks becomes a part without its last blank, which belongs to the word that follows. The tokenizer
    would split it there, too.
    """
    if len(text) <= LONGEST_BLANK:
        return [text]
    cuts = [0]
    for run in _BLANK.finditer(text):
        if run.end() < len(text):  # at the end of a text, tiktoken takes a run at once
            cuts += [run.start(), run.end() - 1]
    return [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True) if start < end]


def cut_words(text: str) -> Iterator[str]:
    """Yield a text in parts that have no word of more than LONGEST_WORD characters; most texts are one part."""
    start = 0
    for word in _LONG_WORD.finditer(text) if _SUSPECT.search(text) else ():
        for cut in range(word.start(), word.end(), LONGEST_WORD):
            if start < cut:
                yield text[start:cut]
            start = cut
    yield text[start:]
