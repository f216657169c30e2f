"""What a study is refused for before anything is trained, by `sweep plan` and `sweep run` alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sweeps.engine import checks
from sweeps.errors import LogError
from sweeps.store.records import DataFacts
from sweeps.study.start import CheckpointStart
from sweeps.study.study import Study
from tests.helpers import small_sweep
from tests.helpers.data_folders import random_walk_folder
from trainer.errors import CheckpointError, DataError
from trainer.points import Answer
from trainer.run.loop import train

BLOCK = 16


@pytest.mark.parametrize(
    ("train_tokens", "val_tokens", "words"),
    [
        (1000, 16, ["the validation split holds 16 tokens", "block_size=16"]),
        (1000, 17, ["the validation split holds 17 tokens"]),
        (17, 1000, ["the training split holds 17 tokens"]),
        (3, 4, ["the training split holds 3 tokens", "the validation split holds 4 tokens"]),
        (1000, 18, []),
        (18, 18, []),
    ],
)
def test_both_splits_are_longer_than_a_sequence(train_tokens: int, val_tokens: int, words: list[str]) -> None:
    data = dataclasses.replace(small_sweep.FACTS, train_tokens=train_tokens, val_tokens=val_tokens)
    if not words:
        checks.check_lengths(small_sweep.study(), data)
        return
    with pytest.raises(DataError) as caught:
        checks.check_lengths(small_sweep.study(), data)
    assert all(word in str(caught.value) for word in words)
    assert str(caught.value).count("split holds") == len(words) - ("block_size=16" in words)


def test_a_part_of_the_data_that_a_trial_gets_is_long_enough_too() -> None:
    study = small_sweep.study(knobs={**small_sweep.study().knobs, "data_fraction": {"choices": [0.01, 1.0]}})
    with pytest.raises(DataError, match=r"/data: data_fraction=0\.01 of the training split holds 10 tokens"):
        checks.check_lengths(study, small_sweep.FACTS)
    checks.check_lengths(study, dataclasses.replace(small_sweep.FACTS, train_tokens=1800))


@pytest.mark.parametrize("held", [BLOCK + 1, BLOCK + 2])
def test_the_limit_is_the_trainers_own(held: int, tmp_path: Path) -> None:
    data = random_walk_folder(tmp_path, tokens=4 * held)  # a quarter is the validation split
    facts = DataFacts.of(data)
    assert facts.val_tokens == held
    config = small_sweep.baseline().replace(vocab_size=0, max_iters=1, lr_decay_iters=1, warmup_iters=0)
    refused = []
    for attempt in (
        lambda: checks.check_lengths(small_sweep.study(), facts),
        lambda: train(config, data, lambda _: Answer.GO),
    ):
        try:
            attempt()
        except DataError:
            refused.append(attempt)
    assert len(refused) == (2 if held == BLOCK + 1 else 0)


def start(tmp_path: Path, log: str | None) -> Study:
    """Return the part of a study that names a checkpoint, written after 20 iterations with a vocabulary of 32."""
    data = random_walk_folder(tmp_path / "data")
    train(small_sweep.baseline().replace(vocab_size=0), data, lambda _: Answer.GO, out=tmp_path / "out")
    if log is not None:
        (tmp_path / "train.log").write_text(log)
    named = None if log is None else str(tmp_path / "train.log")
    return small_sweep.study().model_copy(
        update={"start": CheckpointStart(checkpoint=str(tmp_path / "out"), log=named)}
    )


def test_a_checkpoint_is_checked_against_the_data_and_its_log(tmp_path: Path) -> None:
    line = "step {0}: train loss 3.5, val loss 3.6\niter {0}: loss 3.5, time 10.00ms, mfu 1.00%\n"
    known = dataclasses.replace(small_sweep.FACTS, vocab_size=32)
    checks.check_start(start(tmp_path, None), known)
    checks.check_start(start(tmp_path, line.format(0) + line.format(10)), known)
    with pytest.raises(CheckpointError, match=r"its vocabulary has 32 tokens, and that of /nowhere/data 257"):
        checks.check_start(start(tmp_path, None), small_sweep.FACTS)
    with pytest.raises(LogError, match="has no evaluation up to iteration 20"):
        checks.check_start(start(tmp_path, line.format(500)), known)
    missing = start(tmp_path, "")
    (tmp_path / "train.log").unlink()
    with pytest.raises(LogError, match=r"train\.log"):
        checks.check_start(missing, known)
