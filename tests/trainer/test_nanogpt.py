"""Assignments of a config that has already been trained: what can be read is read, the rest is passed over by line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainer.nanogpt import DEFAULTS, read_assignments

SOURCE = '''\
"""a fork's config"""
import time
batch = 8 * 2
batch_size = batch
max_iters = lr_decay_iters = 1000
min_lr = 6e-4 / 10
dropout = 0
rope = True
n_emb = 64
warmup_iters = int(5e1)
compile: bool = False
'''


def test_what_can_be_read_is_read_in_nanogpts_types_and_the_rest_is_named_by_line() -> None:
    settings, passed = read_assignments(SOURCE)
    assert settings == {
        "batch_size": 16,
        "max_iters": 1000,
        "lr_decay_iters": 1000,
        "min_lr": 6e-4 / 10,
        "dropout": 0.0,
        "compile": False,
    }
    assert isinstance(settings["dropout"], float)
    assert sorted(passed) == [2, 3, 8, 9, 10]
    assert passed[2].startswith("only 'key = value' lines")
    assert "did you mean n_embd?" in passed[9]


def test_lines_that_are_no_python_cost_themselves_alone() -> None:
    settings, passed = read_assignments("n_layer = 2\nW0101 a warning: of another program\n  n_head = 4\nn_embd = (\n")
    assert settings == {"n_layer": 2, "n_head": 4}
    assert sorted(passed) == [2, 4]


@given(st.text(max_size=80) | st.text(alphabet="n_head=+*()[]'\" 0123456789\n", max_size=80))
def test_no_text_makes_it_raise(text: str) -> None:
    settings, _ = read_assignments(text)
    assert all(type(value) is type(DEFAULTS[key]) for key, value in settings.items())
