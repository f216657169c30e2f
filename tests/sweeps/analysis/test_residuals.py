"""Residuals of a table of losses by arm and seed, against the design matrix and against all pairs of arms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sweeps.analysis.residuals import of_one_kind, residual
from tests.helpers.contrasts import BASELINE, BEST, GAIN, arm, contrast_of

HOLES = [[4.0, 4.1, None, 4.3], [3.9, None, 4.15, 4.18], [None, 4.03, 4.1, 4.22]]
RING = [[4.0, 4.1, None], [None, 4.3, 4.2], [4.05, None, 4.0]]
"""three runs on three seeds, each seed twice: a degree of freedom remains, but no pair of arms shares two seeds"""


def by_seed(row: list[float | None]) -> dict[int, float]:
    return dict(arm(row).losses)


def least_squares(table: list[list[float | None]]) -> tuple[float, int]:
    """Return the sum of squared residuals and the degrees of freedom, by the design matrix of arms and seeds."""
    runs = [(i, j, loss) for i, row in enumerate(table) for j, loss in enumerate(row) if loss is not None]
    design = np.zeros((len(runs), len(table) + len(table[0])))
    for row, (i, j, _) in zip(design, runs, strict=True):
        row[i] = row[len(table) + j] = 1
    losses = np.array([loss for *_, loss in runs])
    residuals = losses - design @ np.linalg.lstsq(design, losses, rcond=None)[0]
    return float(residuals @ residuals), len(runs) - int(np.linalg.matrix_rank(design))


def test_a_table_with_holes_is_least_squares() -> None:
    squares, degrees = least_squares(HOLES)
    noise = residual([by_seed(row) for row in HOLES])
    assert noise is not None
    assert noise.variance == pytest.approx(squares / degrees)
    assert noise.degrees == degrees


def test_a_contrast_on_a_single_seed_has_the_variance_of_a_table_with_holes() -> None:
    squares, degrees = least_squares(HOLES)
    samples = {str(i): arm(row) for i, row in enumerate(HOLES)} | {"baseline": arm([4.0]), "best": arm([3.9])}
    effect = contrast_of(GAIN, samples)
    assert effect.se == pytest.approx(math.sqrt(2 * squares / degrees))
    assert effect.degrees is not None
    assert 0 < effect.degrees <= degrees


@pytest.mark.parametrize(
    "table",
    [
        [],
        [[4.0, 4.1, 4.2]],
        [[4.0, 4.1, 4.2], [3.9, 4.0, 4.1]],
        [[4.0, None], [None, 4.1], [4.2, None]],
        RING,
    ],
    ids=["empty", "one arm", "no noise", "no degree of freedom", "no pair shares two seeds"],
)
def test_nothing_is_known_without_noise_degrees_or_a_pair(table: list[list[float | None]]) -> None:
    assert residual([by_seed(row) for row in table]) is None


def test_arms_that_never_share_two_seeds_say_nothing_of_each_other() -> None:
    ring = {name: arm(row) for name, row in zip("xyz", RING, strict=True)}
    pair = {"baseline": arm(BASELINE[:3]), "best": arm(BEST[:3])}
    assert contrast_of(GAIN, pair | ring) == contrast_of(GAIN, pair)


def test_agreement_is_that_of_all_pairs() -> None:
    """The variance of each pair by itself, weighted by its degrees, against the value that equal noise would give."""
    rng = np.random.default_rng(8)
    table = [{seed: 4 + rng.normal(0, 0.03) for seed in range(6) if rng.random() < 0.8} for _ in range(7)]
    noise = residual(table)
    assert noise is not None
    fourth = expected = 0.0
    for first, second in itertools.combinations(table, 2):
        gaps = [first[seed] - second[seed] for seed in first.keys() & second.keys()]
        if len(gaps) > 1:
            degrees = len(gaps) - 1
            fourth += degrees * (np.var(gaps, ddof=1) / 2) ** 2
            expected += degrees * (1 + 2 / degrees)
    assert noise.spread == pytest.approx(fourth / expected / (noise.variance**2 / (1 + 2 / noise.degrees)) - 1)


def louder_p(table: list[list[float | None]], index: int) -> float:
    """Return p of Chow's test for further observations: that the runs of one arm fit those of the others."""
    squares, degrees = least_squares(table)
    of_others, others_degrees = least_squares([row for number, row in enumerate(table) if number != index])
    added = (squares - of_others) / (degrees - others_degrees)
    return float(stats.f.sf(added / (of_others / others_degrees), degrees - others_degrees, others_degrees))


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0, 4.0, 8.0, 30.0])
def test_an_arm_is_of_another_kind_if_it_is_louder_than_the_others(factor: float) -> None:
    table: list[list[float | None]] = np.random.default_rng(9).normal(4, 0.01, (5, 4)).tolist()
    table[2] = [4 + factor * noise for noise in (0.013, -0.004, -0.012, 0.002)]
    table[4][1] = None
    louder = min(louder_p(table, index) for index in range(5)) < 0.05 / 5
    assert of_one_kind([by_seed(row) for row in table]) is not louder
    assert louder == (factor >= 4)
    single = {9: 7.0}  # one run tells nothing of its noise
    assert of_one_kind([*(by_seed(row) for row in table), single]) is not louder


def test_an_arm_is_of_another_kind_if_it_has_two_modes() -> None:
    noise = np.random.default_rng(9).normal(0, 0.1, 5)
    spread = [[4 + sign * value for value in noise] for sign in (-1, 1) for _ in range(5)]  # no two modes, no luck
    assert of_one_kind([by_seed(row) for row in spread])
    split = [4.15, 3.85, 4.151, 3.851, 4.15]
    assert louder_p([*spread, split], 10) > 0.05
    assert not of_one_kind([by_seed(row) for row in [*spread, split]])


def test_too_few_arms_are_of_one_kind() -> None:
    assert of_one_kind([])
    assert of_one_kind([{0: 4.0, 1: 4.1, 2: 4.5}])
    assert of_one_kind([{0: 4.0, 1: 4.1}, {0: 3.9, 1: 4.2}])
