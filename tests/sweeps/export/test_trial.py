"""The trial to export: its evidence in the comments, and the verdict that supports it."""

from __future__ import annotations

import ast
import re

import pytest

from sweeps.analysis.findings import Findings
from sweeps.export.nanogpt_config import ExportError
from sweeps.export.trial import check_best, evidence_lines, export_run
from tests.helpers import confirming
from tests.helpers.exports import comments, nanogpt_configurator, results, run

HOSTILE = [
    "plain\nlearning_rate = 9.0",
    "carriage\rlearning_rate = 9.0",
    "both\r\nlearning_rate = 9.0",
    "form feed\x0clearning_rate = 9.0",
    "separators\x85\u2028\u2029learning_rate = 9.0",
    "quotes \"\"\"''' learning_rate = 9.0",
    "backslash \\\nlearning_rate = 9.0",
    "null \0 learning_rate = 9.0",
    "-*- coding: utf-7 -*- +AAo-learning_rate = 9.0",
    "a long one " * 50 + "\nlearning_rate = 9.0",
    "surrogate \udcff\nlearning_rate = 9.0",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_gets_out_of_its_comment(name):
    hostile = run(optuna_study=name, label=name, reason=name, outcome="failed", val_loss=None)
    exported = export_run(Findings(results(hostile, **{"version": name, name: "x"})), hostile, date=name)
    assert exported.text.isascii()
    assert nanogpt_configurator(exported.text)["learning_rate"] == 1e-3
    statements = ast.parse(exported.text).body
    assert all(isinstance(statement, ast.Assign) for statement in statements)
    assert len(statements) == len(exported.settings)
    cookie = re.compile(r"^[ \t\f]*#.*?coding[:=]")  # PEP 263: Python looks for it in the first two lines
    assert not any(cookie.match(line) for line in exported.text.splitlines()[:2])
    assert re.fullmatch(r"out-[A-Za-z0-9._-]+-7", str(exported.settings["out_dir"]))


def test_the_evidence_stands_in_the_comments():
    seeds = [run(n, origin="baseline", val_loss=loss) for n, loss in enumerate([3.5, 3.7, 3.6])]
    unfinished = run(3, origin="baseline", outcome="failed", val_loss=None)
    best = run(7, label="dropout 0", seed=1338)
    exported = export_run(
        Findings(results(*seeds, unfinished, best, torch="2.13", commit="abc")), best, date="2026-11-24"
    )
    text = comments(exported.text)
    for fact in (
        "study plateau, trial 7 (dropout 0), seed 1338",
        "final validation loss: 3.2500 +- 0.0125 (standard error over the windows) nats per token",
        "baseline: 3.6000 +- 0.1000 nats per token (mean and standard deviation over 3 seeds)",
        "horizon: 600 iterations of 64 tokens, 38400 tokens in all",
        "data: /data/prepared, fingerprint c0ffee, 1000000 training tokens",
        "exported on 2026-11-24",
        "torch: 2.13",
        "commit: abc",
    ):
        assert fact in text
    assert all(comments(f"# {note}") in text for note in exported.notes)
    assert exported.settings["out_dir"] == "out-plateau-7"


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([], "no complete run to compare with"),
        ([3.5], "3.5000 nats per token, 1 seed, so its spread is unknown"),
    ],
)
def test_few_baseline_seeds(losses, expected):
    seeds = [run(n, origin="baseline", val_loss=loss) for n, loss in enumerate(losses)]
    assert any(expected in line for line in evidence_lines(Findings(results(*seeds)), run(), date="d"))


def test_a_run_that_did_not_complete_has_no_loss_to_show():
    pruned = run(outcome="pruned", reason="worse than the median", val_loss=None)
    lines = evidence_lines(Findings(results(pruned)), pruned, date="d")
    assert "NOT a complete run, so it has no final loss: pruned: worse than the median" in lines


def test_a_run_on_a_cpu_is_exported_for_a_cpu():
    slow = run(device="cpu")
    exported = export_run(Findings(results(slow)), slow, date="d").settings
    assert (exported["device"], exported["dtype"], exported["compile"]) == ("cpu", "float32", False)


def test_a_best_that_is_shown_is_exported_with_its_verdict() -> None:
    found = confirming.confirmed(confirming.searched(confirming.slow, trials=12), confirming.slow)
    check_best(Findings(found))
    run = found.best
    assert run is not None
    assert "# - verdict: " in export_run(Findings(found), run, date="d").text
    assert "not proven" not in export_run(Findings(found), run, date="d").text


def test_noise_is_not_called_best() -> None:
    found = confirming.confirmed(confirming.searched(confirming.flat, trials=12), confirming.flat)
    assert Findings(found).attribution is not None
    with pytest.raises(ExportError, match="--force"):
        check_best(Findings(found))
    with pytest.raises(ExportError, match=r"nothing was run on fresh seeds yet.*`sweep confirm plateau` runs it"):
        check_best(Findings(confirming.searched(confirming.slow, trials=12)))  # only screened
