"""A log as the other side of a race: where it reaches, and intervals that hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sweeps.analysis.reference import ReferenceCurve, against_one_run

STEPS = np.arange(0.0, 1010, 50)


def curve(noise: float = 0.0, *, offset_se: float = 0.0, seed: int = 0) -> ReferenceCurve:
    """Return a log that falls from 5 by 0.1 nats per 100 iterations."""
    losses = 5 - STEPS / 1000 + np.random.default_rng(seed).normal(0, noise, len(STEPS))
    return ReferenceCurve(steps=STEPS, losses=losses, offset_se=offset_se)


def test_it_covers_what_lies_between_its_ends() -> None:
    assert [curve().covers(step) for step in (-1, 0, 999, 1000, 1001)] == [False, True, True, True, False]
    assert curve().at(75) == pytest.approx(4.925)
    empty = ReferenceCurve(steps=np.array([]), losses=np.array([]), offset_se=0.0)
    assert not empty.covers(0)


def test_what_a_log_printed_is_moved_by_the_offset() -> None:
    printed = [(100, 4.5), (0, 5.0), (50, math.nan), (150, 4.2)]
    curve = ReferenceCurve.of(printed, offset=-0.25, offset_se=0.01)
    assert (curve.steps.tolist(), curve.losses.tolist()) == ([0, 100, 150], [4.75, 4.25, 3.95])
    assert curve.offset_se == 0.01


def test_the_gap_is_the_curve_less_the_mean_of_the_race() -> None:
    gap = curve().gap({1: 4.1, 2: 4.3}, [], step=500)
    assert gap.mean == pytest.approx(4.5 - 4.2)
    assert gap.differences == pytest.approx({1: 0.4, 2: 0.2})
    # a prediction interval: the log is one more draw of a seed
    reach = stats.t.ppf(0.975, 1) * np.std([4.1, 4.3], ddof=1) * np.sqrt(1 / 2 + 1)
    assert (gap.low, gap.high) == pytest.approx((0.3 - reach, 0.3 + reach))


def test_other_races_help_to_tell_the_noise_of_seeds() -> None:
    others = [{1: 3.0, 2: 3.02}, {1: 3.5, 2: 3.49, 3: 3.48}, {1: 3.1}]
    gap = curve().gap({1: 4.2}, others, step=500)
    pooled = (0.02**2 / 2 + 2 * 0.01**2) / 3
    reach = stats.t.ppf(0.975, 3) * np.sqrt(pooled * 2)
    assert (gap.low, gap.high) == pytest.approx((0.3 - reach, 0.3 + reach))


def test_one_seed_everywhere_gives_no_interval() -> None:
    gap = curve().gap({1: 4.2}, [{1: 3.0}], step=500)
    assert gap.mean == pytest.approx(0.3)
    assert gap.low is gap.high is gap.p is None


@pytest.mark.parametrize(("noise", "offset_se"), [(0.0, 0.0), (0.02, 0.0), (0.02, 0.05), (0.1, 0.0)])
def test_the_interval_holds_the_truth_in_95_percent(noise: float, offset_se: float) -> None:
    rng, held, seeds = np.random.default_rng(1), 0, 0.03
    for _ in range(4000):
        luck = rng.normal(0, seeds) + rng.normal(0, noise) + rng.normal(0, offset_se)
        race, other = ({seed: float(value) for seed, value in enumerate(rng.normal(4, seeds, 3))} for _ in range(2))
        gap = against_one_run(4.3 + luck, race, [other], variance=noise**2 + offset_se**2)
        assert gap.low is not None
        assert gap.high is not None
        held += gap.low <= 0.3 <= gap.high
    assert 0.935 < held / 4000 < 0.97


def test_the_noise_of_the_log_and_of_its_offset_widens_the_interval() -> None:
    race = {1: 4.19, 2: 4.2, 3: 4.21}

    def width(reference: ReferenceCurve) -> float:
        gap = reference.gap(race, [], step=500)
        assert gap.low is not None
        assert gap.high is not None
        return gap.high - gap.low

    assert width(curve()) < width(curve(offset_se=0.05)) < width(curve(0.2, offset_se=0.05))


def test_a_slope_has_the_noise_of_the_evaluations_behind_it() -> None:
    noisy, race = curve(0.01), {1: -0.2, 2: -0.2}
    gap = noisy.slope_gap(race, [], until=900)
    kept = (STEPS >= 600) & (STEPS <= 900)
    line = stats.linregress(STEPS[kept], noisy.losses[kept])
    assert gap is not None
    assert gap.se is not None
    assert gap.mean == pytest.approx(100 * line.slope + 0.2)
    assert gap.se == pytest.approx(100 * noisy.noise / np.sqrt(((STEPS[kept] - STEPS[kept].mean()) ** 2).sum()))
    assert noisy.slope_gap(race, [], until=100) is None
    assert noisy.slope_gap({}, [race], until=900) is None
