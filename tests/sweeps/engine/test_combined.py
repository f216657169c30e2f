"""Combined trials: the parabola against numpy's, the choice of values, and when they are asked for."""

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

losses = st.floats(-50, 50)


@given(losses, losses, losses, st.floats(0.05, 0.95))
def test_the_lowest_point_is_that_of_numpys_parabola(low: float, own: float, high: float, at: float) -> None:
    a, b, _ = np.polyfit([0.0, at, 1.0], [low, own, high], 2)
    grid = np.linspace(0, 1, 20_001)
    found = lowest_point({at: own, 0.0: low, 1.0: high})
    if a > 1e-6:
        assert found == pytest.approx(grid[np.argmin(a * grid**2 + b * grid)], abs=1e-4 + 1e-9 / a)
    elif a < -1e-6:
        assert {0.0: low, at: own, 1.0: high}[found] == min(low, own, high)


@pytest.mark.parametrize(
    ("points", "lowest"),
    [
        ({0.5: 3.0, 0.0: 3.5, 1.0: 3.5}, 0.5),
        ({0.5: 3.0, 0.0: 3.5, 1.0: 3.1}, 2 / 3),
        ({0.5: 3.0, 0.0: 4.0, 1.0: 2.5}, 1.0),  # its lowest point lies beyond the range
        ({0.5: 3.0, 0.0: 3.2, 1.0: math.inf}, 0.5),  # diverged: nothing to bend towards
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
    return synthetic.study(**{"knobs": KNOBS, **changes})


def screened(of: Study, losses: dict[str, float | None], *, own: float = 3.5) -> list[Run]:
    """The baseline and the single-knob trials; losses by key, 3.6 where there is none, None: it diverged."""
    size = 2048
    baseline = baseline_proposals(of, vocab_size=size)[0]
    runs = [synthetic.run(0, "baseline", config=baseline.config, params=baseline.params, val_loss=own)]
    for number, point in enumerate(one_at_a_time_proposals(of, vocab_size=size), start=1):
        loss = losses.get(point.key.removeprefix("one-at-a-time:"), 3.6)
        outcome = "diverged" if loss is None else "complete"
        given = {"config": point.config, "params": point.params, "knob": point.knob, "outcome": outcome}
        runs.append(synthetic.run(number, "one-at-a-time", val_loss=loss, **given))
    return runs


def suggested(of: Study, runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    proposals = combined_proposals(of, runs, vocab_size=2048)
    assert all((each.seed, each.phase, each.origin) == (of.seed, "search", "combined") for each in proposals)
    return {each.key: dict(each.params or {}) for each in proposals}


class TestWhatItSuggests:
    def test_every_knob_where_it_was_best_or_a_parabola_is(self) -> None:
        # the rate's own 1e-3 is the middle of its range; 3.2 at 1e-2 and 3.8 at 1e-4: a line, lowest at its end
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
        found = suggested(study(), runs)
        assert found.keys() == {"combined:parabolas", "combined:best"}
        assert found["combined:best"] == {"learning_rate": 1e-2, "n_embd": 512, "beta2": 0.9}
        parabola = np.polyfit([-4, -3, -2], [4.5, 3.5, 3.45], 2)
        rate = 10 ** (-parabola[1] / (2 * parabola[0]))
        assert found["combined:parabolas"] == {"learning_rate": pytest.approx(rate), "n_embd": 512, "beta2": 0.9}
        assert isinstance(found["combined:parabolas"]["n_embd"], int)

    def test_values_lie_on_the_knobs_steps(self) -> None:
        runs = screened(study(), {"n_embd:low": 3.56, "n_embd:high": 3.51, "learning_rate:high": 3.4})
        assert suggested(study(), runs)["combined:parabolas"]["n_embd"] == 448

    def test_what_diverged_is_not_taken(self) -> None:
        runs = screened(study(), {"learning_rate:high": None, "n_embd:high": 3.3, "beta2:0.9": 3.4})
        for params in suggested(study(), runs).values():
            assert params["learning_rate"] == pytest.approx(1e-3)

    def test_nothing_that_was_tried_already(self) -> None:
        worse: dict[str, float | None] = {}
        assert (
            suggested(study(knobs={"beta2": KNOBS["beta2"]}), screened(study(knobs={"beta2": KNOBS["beta2"]}), worse))
            == {}
        )
        one = study(knobs={"beta2": KNOBS["beta2"]})
        assert suggested(one, screened(one, {"beta2:0.9": 3.0})) == {}  # that is a single-knob run

    def test_a_baseline_that_failed_suggests_nothing(self) -> None:
        baseline, *single_knob = screened(study(), {"n_embd:high": 3.3, "beta2:0.9": 3.4})
        failed = synthetic.run(0, "baseline", config=baseline.config, outcome="failed", val_loss=None)
        assert suggested(study(), [failed, *single_knob]) == {}

    def test_other_seeds_and_the_confirm_phases_study_have_no_say(self) -> None:
        runs = screened(study(), {"n_embd:high": 3.3, "beta2:0.9": 3.4})
        luck = synthetic.run(90, "baseline", config=runs[0].config.replace(seed=1338), seed=1338, val_loss=1.0)
        other = synthetic.run(
            91, "one-at-a-time", knob="n_embd", params=runs[2].params, optuna_study="x-confirm", val_loss=1.0
        )
        assert suggested(study(), [*runs, luck, other]) == suggested(study(), runs)


class TestInASweep:
    SPEC = small_sweep.study(trials=7, baseline_seeds=1)

    @pytest.mark.parametrize("devices", [("cpu",), ("cpu",) * 3])
    def test_it_is_tried_once_the_screening_has_ended(self, tmp_path: Path, devices: tuple[str, ...]) -> None:
        watcher = small_sweep.Watcher()
        small_sweep.sweep(tmp_path, self.SPEC, devices=devices, observer=watcher)
        runs = small_sweep.stored_results(tmp_path).runs
        assert (
            small_sweep.by_origin(small_sweep.stored_results(tmp_path))["combined"] == 1
        )  # the best of each alone: the rate's end is tried alone
        (combined,) = (run for run in runs if run.origin == "combined")
        before = watcher.told[: watcher.told.index(("started", combined.id))]
        assert all(("complete", run.id) in before for run in runs if run.origin in ("baseline", "one-at-a-time"))
        assert combined.params["dropout"] == 0.0
        assert 1e-3 < combined.params["learning_rate"] < 1e-2
        assert combined.val_loss == min(run.val_loss for run in runs if run.origin != "sampler" and run.val_loss)
        if len(devices) == 1:
            assert [run.origin for run in runs][-4:] == ["combined", "sampler", "sampler", "sampler"]

    def test_not_beyond_the_trials_of_the_search(self, tmp_path: Path) -> None:
        small_sweep.sweep(tmp_path, small_sweep.study(trials=3, baseline_seeds=1))
        assert small_sweep.by_origin(small_sweep.stored_results(tmp_path)) == {"baseline": 1, "one-at-a-time": 3}

    def test_a_sweep_killed_around_it_ends_as_an_undisturbed_one(self, tmp_path: Path) -> None:
        small_sweep.sweep(tmp_path / "undisturbed", self.SPEC)
        deaths, finished = 0, False
        while not finished:
            owner, method = [(Store, "add_run"), (OptunaTrials, "_with_all_params"), (Store, "launched")][deaths % 3]
            with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
                patch.setattr(owner, method, deadly(getattr(owner, method)))
                finished = small_sweep.sweep(tmp_path / "killed", self.SPEC).finished
            deaths += 1
            assert deaths < 60
            if deaths % 4 == 0:  # or it would never come further than a first run
                with contextlib.suppress(Killed):
                    finished = small_sweep.sweep(tmp_path / "killed", self.SPEC, at_tick=die_after(30)).finished
        assert deaths > 5
        assert small_sweep.essence(small_sweep.stored_results(tmp_path / "killed")) == small_sweep.essence(
            small_sweep.stored_results(tmp_path / "undisturbed")
        )


class Killed(Exception):
    """The process is gone."""


def deadly(method: Any) -> Any:
    """The method, after whose first call the process is gone."""

    def call(*args: Any, **kwargs: Any) -> Any:
        method(*args, **kwargs)
        raise Killed

    return call


def die_after(ticks: int) -> Any:
    def die(tick: int) -> None:
        if tick == ticks:
            raise Killed

    return die
