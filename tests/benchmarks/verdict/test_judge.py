"""The benchmark of `sweep judge`: its tables have the truth that they claim, and what counts as false is false."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.verdict import judge
from benchmarks.verdict.judge import KINDS, SEEDS, TRUTHS, Score, is_false, ruled, simulated
from benchmarks.verdict.simulated_tables import CHANGES, MIN_EFFECT, Kind, Simulated, simulated_keeps, written
from sweeps.analysis.attribution import CandidateWord
from sweeps.tables.layout import layout_of
from sweeps.tables.rows import read_table
from sweeps.tables.ruling import ArmRuling

BY_NAME = {kind.name: kind for kind in KINDS}


def finals(table: Simulated) -> dict[str, list[float]]:
    """Return the losses of the last step by arm."""
    losses = defaultdict(list)
    for row in table.table.rows:
        if row.get("step") in (None, 300):
            losses[str(row["arm"])].append(float(str(row["val_loss"])))
    return losses


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_truth_is_the_mean_over_many_tables(kind: Kind) -> None:
    rng = np.random.default_rng(1)
    errors = []
    for _ in range(300):
        table = simulated(kind, "real", index=13, rng=rng)  # three changes on eight seeds
        means = {arm: float(np.nanmean(losses)) for arm, losses in finals(table).items()}
        assert means.keys() == {"baseline", *table.gains}
        errors.append(means["baseline"] - means["change 1"] - table.gains["change 1"])
    assert abs(np.mean(errors)) < 4 * np.std(errors) / math.sqrt(300)
    assert 0.003 < np.std(errors) < 0.2


def test_a_kind_shows_in_its_table() -> None:
    rng = np.random.default_rng(2)
    tables = {name: simulated(kind, "null", index=15, rng=rng) for name, kind in BY_NAME.items()}
    layouts = {name: layout_of(table.table) for name, table in tables.items()}
    assert {name for name, layout in layouts.items() if layout.seed is None} == {
        *("no seeds", "uneven, no seeds", "skewed, no seeds")
    }
    assert [name for name, layout in layouts.items() if layout.step] == ["curves"]
    assert [name for name, layout in layouts.items() if layout.shape] == ["calm arms of another width"]
    nans = {name: np.isnan(np.concatenate([*finals(table).values()])).sum() for name, table in tables.items()}
    assert {name for name, count in nans.items() if count} == {"a diverging run"}
    counts = {len(losses) for losses in finals(tables["some seeds each"]).values()}
    assert len(counts) > 2
    rows = tables["seeds of their own"].table.rows
    base, change = ({row["seed"] for row in rows if row["arm"] == arm} for arm in ("baseline", "change 1"))
    assert not base & change


def test_truths_and_sizes() -> None:
    rng = np.random.default_rng(3)
    sizes = set()
    for index in range(16):
        null, edge, real = (simulated(BY_NAME["paired"], truth, index=index, rng=rng) for truth in TRUTHS)
        assert set(null.gains.values()) == {0.0}
        assert {abs(gain) for gain in edge.gains.values()} == {MIN_EFFECT}
        assert max(real.gains.values()) > 0
        assert set(real.gains.values()) <= {0.0, MIN_EFFECT, 2 * MIN_EFFECT, 4 * MIN_EFFECT}
        sizes.add((len(null.gains), null.seeds))
    assert sizes == {(changes, seeds) for changes in CHANGES for seeds in SEEDS}


@pytest.mark.parametrize(
    ("word", "gain", "false"),
    [
        (CandidateWord.RIGHT, 0.0, True),
        (CandidateWord.RIGHT, MIN_EFFECT, True),
        (CandidateWord.RIGHT, 2 * MIN_EFFECT, False),
        (CandidateWord.WRONG, 0.0, True),
        (CandidateWord.WRONG, -MIN_EFFECT, True),
        (CandidateWord.WRONG, -2 * MIN_EFFECT, False),
        (CandidateWord.NO_EFFECT, 2 * MIN_EFFECT, False),
        (CandidateWord.UNKNOWN, 0.0, False),
    ],
)
@pytest.mark.parametrize("diverging", [None, "a"])
def test_what_is_false(word: CandidateWord, gain: float, false: bool, diverging: str | None) -> None:
    arm = ArmRuling(
        arm="a", word=word, effect=None, runs=2, diverged=0, more_seeds=None, devices_differ=False, time=None
    )
    table = simulated(BY_NAME["paired"], "null", index=0, rng=np.random.default_rng(0))
    table = dataclasses.replace(table, gains={"a": gain}, diverging=diverging)
    assert is_false(arm, table) == (false and not (diverging and word is CandidateWord.WRONG))


def test_a_file_holds_the_table(tmp_path: Path) -> None:
    for kind in KINDS:
        table = simulated(kind, "real", index=9, rng=np.random.default_rng(4)).table
        written(table, tmp_path / "runs.csv")
        read = read_table(tmp_path / "runs.csv")
        assert read.columns == table.columns
        assert [[str(cell) for cell in row.values()] for row in read.rows] == [
            [str(cell) for cell in row.values()] for row in table.rows
        ]


def test_a_keep_is_a_row_below_the_last_one_kept() -> None:
    table, gains = simulated_keeps(np.random.default_rng(5), repeats=3, gain=4.0, noise="normal", share=0.5)
    lowest, kept = float(str(table.rows[0]["val_bpb"])), []
    for number, row in enumerate(table.rows[1:], 2):
        if float(str(row["val_bpb"])) < lowest and row["commit"] != "0":
            lowest = float(str(row["val_bpb"]))
            kept.append(number)
    assert [*gains] == kept
    assert set(gains.values()) == {0.0, 4.0}
    assert [row["commit"] for row in table.rows[:5]] == ["0", "0", "0", "0", "1"]


def test_claims_and_coverage_over_all_kinds() -> None:
    """Few tables of each: together they hold what the benchmark measures."""
    score = Score()
    for kind in KINDS:
        for truth in ("null", "edge"):
            rng = np.random.default_rng([7, KINDS.index(kind)])
            for index in range(16):
                table = simulated(kind, truth, index=index, rng=rng)
                score.add(table, ruled(table), truth)
    false = [score.false[truth] for truth in ("null", "edge")]
    assert sum(tally.n for tally in false) == 2 * 16 * len(KINDS)
    assert sum(tally.hits for tally in false) <= 0.05 * sum(tally.n for tally in false)
    covered = sum(tally.hits for tally in score.covered.values()) / sum(tally.n for tally in score.covered.values())
    assert 0.93 < covered < 0.985


def test_the_command_prints_a_table_or_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(judge, "KINDS", (BY_NAME["paired"], BY_NAME["a diverging run"]))
    judge.main(["--tables", "4", "--seed", "3"])
    text = capsys.readouterr().out
    assert "a diverging run" in text
    assert "6 tables were given to the command as files" in text
    judge.main(["--tables", "4", "--seed", "3", "--json"])
    measured = json.loads(capsys.readouterr().out)
    assert [row["kind"] for row in measured["tables"]] == ["paired", "a diverging run"]
    assert measured["tables"][0]["false_claims"]["null"]["n"] == 4
    without = [row["true_keeps_that_stand"] for row in measured["keeps"] if not row["repeats"] and row["gain"]]
    assert all(shares["share"] == 0 for shares in without)
