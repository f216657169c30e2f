"""Candidates from nanoGPT configs: what a file changes in the baseline, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sweeps.errors import SpecError
from tests.helpers.study_files import TEXT, small
from trainer.errors import ConfigError

ALONE = re.sub(r"knobs:\n(  .*\n)*candidates:\n(  .*\n)*", "", TEXT)
"""the small study without knobs and candidates"""


def written(folder: Path, text: str, name: str = "tweak.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_each_file_is_a_candidate_of_what_it_changes(tmp_path: Path) -> None:
    text = "warmup_iters = 10 * 20\nlearning_rate = 1e-3  # the baseline's\nwandb_log = True\n"
    warm = written(tmp_path, text, "warm.py")
    wide = written(tmp_path, "n_embd = 128\nn_head = 8\n", "wide.py")
    study = small(tmp_path, text=ALONE, candidates=[warm, wide])
    assert study.candidates == ({"warmup_iters": 200}, {"n_embd": 128})  # 8 heads of 16 follow from head_size
    assert (study.knobs, study.trials) == ({}, 2)
    assert f"{warm}: passed over, because it is no setting of a trial: wandb_log" in study.notes


def test_they_join_the_studys_own(tmp_path: Path) -> None:
    study = small(tmp_path, candidates=[written(tmp_path, "dropout = 0.3\n")])
    assert study.candidates[-1] == {"dropout": 0.3}
    assert len(study.candidates) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rate = 1e-3\n", "changes nothing of the baseline that trials use"),
        ("learning_rte = 1e-2\n", r"tweak.py:1: nanoGPT has no key 'learning_rte'"),
        ("learning_rate = f()\nmax_itres = 3\n", r"(?s)tweak.py:2: .*tweak.py:1: learning_rate"),
        ("block_size = 64\n", "tweak.py:1: candidates.2.block_size"),
        ("dropout = 2.0\n", "tweak.py:1: candidates.2.dropout"),
    ],
)
def test_what_is_no_candidate_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        small(tmp_path, candidates=[written(tmp_path, text)])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.py: cannot be read"):
        small(tmp_path, candidates=[str(tmp_path / "nowhere.py")])
