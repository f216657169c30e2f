"""Combined trials: the parabola compared with numpy's, the values chosen, and when the trials are proposed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.engine.combined import combined_proposals, lowest_point
from sweeps.engine.optuna_trials import OptunaTrials
from sweeps.store.records import Run
from sweeps.store.store import Store
from sweeps.study.proposals import baseline_proposals, one_at_a_time_proposals
from sweeps.study.study import Study
from tests.helpers import small_sweep, synthetic
from tests.helpers.kills import Killed, die_at, killing

LOSSES = st.floats(-50, 50)


@given(LOSSES, LOSSES, LOSSES, st.floats(0.05, 0.95))
def test_the_lowest_point_is_that_of_numpys_parabola(low: float, middle: float, high: float, place: float) -> None:
    a, b, _ = np.polyfit([0.0, place, 1.0], [low, middle, high], 2)
    grid = np.linspace(0, 1, 20_001)
    points = {place: middle, 0.0: low, 1.0: high}
    lowest = lowest_point(points)
    if a > 1e-6:
        assert lowest == pytest.approx(grid[np.argmin(a * grid**2 + b * grid)], abs=1e-4 + 1e-9 / a)
    elif a < -1e-6:
        assert points[lowest] == min(low, middle, high)


@pytest.mark.parametrize(
    ("points", "lowest"),
    [
        ({0.5: 3.0, 0.0: 3.5, 1.0: 3.5}, 0.5),
        ({0.5: 3.0, 0.0: 3.5, 1.0: 3.1}, 2 / 3),
        ({0.5: 3.0, 0.0: 4.0, 1.0: 2.5}, 1.0),  # the parabola's minimum lies beyond the range
        ({0.5: 3.0, 0.0: 3.2, 1.0: math.inf}, 0.5),  # diverged: no parabola
        ({0.5: 3.0, 0.0: 2.9, 1.0: math.inf}, 0.0),
        ({0.0: 3.0, 1.0: 2.9}, 1.0),
        ({0.5: 3.0}, 0.5),
        ({0.5: 3.0, 0.0: 3.0, 1.0: 3.0}, 0.5),
        ({0.5: math.inf, 0.0: math.inf, 1.0: math.inf}, 0.5),
    ],
)
def test_the_lowest_point(points: dict[float, float], lowest: float) -> None:
    assert lowest_point(points) == pytest.approx(lowest)


KNOBS = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "n_embd": {"low": 256, "high": 512, "step": 64},
    "beta2": {"choices": [0.9, 0.95, 0.99]},
}


def study(**changes: Any) -> Study:
    """Return a study of three knobs: on a logarithmic range, on steps, and of choices."""
    return synthetic.study(**{"knobs": KNOBS, **changes})


VOCAB_SIZE = 2048


def screened(of: Study, losses: dict[str, float | None]) -> list[Run]:
    """Return the baseline's run, of loss 3.5, and the single-knob runs.

    `losses` are by key, such as "dropout:high". None: the run diverged. A missing key: 3.6.
    """
    baseline = baseline_proposals(of, vocab_size=VOCAB_SIZE)[0]
    runs = [synthetic.run(0, "baseline", config=baseline.config, params=baseline.params, val_loss=3.5)]
    for number, proposal in enumerate(one_at_a_time_proposals(of, vocab_size=VOCAB_SIZE), start=1):
        loss = losses.get(proposal.key.removeprefix("one-at-a-time:"), 3.6)
        fields = {"config": proposal.config, "params": proposal.params, "knob": proposal.knob, "val_loss": loss}
        outcome = "diverged" if loss is None else "complete"
        runs.append(synthetic.run(number, "one-at-a-time", outcome=outcome, **fields))
    return runs


def suggested(of: Study, runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Return the parameters of the combined proposals, by key."""
    proposals = combined_proposals(of, runs, vocab_size=VOCAB_SIZE)
    for proposal in proposals:
        assert (proposal.seed, proposal.phase, proposal.origin) == (of.seed, "search", "combined")
    return {proposal.key: dict(proposal.params or {}) for proposal in proposals}


class TestProposals:
    def test_one_takes_the_best_value_of_every_knob_and_one_the_parabolas_minimum(self) -> None:
        runs = screened(
            study(),
            {
                "learning_rate:high": 3.45,
                "learning_rate:low": 4.5,
                "n_embd:high": 3.3,
                "n_embd:low": 3.9,
                "beta2:0.9": 3.4,
            },
        )
        params = suggested(study(), runs)
        assert params.keys() == {"combined:parabolas", "combined:best"}
        assert params["combined:best"] == {"learning_rate": 1e-2, "n_embd": 512, "beta2": 0.9}
        a, b, _ = np.polyfit([-4, -3, -2], [4.5, 3.5, 3.45], 2)  # the baseline's rate, 1e-3, is the middle of its range
        rate = 10 ** (-b / (2 * a))
        assert params["combined:parabolas"] == {"learning_rate": pytest.approx(rate), "n_embd": 512, "beta2": 0.9}
        assert isinstance(params["combined:parabolas"]["n_embd"], int)

    def test_values_lie_on_the_steps_of_a_knob(self) -> None:
        runs = screened(study(), {"n_embd:low": 3.56, "n_embd:high": 3.51, "learning_rate:high": 3.4})
        assert suggested(study(), runs)["combined:parabolas"]["n_embd"] == 448

    def test_a_value_that_diverged_is_not_chosen(self) -> None:
        runs = screened(study(), {"learning_rate:high": None, "n_embd:high": 3.3, "beta2:0.9": 3.4})
        for params in suggested(study(), runs).values():
            assert params["learning_rate"] == pytest.approx(1e-3)

    @pytest.mark.parametrize("losses", [{}, {"beta2:0.9": 3.0}], ids=["baseline is best", "single-knob run is best"])
    def test_a_run_that_exists_is_not_proposed_again(self, losses: dict[str, float | None]) -> None:
        beta2 = study(knobs={"beta2": KNOBS["beta2"]})
        assert suggested(beta2, screened(beta2, losses)) == {}

    def test_nothing_is_proposed_after_a_failed_baseline(self) -> None:
        baseline, *single_knob = screened(study(), {"n_embd:high": 3.3, "beta2:0.9": 3.4})
        failed = synthetic.run(0, "baseline", config=baseline.config, outcome="failed", val_loss=None)
        assert suggested(study(), [failed, *single_knob]) == {}

    def test_other_seeds_and_the_confirm_phase_change_nothing(self) -> None:
        runs = screened(study(), {"n_embd:high": 3.3, "beta2:0.9": 3.4})
        lucky_seed = synthetic.run(90, "baseline", config=runs[0].config.replace(seed=1338), seed=1338, val_loss=1.0)
        confirming = synthetic.run(
            91, "one-at-a-time", knob="n_embd", params=runs[2].params, optuna_study="x-confirm", val_loss=1.0
        )
        assert suggested(study(), [*runs, lucky_seed, confirming]) == suggested(study(), runs)


class TestInASweep:
    SPEC = small_sweep.study(trials=7, baseline_seeds=1)

    @pytest.mark.parametrize("devices", [("cpu",), ("cpu",) * 3])
    def test_it_starts_after_all_single_knob_trials_have_ended(self, tmp_path: Path, devices: tuple[str, ...]) -> None:
        watcher = small_sweep.Watcher()
        small_sweep.sweep(tmp_path, self.SPEC, devices=devices, observer=watcher)
        runs = small_sweep.results_in(tmp_path).runs
        # the parabolas' only: the best value of each knob is that of a single-knob trial
        (combined,) = (run for run in runs if run.origin == "combined")
        before = watcher.history[: watcher.history.index(("started", combined.id))]
        assert all(("complete", run.id) in before for run in runs if run.origin in ("baseline", "one-at-a-time"))
        assert combined.params["dropout"] == 0.0
        assert 1e-3 < combined.params["learning_rate"] < 1e-2
        assert combined.val_loss == min(run.val_loss for run in runs if run.origin != "sampler" and run.val_loss)
        if len(devices) == 1:
            assert [run.origin for run in runs][-4:] == ["combined", "sampler", "sampler", "sampler"]

    def test_it_has_no_room_beyond_the_trials_of_the_search(self, tmp_path: Path) -> None:
        small_sweep.sweep(tmp_path, small_sweep.study(trials=3, baseline_seeds=1))
        assert small_sweep.origin_counts(small_sweep.results_in(tmp_path)) == {"baseline": 1, "one-at-a-time": 3}

    def test_a_sweep_killed_around_it_ends_as_an_uninterrupted_one(self, tmp_path: Path) -> None:
        whole, killed = tmp_path / "whole", tmp_path / "killed"
        small_sweep.sweep(whole, self.SPEC)
        deaths, finished = 0, False
        while not finished:
            owner, method = [(Store, "add_run"), (OptunaTrials, "_with_all_params"), (Store, "launched")][deaths % 3]
            with killing(owner, method):
                finished = small_sweep.sweep(killed, self.SPEC).finished
            deaths += 1
            assert deaths < 60
            if deaths % 4 == 0:  # without a longer session no run would get beyond its start
                with contextlib.suppress(Killed):
                    finished = small_sweep.sweep(killed, self.SPEC, at_tick=die_at(30)).finished
        assert deaths > 5
        uninterrupted = small_sweep.reproducible_part(small_sweep.results_in(whole))
        assert small_sweep.reproducible_part(small_sweep.results_in(killed)) == uninterrupted
