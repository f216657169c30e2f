"""The table of diagnoses beside an expert's readings, and the data of the planted faults."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.diagnose import logs, planted_logs, unseen_plants
from tests.helpers.logged_runs import SETTINGS, Simulated, flat
from tests.helpers.training_logs import text_of
from trainer.data.dataset import open_dataset


def reading(file: str, verdict: str, cause: str, must_not_say: str = "") -> dict[str, str]:
    return {"file": file, "verdict": verdict, "cause": cause, "must_not_say": must_not_say}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "falling.log").write_text(text_of(Simulated().lines()), encoding="utf-8")
    stuck = Simulated(train=lambda step: flat(step) + 0.05, val=flat)
    (tmp_path / "stuck.log").write_text(text_of(stuck.lines()), encoding="utf-8")
    config = {**SETTINGS, "dropout": 0.4}
    (tmp_path / "stuck.config.py").write_text("".join(f"{k} = {v!r}\n" for k, v in config.items()), encoding="utf-8")
    (tmp_path / "odd.log").write_text("hello\n", encoding="utf-8")
    return tmp_path


def test_what_agrees_and_what_does_not(folder: Path) -> None:
    right = logs.row_of(reading("stuck.log", "plateau", "dropout on an underfit model", "overfitting"), folder)
    assert (right.verdict_agrees, right.cause_agrees, right.said) == (True, True, ())
    wrong = logs.row_of(reading("stuck.log", "overfitting", "lr too low", "plateau,dropout_on_underfit"), folder)
    assert (wrong.verdict_agrees, wrong.cause_agrees) == (False, False)
    assert wrong.said == ("plateau", "dropout_on_underfit")
    assert logs.row_of(reading("odd.log", "foreign_format", "-"), folder).verdict_agrees


def test_the_table_counts_what_agrees(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readings = [reading("falling.log", "healthy", "-", "plateau"), reading("stuck.log", "nan", "fp16")]
    (folder / "readings.json").write_text(json.dumps(readings), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["logs", str(folder)])
    logs.main()
    assert "1 of 2 agree." in capsys.readouterr().out


def test_every_plant_has_a_verdict_and_a_cause_that_can_be_told() -> None:
    tables = (planted_logs.PLANTS, unseen_plants.NANOGPT, unseen_plants.OURS, unseen_plants.MILDER)
    for plant in (plant for table in tables for plant in table.values()):
        assert plant.verdict in logs.VERDICTS
        assert plant.cause == "-" or any(logs.re.search(words, plant.cause) for words in logs.CAUSES)


def test_the_data_of_the_plants(tmp_path: Path) -> None:
    planted_logs.write_data(tmp_path)
    whole, mixed, tiny = (open_dataset(tmp_path / name) for name in ("whole", "shuffled", "tiny"))
    assert whole.train.tokens > 100 * tiny.train.tokens
    assert Counter(whole.tokens("val").tolist()) == Counter(mixed.tokens("val").tolist())
    assert not np.array_equal(whole.tokens("val"), mixed.tokens("val"))
    assert np.array_equal(whole.tokens("train"), mixed.tokens("train"))
