"""A config file read as data: Python itself, executing the same text, is the oracle for what it sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config_file import Reading, read_config, read_file, read_text
from trainer.errors import ConfigError
from trainer.nanogpt import DEFAULTS

READ = [
    "max_iters = 4000\nlr_decay_iters = max_iters\nwarmup_iters = max_iters // 40\n",
    "learning_rate = 8e-4\nmin_lr = learning_rate / 10\n",
    "min_lr = learning_rate / 20\nlr_decay_iters = max_iters\n",  # nanoGPT's defaults are in scope
    "tokens = 2048\nblock_size = 64\nbatch_size = tokens // block_size\n",
    "n_layer = 2\nwandb_run_name = f'L{n_layer}-{learning_rate:.0e}-{dataset!s:>12}'\n",
    "n_embd = 64\nout_dir = 'out-' + str(n_embd)\n",
    "small = True\nn_layer = 2 if small else 12\nn_head = 12 if not small else 4\n",
    "small = False\nif small:\n    n_layer = 2\nelif block_size >= 1024:\n    n_layer = 24\nelse:\n    n_layer = 6\n",
    "max_iters = 1000\nmax_iters *= 3\nmax_iters -= 1\n",
    "n_layer, n_head = 6, 8\n",
    "n_layer = n_head = 8\n",
    "warmup_iters = int(0.05 * max_iters)\ndropout = round(1 / 7, 3)\nn_layer = min(4, 2 ** 3)\n",
    "max_iters: int = 20_000\n'''a docstring'''\npass\n",
    "decay = 'cos'\ndecay_lr = decay == 'cos' and 'c' in decay or False\n",
    "n_layer = 1 < 2 <= 2 != 3 and 5 or 7\n",
    "batch_size = -(-1000 // 64)\nbeta2 = 1 - 1e-2\n",
]


@pytest.mark.parametrize("text", READ)
def test_it_sets_what_python_sets(text: str) -> None:
    scope: dict[str, Any] = dict(DEFAULTS)
    exec(text, scope)  # noqa: S102  # the oracle; the text is ours
    reading = read_text(text)
    assert reading.settings
    assert not reading.remarks
    for key, value in reading.settings.items():
        assert value == scope[key]
        assert type(value) is type(DEFAULTS[key])
    assert {key for key in DEFAULTS if scope[key] != DEFAULTS[key]} <= reading.settings.keys()


UNREAD = [
    ("n_embd = int(open('w').read())", "\"open('w').read()\" would have to be executed"),
    ("n_embd = width", "'width' has no value that can be read above this line; write its value"),
    ("import os\nn_embd = os", "'os' has no value that can be read above"),
    ("n_embd = 1 // 0", "1 // 0: "),
    ("n_embd = 9 ** 9 ** 9", "exponent 387420489 is above 64"),
    ("n_embd = ((9 ** 64) ** 64) ** 64", "a number of "),
    ("n_embd = 'a' * 3", "arithmetic on 'a'"),
    ("n_embd = [64]", "'[64]' would have to be executed"),
    ("str = len\nout_dir = str(3)", "'str(3)' would have to be executed"),
    ("learning_rate = (-8) ** 0.5", "is not a real number"),
    ("n_embd = 64.5", "64.5 has the type float, not int (nanoGPT's default: 768)"),
    ("n_embd = '64'", "'64' has the type str, not int"),
    ("dropout = None", "None has the type NoneType, not float"),
    ("if unknown:\n    n_embd = 64", "'if unknown: n_embd = 64' would have to be executed"),
    ("for n_embd in (64, 128):\n    pass", "would have to be executed"),
    ("def f():\n    global n_embd\n    n_embd = 3", "would have to be executed"),
    ("n_embd, n_head = n_head, n_embd", "would have to be executed"),
    ("out_dir = f'{1:2000000000}'", "the format '2000000000' is too wide"),
    ("n_embd = " + "-" * 600 + "8", "nested too deeply"),
]


@pytest.mark.parametrize(("text", "why"), UNREAD, ids=[why for _, why in UNREAD])
def test_a_key_that_cannot_be_read_has_no_value(text: str, why: str) -> None:
    reading = read_text(f"n_embd = 8\n{text}\n")
    (key, unread), *_ = reading.unread.items()
    assert why in unread.why
    assert key not in reading.settings
    assert unread.line in (2, 3)


def test_a_value_is_known_again_once_it_is_written() -> None:
    assert read_text("n_embd = f()\nn_embd = 64\nn_layer = n_embd // 8\n").remarks == {}


def test_names_of_a_fork_helpers_and_misspelt_keys_are_told_apart() -> None:
    reading = read_text(
        "seed = 7\nvocab_size = 50304\nadapter_rank = 4\nval_batch_size = 3\nbatch = 8 * 2\nbatch_size = batch\n"
        "n_emb = 64\nmax_iter = 3\nmin_rl = 1e-5\nDropout = 0.1\nn_layers = 4\nn_layer = n_layers\n"
    )
    assert reading.others == {"seed": "7", "vocab_size": "50304", "adapter_rank": "4", "val_batch_size": "3"}
    assert sorted(reading.wrong) == [7, 8, 9, 10]  # n_layers is used, so it is a helper
    for line, key in ((7, "n_embd"), (8, "max_iters"), (9, "min_lr"), (10, "dropout")):
        assert reading.wrong[line].endswith(f"did you mean {key}?")
    assert reading.settings == {"batch_size": 16, "n_layer": 4}


def test_what_nanogpt_takes_in_another_type_is_taken() -> None:
    settings = read_text("max_iters = 1e4\ndropout = 0\ncompile = 0\nwandb_log = 1\n").settings
    assert settings == {"max_iters": 10_000, "dropout": 0.0, "compile": False, "wandb_log": True}
    assert [type(value) for value in settings.values()] == [int, float, bool, bool]


def test_statements_that_set_no_setting_are_passed_over() -> None:
    reading = read_text("import time\nfrom os import path as p\nprint('hi')\nwandb_run_name = str(time.time())\n")
    assert sorted(reading.passed) == [1, 2, 3]
    assert list(reading.unread) == ["wandb_run_name"]
    assert reading.others == {}
    assert not reading.wrong


@pytest.mark.parametrize("line", ["exec(open('base.py').read())", "from base import *", "globals()['n_layer'] = 3"])
def test_what_could_set_any_key_is_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(line)
    with pytest.raises(ConfigError, match="could set any key, and nothing is executed; write the settings out"):
        read_config(path)


def test_all_mistakes_are_said_at_once_and_only_those_that_matter(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("import os\nn_emb = 3\nn_layer = f()\nout_dir = f()\ndropout = 'a'\nmax_iters = 100\n")
    with pytest.raises(ConfigError) as caught:
        read_config(path, needed=("n_layer", "dropout", "max_iters"))
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{path}:2", f"{path}:3", f"{path}:5"]


def test_nothing_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    name = f"made_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text("")
    path = tmp_path / "x.py"
    path.write_text(f"import sys\nsys.path.append({str(tmp_path)!r})\nimport {name}\nopen({str(mark)!r}, 'w')\n")
    assert read_config(path) == {}
    assert not mark.exists()
    assert name not in sys.modules
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xef\xbb\xbfn_layer = 2\n", ":1: begins with a byte-order mark (U+FEFF), which nanoGPT refuses as well"),
        ("n_layer = 2\n".encode("utf-16"), ": is not UTF-8 text (byte 0); save it as UTF-8"),
        (b"n_layer = = 2\n", ":1: is not a Python config file: invalid syntax"),
        (b"n_layer = 2\0\n", "is not a Python config file"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.py"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)


def test_lines_that_are_no_python_cost_themselves_alone() -> None:
    reading = read_text("n_layer = 2\nW0101 a warning: of another program\n  n_head = 4\nn_embd = (\n")
    assert reading.settings == {"n_layer": 2, "n_head": 4}
    assert sorted(reading.passed) == [2, 4]


@given(st.text(max_size=80) | st.text(alphabet="n_head=+*()[]'\" 0123456789\n", max_size=80))
def test_no_text_makes_it_raise(text: str) -> None:
    reading = read_text(text)
    assert isinstance(reading, Reading)
    assert all(type(value) is type(DEFAULTS[key]) for key, value in reading.settings.items())


_ATOMS = st.sampled_from(["a", "b", "t", "0", "1", "2.5", "7", "1e-3", "True", "'x'"])
_PAIRS = ["({0} + {1})", "({0} - {1})", "({0} * {1})", "({0} / {1})", "({0} // {1})", "({0} % {1})", "({0} < {1})",
          "({0} == {1})", "({0} and {1})", "({0} or {1})", "max({0}, {1})", "({0} if {1} else 3)"]  # fmt: skip
_ONES = ["(-{0})", "(not {0})", "str({0})", "int({0})", "round({0})", "abs({0})", "f'<{{{0}}}>'", "({0} ** 2)"]


@given(
    st.recursive(
        _ATOMS,
        lambda inner: (
            st.builds(lambda form, x, y: form.format(x, y), st.sampled_from(_PAIRS), inner, inner)
            | st.builds(lambda form, x: form.format(x), st.sampled_from(_ONES), inner)
        ),
        max_leaves=6,
    )
)
def test_an_expression_has_pythons_value_or_none(expression: str) -> None:
    """What is read is what Python computes; arithmetic on text, and deeper quotes, may be left unread."""
    reading = read_text(f"a = 3\nb = 0.5\nt = 'word'\nwandb_run_name = str({expression})\n")
    if "wandb_run_name" in reading.settings:
        expected = eval(f"str({expression})", {"a": 3, "b": 0.5, "t": "word"})  # noqa: S307  # the oracle; ours
        assert reading.settings["wandb_run_name"] == expected
    elif not {"'", "t"} & set(expression):
        with pytest.raises((ArithmeticError, ValueError, SyntaxError)):
            eval(expression, {"a": 3, "b": 0.5})  # noqa: S307  # the oracle; ours
