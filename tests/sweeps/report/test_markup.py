"""HTML of sentences and cells: what is escaped, kept on one line, or marked."""

from __future__ import annotations

import pytest

from sweeps.report.markup import breakable, cell, command, items, number, prose, row


@pytest.mark.parametrize(
    ("sentence", "markup"),
    [
        ("a < b & c", "a &lt; b &amp; c"),
        ("95 % of runs", "95\u00a0% of runs"),
        ("from 1e-4 to 6.5e-3", 'from <span class="whole">1e-4</span> to <span class="whole">6.5e-3</span>'),
        ("run `sweep plan`", 'run <code><span class="whole">sweep</span> <span class="whole">plan</span></code>'),
        ("`<b>`", '<code><span class="whole">&lt;b&gt;</span></code>'),
    ],
    ids=["escaped", "per cent", "exponents", "command", "escaped command"],
)
def test_prose(sentence: str, markup: str) -> None:
    assert prose(sentence) == markup


@pytest.mark.parametrize(
    ("sentence", "item"),
    [
        ("dropout: no effect", "<strong>dropout</strong>: no effect"),
        ("no effect", "no effect"),
        ("lower; dropout: no effect", "lower; dropout: no effect"),
        (f"{'long ' * 13}: no effect", f"{'long ' * 13}: no effect"),
    ],
    ids=["a subject", "no colon", "a sentence before the colon", "too long"],
)
def test_the_subject_of_an_item_is_bold(sentence: str, item: str) -> None:
    assert items([sentence]) == f"<ul>\n<li>{item}</li>\n</ul>"


def test_cells_sort_by_their_full_value() -> None:
    assert number("3.14", value=3.14159) == '<td class="number " data-value="3.14159">3.14</td>'
    assert number("–") == '<td class="number " data-value="">–</td>'
    assert cell('"x"', "words") == '<td class="words" data-value="&quot;x&quot;">&quot;x&quot;</td>'
    assert row([cell("a")], kind="changed") == '<tr class="changed"><td class="" data-value="a">a</td></tr>'


def test_a_long_name_may_be_broken_at_its_underscores() -> None:
    assert breakable("n_head<") == "n_<wbr>head&lt;"


def test_a_command_is_escaped_and_breaks_between_its_words_only() -> None:
    assert command("sweep export x --out 'a<b'") == (
        '<div class="command"><code data-copy><span class="whole">sweep</span> <span class="whole">export</span> '
        '<span class="whole">x</span> <span class="whole">--out</span> <span class="whole">&#x27;a&lt;b&#x27;</span>'
        "</code></div>"
    )
