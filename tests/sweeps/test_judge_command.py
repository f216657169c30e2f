"""The command `sweep judge`: answer, exit codes, JSON, and the user's mistakes."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeps.cli import app
from sweeps.commands import judge as commands_judge
from sweeps.study.study import DEFAULT_MIN_EFFECT
from sweeps.tables.rows import TableError

SHOWN = "arm,seed,val_loss\n" + "".join(
    f"{arm},{seed},{loss}\n"
    for arm, losses in (("baseline", (3.50, 3.52, 3.49, 3.51)), ("warm", (3.40, 3.425, 3.388, 3.41)))
    for seed, loss in enumerate(losses)
)
NOT_SHOWN = "arm,seed,val_loss\nbaseline,1,3.5\nbaseline,2,3.6\nwarm,1,3.6\nwarm,2,3.4\n"


def judge(path: Path, text: str, *options: str) -> tuple[int, str]:
    path.write_text(text)
    result = CliRunner().invoke(app, ["judge", str(path), *options])
    if isinstance(result.exception, TableError):
        raise result.exception
    return result.exit_code, result.stdout


def test_something_shown_ends_with_0_and_nothing_with_3(tmp_path: Path) -> None:
    code, text = judge(tmp_path / "runs.csv", SHOWN)
    assert code == 0
    assert text.startswith("warm is better than baseline by 0.099 (")
    code, text = judge(tmp_path / "runs.csv", NOT_SHOWN)
    assert code == 3
    assert " ".join(text.split()).startswith("None of 1 arm is shown to be better than baseline by more than 0.02.")


def test_min_effect_and_baseline(tmp_path: Path) -> None:
    code, text = judge(tmp_path / "runs.csv", SHOWN, "--min-effect", "0.2")
    assert code == 0  # equal within 0.2 is something shown
    assert "equal" in text
    code, text = judge(tmp_path / "runs.csv", SHOWN, "--baseline", "warm")
    assert code == 0
    assert "baseline is shown to be worse" in " ".join(text.split())


def test_what_counts_is_what_counts_in_a_study_from_scratch() -> None:
    assert inspect.signature(commands_judge.judge).parameters["min_effect"].default == DEFAULT_MIN_EFFECT


def test_json_is_one_object(tmp_path: Path) -> None:
    code, text = judge(tmp_path / "runs.csv", SHOWN, "--json")
    judged = json.loads(text)["table"]
    assert code == 0
    assert [arm["word"] for arm in judged["arms"]] == ["better"]
    assert judged["noise"]["degrees"] == 6


def test_lines_fit_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, text = judge(tmp_path / "runs.csv", SHOWN.replace("warm", "warm-up over half of all of the iterations"))
    assert max(map(len, text.splitlines())) <= 80


def test_a_table_that_cannot_be_judged_is_a_mistake_of_the_users(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no column holds the final loss"):
        judge(tmp_path / "runs.csv", "arm,accuracy\na,1\n")


def test_a_log_of_keeps(tmp_path: Path) -> None:
    text = "commit\tval_bpb\tstatus\tdescription\na\t1.0\tkeep\tbaseline\nb\t0.9\tkeep\trate\n"
    code, out = judge(tmp_path / "results.tsv", text)
    assert code == 3
    assert out.startswith("None of 1 keep can be judged: nothing was run twice")
