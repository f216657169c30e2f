"""The benchmark of the plateau test: its curves, its rules, and rates worked out by hand."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from benchmarks.pruning import plateau_test
from benchmarks.pruning.plateau_test import (
    FAMILIES,
    RULES,
    SeenCurve,
    drop,
    improving,
    simulated_curve,
    stalled,
    wilson_interval,
)
from tests.helpers.curves import cosine, curve, held

SCHEDULE = cosine()


def seen_curve(losses: list[float]) -> SeenCurve:
    return SeenCurve(losses=np.array(losses), schedule=SCHEDULE)


@pytest.mark.parametrize(
    ("rule", "losses", "stuck"),
    [
        ("patience 3", [4, 3, 3.1, 3.2, 3.00001], True),
        ("patience 3", [4, 3, 3.1, 3.2, 2.99995], True),
        ("patience 3", [4, 3, 3.1, 3.2, 2.9998], False),
        ("patience 5", [4, 3, 3.1, 3.2, 3.3, 3.4], False),
        ("patience 5", [4, 3, 3.1, 3.2, 3.3, 3.4, 3.5], True),
        ("Mann-Kendall", [9.0, *range(10, 0, -1)], False),
        ("Mann-Kendall", [9.0, *range(1, 11)], True),
        ("Mann-Kendall", [9.0, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2], True),
        ("Theil-Sen", [9.0, *range(10, 0, -1)], False),
        ("Theil-Sen", [9.0, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2], True),
    ],
)
def test_the_usual_rules(rule: str, losses: list[float], stuck: bool) -> None:
    assert RULES[rule]([seen_curve(losses)]) == [stuck]


@pytest.mark.parametrize("rule", ["first conceived", "this test", "no schedule known"])
def test_rules_by_the_law_distinguish_stuck_from_improving(rule: str) -> None:
    clean = curve(SCHEDULE) + np.random.default_rng(0).normal(0, 1e-4, 41)
    curves = [SeenCurve(losses=losses[:38], schedule=SCHEDULE) for losses in (clean, held(clean, 26))]
    assert RULES[rule](curves) == [False, True]


@pytest.mark.parametrize("family", FAMILIES)
def test_curves_improve_or_are_held(family: str) -> None:
    rng = np.random.default_rng(1)
    clean = [simulated_curve(family, rng) for _ in range(60)]
    falling, stuck = improving(clean, 0.0, rng), stalled(clean, 0.0, rng)
    assert len(falling) > 30
    assert len(stuck) > 30
    assert all(drop(curve.losses) >= 0.01 and 21 <= len(curve.losses) <= 41 for curve in falling)
    assert all(len(set(curve.losses[-10:])) == 1 and len(curve.losses) <= 41 for curve in stuck)


def test_noise_is_of_the_size_asked_for() -> None:
    rng = np.random.default_rng(2)
    clean = SeenCurve(losses=4.0 - 0.1 * np.arange(41), schedule=SCHEDULE)
    noise = [curve.losses - clean.losses[: len(curve.losses)] for curve in improving([clean] * 200, 0.02, rng)]
    stuck = [curve.losses[-10:] for curve in stalled([clean] * 200, 0.02, rng)]
    assert np.concatenate(noise).std() == pytest.approx(0.02, rel=0.05)
    assert np.var(stuck, axis=1, ddof=1).mean() == pytest.approx(0.02**2, rel=0.1)


def test_a_flat_curve_neither_improves_nor_is_stuck() -> None:
    flat = [SeenCurve(losses=4.0 - 1e-4 * np.arange(41), schedule=SCHEDULE)] * 20
    assert improving(flat, 0.0, np.random.default_rng(3)) == stalled(flat, 0.0, np.random.default_rng(3)) == []


def test_rates_have_wilsons_interval() -> None:
    rate = wilson_interval([True] * 3 + [False] * 17)
    z, n, p = stats.norm.ppf(0.975), 20, 0.15
    middle, half = (p + z**2 / (2 * n)), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = ((middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    assert rate == {"rate": 0.15, "low": pytest.approx(low), "high": pytest.approx(high), "n": 20}


def write_bank(path: Path) -> Path:
    """Write a bank of four runs."""
    losses = curve(SCHEDULE)
    rows = [(trial, step) for trial in range(4) for step in range(41)]
    columns = {
        "trial": [trial for trial, _ in rows],
        "seed": [1] * len(rows),
        "step": [10 * step for _, step in rows],
        "train_loss": [4.0] * len(rows),
        "val_loss": [float(losses[step]) + trial for trial, step in rows],
        "val_se": [0.01] * len(rows),
        "learning_rate": [1e-3 * (trial + 1) for trial, _ in rows],
        "min_lr_ratio": [0.1] * len(rows),
        "warmup_fraction": [0.05] * len(rows),
    }
    pq.write_table(pa.table(columns), path)
    return path


def test_the_command_prints_tables_or_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plateau_test", "--n", "8", "--bank", str(write_bank(tmp_path / "bank.parquet"))]
    monkeypatch.setattr(sys, "argv", command)
    plateau_test.main()
    text = capsys.readouterr().out
    assert text.startswith("law: false alarms (n 8, 8, 8, 8)\n")
    assert "recorded: power (n 8, 8, 8, 8)" in text
    monkeypatch.setattr(sys, "argv", [*command, "--json"])
    plateau_test.main()
    rates = json.loads(capsys.readouterr().out)
    assert set(rates) == {*FAMILIES, "recorded"}
    assert set(rates["recorded"]["0.01"]["power"]) == set(RULES)
    rate = rates["law"]["0.001"]["power"]["this test"]
    assert f"{rate['rate']:.3f} ({rate['low']:.3f}-{rate['high']:.3f})" in text
