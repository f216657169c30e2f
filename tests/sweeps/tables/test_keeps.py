"""Logs of keeps and discards: repeats give the noise, and a keep stands up only beyond it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.tables import as_json, keep_words
from sweeps.tables.keeps import is_keep_log, keep_log
from sweeps.tables.rows import Table, TableError


def log(*rows: tuple[str, float | str, str, str]) -> Table:
    columns = ("commit", "val_bpb", "status", "description")
    return Table(
        path=Path("results.tsv"), columns=columns, rows=tuple(dict(zip(columns, row, strict=True)) for row in rows)
    )


ROWS: list[Any] = [
    ("a", 1.005, "keep", "baseline"),
    ("b", 1.002, "keep", "rate"),
    ("c", 1.006, "discard", "gelu"),
    ("d", 0.0, "crash", "wider"),
    ("b", 1.0031, "discard", "rate again"),
    ("e", 0.98, "keep", "batch"),
    ("e", 0.9812, "discard", "batch again"),
]


def test_p_is_students_of_two_single_runs_by_holms_method() -> None:
    judged = keep_log(log(*ROWS))
    repeats = [[1.002, 1.0031], [0.98, 0.9812]]
    sd = math.sqrt(sum(float(np.var(pair, ddof=1)) for pair in repeats) / 2)
    assert (judged.sd, judged.degrees, judged.crashed, judged.experiments) == (pytest.approx(sd), 2, 1, 5)
    gains = [0.003, -0.004, -0.0011, 0.022, -0.0012]
    raw = [stats.t(2).sf(gain / (sd * math.sqrt(2))) for gain in gains]
    corrected = multipletests(raw, method="holm")[1]
    assert [keep.p for keep in judged.keeps] == pytest.approx([corrected[0], corrected[3]])
    assert [keep.stands for keep in judged.keeps] == [False, True]
    assert keep_words.answer(judged) == "1 of 2 keeps stands up: batch."
    assert "next: run what stands once more" in "\n".join(keep_words.lines(judged))


def test_without_repeats_no_keep_can_be_judged() -> None:
    judged = keep_log(log(*ROWS[:4], ROWS[5]))
    assert judged.sd is None
    assert not judged.standing
    assert "None of 2 keeps can be judged: nothing was run twice" in keep_words.answer(judged)
    assert "three seeds" in "\n".join(keep_words.lines(judged))
    assert "once more" not in "\n".join(keep_words.lines(judged))


def test_an_agent_that_keeps_luck_is_told_so() -> None:
    """50 changes that do nothing: the log keeps several, and at 5 % at most one log in twenty says that one stands."""
    rng = np.random.default_rng(5)
    stood = 0
    for _ in range(100):
        repeats = [("0", 1 + rng.normal(0, 0.002), "discard", "again") for _ in range(3)]
        best, rows = 1.0, [("0", 1.0, "keep", "baseline"), *repeats]
        for change in range(50):
            loss = 1 + rng.normal(0, 0.002)
            rows.append((f"x{change}", loss, "keep" if loss < best else "discard", f"change {change}"))
            best = min(best, loss)
        stood += bool(keep_log(log(*rows)).standing)
    assert stood <= 10


def test_which_tables_are_such_logs() -> None:
    assert is_keep_log(log(*ROWS))
    assert not is_keep_log(log(("a", 1.0, "finished", ""), ("b", 1.0, "running", "")))
    assert not is_keep_log(Table(path=Path("x"), columns=("arm", "loss"), rows=({"arm": "a", "loss": 1.0},)))


def test_a_log_without_a_loss_is_refused() -> None:
    columns = ("commit", "status")
    with pytest.raises(TableError, match="no column holds the final loss"):
        keep_log(Table(path=Path("x.tsv"), columns=columns, rows=({"commit": "a", "status": "keep"},)))
    with pytest.raises(TableError, match="no row has a loss"):
        keep_log(log(("a", 0.0, "crash", "")))


def test_json_holds_every_keep() -> None:
    as_object = as_json.of_keep_log(keep_log(log(*ROWS)))["keeps"]
    assert as_object is not None
    assert [keep["label"] for keep in as_object["keeps"]] == ["rate", "batch"]
    assert as_object["keeps"][1]["gain"] == pytest.approx(0.022)


HEADER = ("commit", "val_bpb", "memory_gb", "status", "description")
LINES = (("a1b2c3d", "0.997900", "44.0", "keep", "baseline"), ("b2c3d4e", "0.993200", "44.2", "keep", "rate 0.04"))


def text_of(*lines: tuple[str, ...], mark: str = "\t", end: str = "\n", quote: str = "") -> str:
    return "".join(mark.join(f"{quote}{cell}{quote}" for cell in line) + end for line in lines)


LOGS = {
    "results.tsv": text_of(HEADER, *LINES),
    "results.csv": text_of(HEADER, *LINES, mark=","),
    "semicolons.csv": text_of(HEADER, *LINES, mark=";"),
    "quoted.csv": text_of(HEADER, *LINES, mark=",", quote='"'),
    "quoted.tsv": text_of(HEADER, *LINES, quote='"'),
    "windows.tsv": "\ufeff" + text_of(HEADER, *LINES, end="\r\n"),
    "order.tsv": text_of(HEADER[::-1], *(line[::-1] for line in LINES)),
    "loss.tsv": text_of(("Experiment", "Val Loss", "Decision"), ("one", "3.5", "KEPT"), ("two", "3.6", "Reverted")),
    "more.tsv": text_of((*HEADER, "rationale"), *((*line, "as the paper says") for line in LINES)),
    "fresh.tsv": text_of(HEADER, *LINES[:1]),
    "name.txt": text_of(HEADER, *LINES),
}
NO_LOGS = {
    "header.tsv": text_of(HEADER),
    "runs.csv": text_of(("arm", "status", "val_loss"), ("a", "finished", "3.5"), ("b", "finished", "3.6"), mark=","),
    "curve.csv": text_of(("step", "val_loss"), ("0", "3.5"), ("9", "3.4"), mark=","),
    "cells.tsv": text_of(HEADER, LINES[0][:3]),
    "train.log": text_of(HEADER, *LINES),  # by its name no table
}


@pytest.mark.parametrize("name", [*LOGS, *NO_LOGS])
def test_diagnose_and_judge_agree_on_which_files_are_such_logs(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes((LOGS | NO_LOGS)[name].encode())
    judged, diagnosed = (CliRunner().invoke(app, [command, str(file), "--json"]) for command in ("judge", "diagnose"))
    as_object = json.loads(judged.stdout or "{}")
    assert bool(as_object.get("keeps")) == (name in LOGS)
    assert (json.loads(diagnosed.stdout) == as_object) == (name in LOGS)
