"""Boundaries: edges are crowded if the loss falls towards them, and are widened as far as the setting allows."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.analysis.boundaries import BoundaryVerdict, ends_reached, is_crowded
from sweeps.analysis.findings import Findings
from sweeps.store.records import Results, Run
from sweeps.study.space import distributions
from sweeps.verdict.cautions import boundary_sentences
from tests.helpers import synthetic

BASE = synthetic.params_of(synthetic.BASELINE)
SEEDS = [synthetic.run(i, "baseline", seed=1337 + i, val_loss=3.5 + 0.001 * i) for i in range(3)]


def trial(number: int, loss: float, origin: str = "sampler", **params: float) -> Run:
    return synthetic.run(number, origin, val_loss=loss, params={**BASE, **params}, points=())


def spread(count: int = 20) -> list[Run]:
    """Return sampled trials that lie evenly over the middle of every range, all worse than the baseline."""
    return [
        trial(
            100 + i,
            3.7 + 0.001 * i,
            learning_rate=1e-4 * 60 ** (0.2 + 0.6 * i / count),
            dropout=0.06 + 0.18 * i / count,
            weight_decay=1e-3 * 500 ** (0.2 + 0.6 * i / count),
            min_lr_ratio=0.06 + 0.18 * i / count,
            n_embd=256 if i % 2 else 640,
        )
        for i in range(count)
    ]


def crowd(count: int = 3, *, loss: float = 3.2, origin: str = "sampler", **params: float) -> list[Run]:
    """Return the best trials, all with the same parameters."""
    return [trial(10 + i, loss + 0.001 * i, origin, **params) for i in range(count)]


def crowded_edges(runs: list[Run], **changes: Any) -> list[BoundaryVerdict]:
    study = synthetic.study(**changes)
    return list(Findings(synthetic.results([*SEEDS, *runs], study=study)).boundaries)


def test_the_best_trials_at_an_edge_are_a_crowd() -> None:
    (verdict,) = crowded_edges([*crowd(learning_rate=5.9e-3), *spread()])
    assert (verdict.knob, verdict.side, verdict.n, verdict.share) == ("learning_rate", "high", 3, 1.0)
    assert verdict.p == pytest.approx(2 * 0.1**3)  # three of three in a tenth, at either edge
    assert (verdict.edge, verdict.suggestion) == (6e-3, 0.018)
    results = synthetic.results([*SEEDS, *crowd(learning_rate=5.9e-3), *spread()])
    assert boundary_sentences(Findings(results)) == [
        "The best trials crowd the high end of learning_rate, 0.006 (3 of the best 3 lie in the outermost tenth of its "
        "range). Better values may lie above it; a new study could extend the range to 0.018."
    ]


@pytest.mark.parametrize(
    ("params", "knob", "side", "suggestion"),
    [
        ({"learning_rate": 1.2e-4}, "learning_rate", "low", 3.3e-5),
        ({"dropout": 0.29}, "dropout", "high", 0.45),
        ({"weight_decay": 0.45}, "weight_decay", "high", 1.5),
        ({"min_lr_ratio": 0.3}, "min_lr", "high", 0.45),
        ({"warmup_fraction": 0.2}, "warmup_iters", "high", 0.3),  # 0.2 + half of 0.19, in two digits
        ({"n_embd": 768}, "n_embd", "high", 1024),  # half of 576 is 4 steps of 64
        ({"n_embd": 192}, "n_embd", "low", 128),  # 192 - 288 is below 1; half of the way to 1 is one step
    ],
)
def test_where_to_widen_to(params: dict[str, float], knob: str, side: str, suggestion: float) -> None:
    (verdict,) = (verdict for verdict in crowded_edges([*crowd(**params), *spread()]) if verdict.knob == knob)
    assert (verdict.side, verdict.suggestion) == (side, suggestion)


@pytest.mark.parametrize("params", [{"dropout": 0.0}, {"min_lr_ratio": 0.0}])
def test_an_edge_that_can_go_no_further_is_left_alone(params: dict[str, float]) -> None:
    assert crowded_edges([*crowd(**params), *spread()]) == []


def test_a_setting_is_widened_no_further_than_it_may_be() -> None:
    knobs = {"dropout": {"low": 0.0, "high": 0.8}}
    runs = [trial(i, 3.2 if i < 3 else 3.7, dropout=0.79 if i < 3 else 0.1 + i / 40) for i in range(20)]
    (verdict,) = crowded_edges(runs, knobs=knobs)
    assert verdict.suggestion == 0.9  # 1.2 is not allowed; half of the way from 0.8 to 1


@pytest.mark.parametrize(
    ("changes", "crowded"),
    [
        ({}, True),
        ({"p": 0.05}, False),
        ({"distance_of_best": 0.1}, True),
        ({"distance_of_best": 0.11}, False),
        ({"distance_of_best": math.inf}, False),  # the best lacks the knob
        ({"best_far_away": 3.25}, True),
        ({"best_far_away": 3.24}, False),
        ({"best_far_away": math.inf}, True),  # all trials far away diverged
        ({"best_far_away": None}, False),
    ],
)
def test_an_edge_is_crowded_by_three_conditions(changes: dict[str, Any], crowded: bool) -> None:
    inputs = {"p": 0.049, "distance_of_best": 0.0, "best": 3.0, "best_far_away": 3.5, "least_difference": 0.25}
    assert is_crowded(**{**inputs, **changes}) is crowded


@pytest.mark.parametrize(
    "runs",
    [
        [*crowd(2, learning_rate=5.9e-3), trial(12, 3.21), *spread()],  # two of three
        [*crowd(learning_rate=3.9e-3), *spread()],  # near, not at the edge
        [*crowd(learning_rate=5.9e-3), trial(50, 3.1, "candidate"), *spread()],  # the best of all is elsewhere
        [*crowd(learning_rate=5.9e-3, origin="one-at-a-time"), *spread()],  # single-knob runs are there by design
        [*crowd(learning_rate=5.9e-3), *spread(6)],  # too few for a tenth
        [*crowd(learning_rate=5.9e-3), trial(60, 3.205, learning_rate=3e-4), *spread()],  # as good far away
        [
            *crowd(learning_rate=5.9e-3),
            *(trial(30 + i, 3.7, learning_rate=2e-3) for i in range(20)),
        ],  # nothing far away
    ],
    ids=["two of three", "near", "best elsewhere", "one-at-a-time", "few", "as good far away", "nothing far away"],
)
def test_no_crowd(runs: list[Run]) -> None:
    assert [verdict for verdict in crowded_edges(runs) if verdict.knob == "learning_rate"] == []


def test_luck_of_seeds_is_no_reason_to_widen() -> None:
    """The far half is 0.05 nats worse: more than seeds differ that are 0.001 apart, less than seeds 0.1 apart."""
    runs = [*crowd(learning_rate=5.9e-3), *spread(), trial(60, 3.25, learning_rate=3e-4)]
    loud = [dataclasses.replace(run, val_loss=3.5 + 0.1 * i) for i, run in enumerate(SEEDS)]
    assert [verdict.knob for verdict in crowded_edges(runs)] == ["learning_rate"]
    assert Findings(synthetic.results([*loud, *runs])).boundaries == ()


def test_stopped_trials_count_where_they_were_predicted_to_end() -> None:
    """A stopped trial in the best tenth takes the place of one at the edge."""
    seen = synthetic.points(synthetic.BASELINE, 3.5)[10]
    pruning = synthetic.pruning(seen, synthetic.BASELINE, predicted=3.2005, best=3.0)
    cut = synthetic.run(70, outcome="pruned", val_loss=None, params=BASE, pruning=pruning)
    runs = [*crowd(learning_rate=5.9e-3), *spread()]
    assert [verdict.knob for verdict in crowded_edges(runs)] == ["learning_rate"]
    assert crowded_edges([*runs, cut]) == []


def test_the_best_tenth_grows_with_the_trials() -> None:
    (verdict,) = crowded_edges([*crowd(4, learning_rate=5.9e-3), *spread(34)])
    assert (verdict.n, verdict.share) == (4, 1.0)


@pytest.mark.parametrize(
    ("knob", "side"),
    [
        ({"low": 192, "high": 768, "step": 64}, "low"),
        ({"low": 192, "high": 768, "step": 192}, "high"),
        ({"low": 64, "high": 1024, "log": True, "round": True}, "low"),
        ({"low": 32, "high": 3200, "log": True, "round": True}, "high"),
    ],
)
def test_an_even_draw_is_what_optunas_random_sampler_draws(knob: dict[str, Any], side: str) -> None:
    study = synthetic.study(knobs={"n_embd": knob})
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ranges = distributions(study)
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    values = [float(drawn.ask(ranges).params["n_embd"]) for _ in range(1500)]
    low, high = float(knob["low"]), float(knob["high"])
    scale = math.log if knob.get("log") else float
    places = (np.array([scale(value) for value in values]) - scale(low)) / (scale(high) - scale(low))
    share = float((places <= 0.1).mean() if side == "low" else (places >= 0.9).mean())

    edge = low if side == "low" else high
    crowded = [trial(i, 3.2, n_embd=edge) for i in range(3)]
    rest = [trial(10 + i, 3.7, n_embd=high + low - edge) for i in range(20)]
    (verdict,) = Findings(synthetic.results([*SEEDS, *crowded, *rest], study=study)).boundaries
    assert (verdict.p / 2) ** (1 / 3) == pytest.approx(share, abs=4 * math.sqrt(share / 1500))


@settings(max_examples=20, deadline=None)
@given(shift=st.integers(-2, 8), random=st.randoms(use_true_random=False))
def test_a_constant_and_the_order_change_nothing(shift: int, random: Any) -> None:
    runs = [*SEEDS, *crowd(learning_rate=5.9e-3), *spread()]
    moved = [dataclasses.replace(run, val_loss=(run.val_loss or 0.0) + shift) for run in runs]
    random.shuffle(moved)
    assert Findings(synthetic.results(moved)).boundaries == Findings(synthetic.results(runs)).boundaries != ()


@pytest.mark.parametrize("results", [synthetic.results([]), synthetic.results(SEEDS), synthetic.family([3.5], [3.4])])
def test_few_trials_are_no_crowd(results: Results) -> None:
    assert Findings(results).boundaries == ()
    assert boundary_sentences(Findings(results)) == []


@pytest.mark.parametrize(
    ("params", "reached"),
    [
        ({}, [("dropout", "low", 0.0, None)]),  # the baseline's dropout is 0, its natural limit
        ({"dropout": 0.3}, [("dropout", "high", 0.3, 0.45)]),
        ({"dropout": 0.29}, []),  # near, but inside
        (
            {"dropout": 0.15, "learning_rate": 5.9e-3},
            [("learning_rate", "high", 6e-3, 0.018)],
        ),  # 0.4 % of the log range
        ({"dropout": 0.15, "n_embd": 192}, [("n_embd", "low", 192, 128)]),
        ({"dropout": 0.15, "min_lr_ratio": 0.0}, [("min_lr", "low", 0.0, None)]),
    ],
)
def test_ends_that_a_run_lies_at(params: dict[str, float], reached: list[tuple[str, str, float, float | None]]) -> None:
    found = ends_reached(synthetic.study(), trial(7, 3.4, **params))
    assert [(end.knob, end.side, end.end, end.wider) for end in found] == reached
