"""Races for nanoGPT: the user's own config with the change, from scratch, and the gap by a closed form."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from sweeps import cli
from sweeps.analysis.findings import Findings
from sweeps.commands import export as commands_export
from sweeps.errors import NotFound
from sweeps.export.race import export_race, finding_of, names, race_of
from sweeps.store.records import Results, Run
from tests.helpers import synthetic
from tests.helpers.exports import branch_results, comments, config, nanogpt_configurator, run

OWN = {"out_dir": "out", "eval_interval": 250, "eval_iters": 33, "wandb_log": True, "device": "cpu", "compile": False}
BEFORE = config(vocab_size=50304, eval_interval=20)
"""the origin's own run"""


def race(number: int, change: str, seed: int, *, until: int, lower: float = 0.0) -> Run:
    """Return a race that is `lower` nats below the origin's curve at every evaluation, halted at `until`."""
    name, _, value = change.partition("=")
    raced = BEFORE.replace(seed=seed)
    if name == "n_embd":
        raced = raced.replace(n_embd=int(value), n_head=int(value) // 8)
    curve = [point for point in synthetic.points(BEFORE, 3.5, noise=0.0) if point.step <= until]
    moved = tuple(dataclasses.replace(point, val_loss=point.val_loss - lower) for point in curve)
    return run(
        number, optuna_study="plateau-confirm", phase="race", origin="race", key=f"race:{change}:{seed}", seed=seed,
        knob=None if change == "origin" else name, config=raced, outcome="halted", val_loss=None, points=moved,
        device="cpu",
    )  # fmt: skip


def raced(**changes: Any) -> Results:
    return branch_results(
        race(1, "origin", 1, until=200),
        race(2, "origin", 2, until=200),
        race(3, "n_embd=32", 1, until=100, lower=0.3),
        race(4, "n_embd=32", 2, until=140, lower=0.2),
        race(5, "dropout=0.1", 1, until=100, lower=-0.1),
        **changes,
    )


def test_it_is_the_users_own_config_with_the_change() -> None:
    found = Findings(raced(own=OWN))
    exported = export_race(found, race_of(found, "n_embd=32"), date="d")
    settings = nanogpt_configurator(exported.text)
    assert (settings["n_embd"], settings["n_head"], settings["init_from"]) == (32, 4, "scratch")
    baseline = found.study.baseline
    for name in ("max_iters", "warmup_iters", "lr_decay_iters", "learning_rate", "min_lr"):
        assert settings[name] == baseline[name]
    assert settings["max_iters"] == 6000
    assert {key: settings[key] for key in OWN if key != "out_dir"} == {k: v for k, v in OWN.items() if k != "out_dir"}
    assert settings["out_dir"] == "out-plateau-n_embd-32"


def test_without_a_config_of_the_users_evaluations_suit_the_length() -> None:
    found = Findings(raced())
    settings = export_race(found, race_of(found, "n_embd=32"), date="d").settings
    assert (settings["eval_interval"], "wandb_log" in settings) == (200, False)
    longer = export_race(found, race_of(found, "n_embd=32"), date="d", iters=12_000).settings
    assert (longer["max_iters"], longer["lr_decay_iters"], longer["warmup_iters"]) == (12_000, 12_000, 300)


def test_the_gap_is_the_analysis_own() -> None:
    results = raced()
    found = finding_of(Findings(results), race_of(Findings(results), "n_embd=32")[0])
    assert found.steps == 100  # of all seeds
    assert found.gap is not None
    assert found.gap.mean == pytest.approx(0.25)
    text = comments(export_race(Findings(results), race_of(Findings(results), "n_embd=32"), date="d").text)
    assert "race n_embd=32 from scratch, 2 seeds (1 and 2)" in text
    assert "gain over the origin's own curve at iteration 100, at equal tokens: +0.25" in text
    assert (
        "race: 100 iterations under the schedule of the origin's run of 600; where the whole run ends was not" in text
    )


def test_a_race_that_loses_says_so() -> None:
    found = Findings(raced())
    text = comments(export_race(found, race_of(found, "dropout=1e-1"), date="d").text)
    assert "at equal tokens: a loss of 0.100 nats (1 paired seed, noise unknown)" in text


def test_a_race_beside_a_log_has_no_gap_here() -> None:
    results = branch_results(race(3, "n_embd=32", 1, until=100))
    text = comments(export_race(Findings(results), race_of(Findings(results), "n_embd=32"), date="d").text)
    assert "the race has no gap: there is no curve of the origin to compare it with" in text


def test_an_unknown_race_is_refused_with_those_that_are_known() -> None:
    assert names(raced()) == ("n_embd=32", "dropout=0.1")
    with pytest.raises(NotFound, match=r"has no race n_embd=65; it raced n_embd=32 and dropout=0\.1"):
        race_of(Findings(raced()), "n_embd=65")
    with pytest.raises(NotFound, match="it raced nothing"):
        race_of(Findings(branch_results()), "n_embd=65")


def test_the_command_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands_export, "findings_of", lambda *_: (SimpleNamespace(paths=None), Findings(raced())))
    said = json.loads(CliRunner().invoke(cli.app, ["export", "plateau", "--race", "n_embd=32", "--json"]).stdout)
    assert (said["race"], said["trial"], said["checkpoint"]) == ("n_embd=32", None, None)
    assert nanogpt_configurator(said["text"])["n_embd"] == 32
