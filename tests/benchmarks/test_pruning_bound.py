"""The bound of what pruning can save: its figures are those worked out by hand."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import banks, peers, pruning_bound, replay
from benchmarks.banks import Bank

TRIALS, END = 20, 10


def bank() -> Bank:
    """Trial i ends at i; the best tenth are trials 0 and 1."""
    settings = {"a": np.arange(float(TRIALS))}
    losses = np.linspace(30, settings["a"], END + 1).T
    ends = np.full(TRIALS, END)
    return Bank(name="made", losses=losses, ends=ends, settings=settings, knobs=banks.scaled(settings), rates=None)


def test_any_trial_may_be_among_the_first_that_run_whole() -> None:
    """The replay's oracle over orders in which each trial comes to every place once."""
    made, order = bank(), np.arange(TRIALS)
    oracle = [replay.replay(made, peers.Oracle(made), np.roll(order, by).tolist()).compute for by in range(TRIALS)]
    assert pruning_bound.bound(made, ())["oracle"]["warm_up"] == pytest.approx(np.mean(oracle))


def test_each_way_to_choose_epsilon_by_hand() -> None:
    """One of the best dips to .02 at 4, the other to .01 at 6; of the 18 others half stand at .015 from 2 on, half
    fall from .5 to .001 at 5."""
    chance = np.full((TRIALS, END + 1), np.nan)
    chance[:, 1:9] = 0.9
    chance[0, 4], chance[1, 6] = 0.02, 0.01
    chance[2::2, 2:9] = 0.015
    chance[3::2, 1:9] = [0.5] * 4 + [0.001] * 4
    found = pruning_bound.bounds(bank(), chance)

    def share(*ends: int) -> float:
        return (5 * END + 15 * sum(ends) / TRIALS) / (TRIALS * END)

    seen, each, by_chance = found["seen"], found["each look"], found["chance"]
    assert (seen["epsilon"], seen["lost"]) == (0.01, 0.0)
    assert seen["compute"] == pytest.approx(share(10, 10, *[10] * 9, *[5] * 9))
    assert seen["expected"] == pytest.approx(9 * 0.001 / 2)
    assert each["lost"] == 0.0
    assert each["compute"] == pytest.approx(share(10, 10, *[2] * 9, *[1] * 9))  # below .9, and at 2 still .5 is
    assert each["expected"] == pytest.approx((9 * 0.015 + 9 * 0.5) / 2)
    assert 0.01 < by_chance["epsilon"] < 0.015  # from .015 on 9 x .015 are 7 % of the two best
    assert by_chance["lost"] == 0.5
    assert by_chance["compute"] == pytest.approx(share(10, 6, *[10] * 9, *[5] * 9))
    assert by_chance["expected"] == pytest.approx((0.01 + 9 * 0.001) / 2)


def test_the_rules_predictions_know_nothing_of_what_is_to_come() -> None:
    made = banks.simulated("settles-early", trials=12)
    losses = made.losses.copy()
    losses[4, 11:] += 1.0
    told, again = (pruning_bound._by_rule(each, 10) for each in (made, dataclasses.replace(made, losses=losses)))
    np.testing.assert_array_equal(np.stack(told)[:, 4], np.stack(again)[:, 4])
    assert not np.isclose(told[0][5], again[0][5], atol=1e-6)


@pytest.mark.parametrize("predictor", pruning_bound.PREDICTORS)
def test_predictions_are_as_far_off_as_they_say(predictor: str) -> None:
    made = banks.simulated("settles-early", trials=30)
    made.losses[3, 20] = np.nan
    mean, scale, _ = pruning_bound.PREDICTORS[predictor](made, 20)
    assert np.flatnonzero(np.isnan(mean)).tolist() == [3]
    off = np.delete((made.finals - mean) / scale, 3)
    assert 0.4 < np.sqrt(np.mean(off**2)) < 1.5
    left = made.losses[:, 20] - made.finals
    assert np.nanstd(made.finals - mean) < 0.5 * np.nanstd(left)


def test_a_warm_up_is_waited_for_unless_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sure of everything from the start: as the oracle, which may not look before either."""
    made = banks.simulated("cross-late", trials=30)
    sure = np.zeros(made.losses.shape)
    sure[made.top_tenth()] = 1.0
    monkeypatch.setattr(pruning_bound, "chances", lambda bank, predictor: sure)
    found = pruning_bound.bound(made, ["rule"])
    assert found["oracle"]["warm_up"] < found["oracle"]["after_warm_up"]
    for row in found["bounds"]:
        assert row["compute"] == found["oracle"]["warm_up" if row["warm_up"] else "after_warm_up"]
        assert row["lost"] == 0.0


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["pruning_bound", "--simulated", "settles-early", "--strata", "best30", "--predictors", "rule"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert pruning_bound.main() == 0
    shown = capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*arguments, "--json"])
    assert pruning_bound.main() == 0
    found = json.loads(capsys.readouterr().out)
    stratum = found["strata"]["best30"]
    assert (found["bank"], stratum["trials"], stratum["top_tenth"]) == ("simulated settles-early", 18, 2)
    rows = stratum["bounds"]
    assert [row["chosen_by"] for row in rows] == ["chance", "seen", "each look"] * 2
    assert all(f"compute {row['compute']:.3f}, lost {row['lost']:.3f}" in shown for row in rows)
    assert rows[2]["compute"] <= rows[1]["compute"]
