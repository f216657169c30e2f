"""The benchmark of the verdict's intervals: its simulated studies, its claims, and the shares that it prints."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import numpy as np
import pytest

from benchmarks.verdict import intervals
from benchmarks.verdict.intervals import (
    ADVICE,
    ALONE,
    EXTRA,
    FULL,
    HALF,
    QUESTIONS,
    RESET,
    SCENARIOS,
    SEEDS,
    claims_of_contrasts,
    simulated_study,
)
from sweeps.analysis.contrasts import Contrast

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
EVEN, PLANTED, BIMODAL = BY_NAME["even"], BY_NAME["planted"], BY_NAME["bimodal"]
WIDTHS = BY_NAME["planted, two widths"]


def draws(scenario: intervals.Scenario, weights: dict[str, float], *, n: int = 150) -> np.ndarray:
    """Return the weighted sum of losses by study and seed."""
    rng = np.random.default_rng(0)
    studies = (simulated_study(scenario, rng).full for _ in range(n))
    return np.array(
        [
            [sum(weight * study[name].losses[seed] for name, weight in weights.items()) for seed in range(8)]
            for study in studies
        ]
    )


def test_luck_is_shared_by_arms_of_one_width() -> None:
    pair = {"baseline": 1.0, ALONE[intervals.WIDTH_KNOB]: -1.0}
    assert draws(EVEN, pair).std() == pytest.approx(0.03 * 2**0.5, rel=0.08)
    assert draws(WIDTHS, pair).std() == pytest.approx(0.06 * 2**0.5, rel=0.15)
    assert draws(WIDTHS, {"best": 1.0, RESET[0]: -1.0}).std() < 0.05
    assert draws(EVEN, {"baseline": 1.0}).std() == pytest.approx((0.03**2 + 0.06**2) ** 0.5, rel=0.08)


def test_runs_of_one_arm_correlate_between_the_lengths() -> None:
    rng = np.random.default_rng(1)
    studies = [simulated_study(EVEN, rng) for _ in range(150)]
    full, half = (
        np.array([[study[name]["baseline"].losses[seed] for seed in range(8)] for study in map(vars, studies)]).ravel()
        for name in ("full", "half")
    )
    assert 0.7 < np.corrcoef(full, half)[0, 1] < 0.95


@pytest.mark.parametrize("scenario", [EVEN, PLANTED, BIMODAL], ids=lambda scenario: scenario.name)
def test_means_are_those_of_the_losses(scenario: intervals.Scenario) -> None:
    study = simulated_study(scenario, np.random.default_rng(2))
    for name in ("baseline", ALONE[0], RESET[0], RESET[1]):
        assert draws(scenario, {name: 1.0}).mean() == pytest.approx(study.means[name], abs=0.025)
    arms = ("best", ALONE[0], ALONE[1], RESET[0], RESET[1])
    gains = [study.means["baseline"] - study.means[name] for name in arms]
    effect = 0.1 if scenario.planted else 0
    assert gains == pytest.approx([effect, effect, 0, 0, effect])


def test_a_study_is_seen_on_a_growing_number_of_seeds() -> None:
    study = simulated_study(EVEN, np.random.default_rng(3))
    for n in SEEDS:
        full, late = study.seen(n)
        assert {name: len(sample.losses) for name, sample in full.items()} == {
            name: n + (name == "baseline") for name in FULL
        }
        assert EXTRA in full["baseline"].losses
        assert set(late) == set(HALF)
        assert late["best"].losses[1] == study.full["best"].losses[1] - study.half["best"].losses[1] / 2
        assert {len(sample.losses) for sample in late.values()} == {n}
    truths = {question.kind: study.truth(question) for question in QUESTIONS}
    assert truths == dict.fromkeys(truths, pytest.approx(0))
    planted = simulated_study(PLANTED, np.random.default_rng(3))
    planted_truths = {question.kind: planted.truth(question) for question in reversed(QUESTIONS)}
    assert planted_truths == pytest.approx(
        {
            "effect": 0.1,
            "lasting": 0.05,
            "alone": 0.1,
            "alone, lasting": 0.05,
            "reset": 0.1,
            "needed": 0.05,
            "advice": 0,
        }
    )


def contrast(p: float, *, mean: float = 0.0) -> Contrast:
    """A contrast with this p-value and mean."""
    return Contrast(
        differences={0: mean, 1: mean},
        mean=mean,
        se=0.01,
        degrees=30,
        low=mean - 0.02,
        high=mean + 0.02,
        lower=None,
        upper=None,
        threshold=0.0,
        p=p,
        method="layout",
    )


def contrasts(**changes: Any) -> dict[str, list[Contrast]]:
    """All contrasts of a verdict, not significant but for the changes: kind=(index, contrast)."""
    counts = {kind: sum(question.kind == kind for question in QUESTIONS) for kind in intervals.KINDS}
    by_kind = {kind: [contrast(0.5)] * number for kind, number in counts.items()}
    for kind, (index, change) in changes.items():
        by_kind[kind][index] = change
    return by_kind


BROKEN = {"effect": (0, contrast(0.04)), "lasting": (0, contrast(0.04))}
LATE = contrast(0.04)


@pytest.mark.parametrize(
    ("answers", "claims"),
    [
        (contrasts(), set()),
        (contrasts(effect=BROKEN["effect"]), set()),
        (contrasts(**BROKEN), {"broken"}),
        (contrasts(alone=(1, contrast(0.001))), set()),
        (contrasts(**BROKEN, alone=(1, contrast(0.001))), {"broken"}),
        (contrasts(**BROKEN, alone=(1, contrast(0.001)), **{"alone, lasting": (1, LATE)}), {"broken", ALONE[1]}),
        (contrasts(**BROKEN, alone=(1, contrast(0.01)), **{"alone, lasting": (1, LATE)}), {"broken"}),
        (contrasts(**BROKEN, needed=(5, contrast(0.008))), {"broken", RESET[5]}),
        (contrasts(advice=(6, contrast(0.007))), {f"right: {ADVICE[6]}"}),
        (contrasts(advice=(6, contrast(0.008))), set()),
        (
            contrasts(advice=(2, contrast(1.0, mean=-0.06)), alone=(3, contrast(1.0, mean=-0.2))),
            {"advice 2", "alone 3"},
        ),
        (contrasts(advice=(2, contrast(1.0, mean=-0.04))), set()),
    ],
)
def test_claims(answers: dict[str, list[Contrast]], claims: set[str]) -> None:
    assert {claim.removeprefix("harmful: ") for claim in claims_of_contrasts(answers)} == claims


def test_shares() -> None:
    others = tuple((kind, True, 1.0) for kind in intervals.KINDS[1:])
    studies = [
        [
            intervals.Look(
                n=n, intervals=(("effect", covers, half_width), *others), claims=frozenset(claims if n == 8 else ())
            )
            for n in SEEDS
        ]
        for covers, half_width, claims in (
            (True, 1.0, {"broken", ALONE[0]}),
            (True, 2.0, {"broken"}),
            (False, 4.0, {"broken", ALONE[0], ALONE[1]}),
            (None, None, {"right: advice 1"}),
        )
    ]
    shares = intervals.scenario_shares(PLANTED, studies)
    assert shares["kinds"][0] == {
        "kind": "effect",
        "n": 2,
        "coverage": pytest.approx(2 / 3),
        "unbounded": 0.25,
        "half_width": 2.0,
    }
    assert shares["verdict"][-1] == {"n": 8, "false_claims": 0.5, "power": 0.5}
    assert shares["verdict"][0] == {"n": 2, "false_claims": 0.0, "power": 0.0}
    assert shares["false_claims_at_any"] == 0.5


def test_the_command_prints_tables_or_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(intervals, "SCENARIOS", (dataclasses.replace(PLANTED, name="small"),))
    monkeypatch.setattr(sys, "argv", ["intervals", "--studies", "1"])
    intervals.main()
    text = capsys.readouterr().out
    assert text.startswith("small (1 studies)\n")
    monkeypatch.setattr(sys, "argv", ["intervals", "--studies", "1", "--json"])
    intervals.main()
    (scenario,) = json.loads(capsys.readouterr().out)
    assert {(row["kind"], row["n"]) for row in scenario["kinds"]} == {
        (kind, n) for kind in intervals.KINDS for n in SEEDS
    }
    assert f"{scenario['kinds'][0]['coverage']:.3f}" in text
