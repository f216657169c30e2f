"""Every benchmark's command: its help, and mistakes in its arguments, which end it with exit code 2 and a message."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from benchmarks.commands import ROOT

COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)
FORWARDED = ("benchmarks.reliability.saving_sweep", "benchmarks.speed.timed_sweep")
"""hand their arguments to `sweep`"""


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> int | str | None:
    """Run a command in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main()
    return ended.value.code


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in FORWARDED])
def test_help_is_the_modules_docstring(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, name, "--help") == 0
    docstring = importlib.import_module(name).__doc__
    assert docstring is not None
    assert docstring.strip() in capsys.readouterr().out
    assert f"python -m {name}" in docstring


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("parity --reference nowhere", "nowhere holds no config.py, train.bin, val.bin, reference.json, ckpt.pt"),
        ("pruning.plateau_test --n 0", "0 is not a whole number of at least 1"),
        ("pruning.plateau_test --bank nowhere", "nowhere: no such bank"),
        ("pruning.plateau_test --bank pyproject.toml", "pyproject.toml: not a parquet"),
        ("pruning.record_bank --out x --configs none", "none is not a whole number of at least 1"),
        ("pruning.record_bank --out x --study nowhere.yaml", "nowhere.yaml: no such file"),
        ("pruning.record_bank --out x --study pyproject.toml", "pyproject.toml"),
        ("pruning.replay", "one of the arguments --bank --simulated is required"),
        ("pruning.replay --bank nowhere", "nowhere: no such bank"),
        ("pruning.replay --simulated cross-late --orders 0", "0 is not a whole number of at least 1"),
        ("pruning.replay --simulated cross-late --strata best", "best: not among all, best30"),
        ("speed.overhead --seconds 0", "0 is not a number above 0"),
        ("speed.overhead --only sweep --iters 3", "horizon"),
        (
            "speed.plain_sweep nowhere.yaml d o --pruner median --seed 0 --began 1 --budget 1",
            "nowhere.yaml: no such file",
        ),
        ("speed.plain_sweep studies/smoke.yaml nowhere o --pruner median --seed 0 --began 1 --budget 1", "nowhere"),
        ("speed.plain_train nowhere nowhere", "nowhere holds no config.json"),
        ("speed.prepare --text-from nowhere", "nowhere: no such file"),
        ("speed.prepare --text-from benchmarks/pruning/bank_python.parquet", "no parquet with a column text"),
        ("speed.sweep_vs_optuna --work w --systems best", "best: not among plateau, median, hyperband, asha"),
        ("speed.sweep_vs_optuna --work w --budget soon", "soon is not a number above 0"),
        ("speed.throughput --widths 65", "n_embd"),
        ("speed.throughput --dropouts 1.5", "dropout"),
        ("verdict.confirm_phases --studies 0", "0 is not a whole number of at least 1"),
        ("verdict.intervals --seed -1", "-1 is not a whole number of at least 0"),
        ("verdict.planted --case none", "invalid choice: 'none'"),
        ("verdict.planted --direct 1", "1 seed gives no interval"),
    ],
)
def test_a_mistake_in_an_argument_ends_with_two(
    command: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    name, *arguments = command.split()
    assert run(monkeypatch, f"benchmarks.{name}", *arguments) == 2
    assert message in capsys.readouterr().err


def test_ray_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    study, out = str(ROOT / "studies" / "smoke.yaml"), str(tmp_path / "out")
    arguments = [study, "data", out, "--seed", "0", "--began", "1", "--budget", "1"]
    assert run(monkeypatch, "benchmarks.speed.ray_sweep", *arguments) == 2
    assert "pip install 'ray[tune]'" in capsys.readouterr().err
