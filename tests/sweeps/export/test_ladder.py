"""The ladder to a long run: rungs, bands and limits by closed forms, and files that nanoGPT reads."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest

from sweeps.analysis.findings import Findings
from sweeps.export.ladder import RATES, SLACK, TIMES, ladder, lines, write_ladder
from sweeps.export.nanogpt_config import ExportError
from sweeps.store.records import Results
from tests.helpers import confirming, synthetic

NOISE = {"luck": 0.0, "noise": 0.0}


@pytest.fixture(scope="module")
def results() -> Results:
    """Return a study without noise: the best ends at the surface, 0.3 lower than at half the length."""
    return confirming.confirmed(confirming.searched(confirming.slow, trials=12, **NOISE), confirming.slow, **NOISE)


def test_rungs_double(results: Results) -> None:
    run = results.best
    assert run is not None
    plan = ladder(Findings(results), run)
    assert [rung.iters for rung in plan.rungs] == [times * run.config.max_iters for times in TIMES]
    assert [rung.tokens for rung in plan.rungs] == [times * 600 * 16 * 256 for times in TIMES]
    for rung in plan.rungs:
        assert rung.rates == pytest.approx([factor * run.config.learning_rate for factor in RATES], rel=1e-2)


def test_the_band_goes_down_by_the_last_drop_a_doubling(results: Results) -> None:
    run = results.best
    assert run is not None
    level = confirming.slow(run.config)
    for rung in ladder(Findings(results), run).rungs:
        assert rung.high == pytest.approx(level)
        assert rung.low == pytest.approx(level - 0.3 * math.log2(rung.times))


def test_a_power_law_ends_within_the_band() -> None:
    """2 + 3 * D**-0.3 at D/2, D, 2D, 4D: the band drawn from the first two holds the others."""
    loss = {share: 2 + 3 * share**-0.3 for share in (0.5, 1.0, 2.0, 4.0)}
    drop = loss[0.5] - loss[1.0]
    for times in (2.0, 4.0):
        assert loss[1.0] - math.log2(times) * drop < loss[times] < loss[1.0]


def test_another_trial_has_no_band_but_limits_of_its_own(results: Results) -> None:
    other = synthetic.run(4, val_loss=3.6)
    plan = ladder(Findings(results), other)
    assert all(rung.low is None and rung.high is None for rung in plan.rungs)
    at = {point.step: point.val_loss for point in other.points}
    assert plan.limits == pytest.approx({0.25: at[160] + SLACK, 0.5: at[300] + SLACK, 0.75: at[440] + SLACK})
    assert any("no band" in line for line in lines(plan))


def test_nine_configs_of_plain_assignments(results: Results, tmp_path: Path) -> None:
    run = results.best
    assert run is not None
    plan = ladder(Findings(results), run)
    exports = write_ladder(plan, results, tmp_path / "ladder", evidence=("because",))
    assert len(exports) == len(TIMES) * len(RATES)
    for name in exports:
        values = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.parse((tmp_path / "ladder" / name).read_text()).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        assert values["min_lr"] / values["learning_rate"] == pytest.approx(run.config.min_lr / run.config.learning_rate)
        assert values["warmup_iters"] / values["max_iters"] == pytest.approx(run.config.warmup_iters / 600, abs=1e-3)
    assert "Give a run up" in (tmp_path / "ladder" / "LADDER.txt").read_text()
    with pytest.raises(ExportError, match="not an empty folder"):
        write_ladder(plan, results, tmp_path / "ladder", evidence=())
