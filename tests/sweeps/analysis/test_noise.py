"""Noise of seeds: prediction factors against tables and an independent integration, and the seeds that would show."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sweeps.analysis.contrasts import Sample, contrast
from sweeps.analysis.noise import detectable, noise_of, prediction_factor, seeds_to_show
from sweeps.analysis.significance import ALPHA_BEST, P_MULTIPLIER, shown
from sweeps.study.pilot import EFFECT, Pilot

# Student's t, two-sided 95 %, as printed in tables, by degrees of freedom
T_TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 7: 2.365, 9: 2.262, 29: 2.045}


@pytest.mark.parametrize(("df", "t"), T_TABLE.items())
def test_factor_of_one_prediction_is_students_t(df: int, t: float) -> None:
    n = df + 1
    assert prediction_factor(n) == pytest.approx(t * math.sqrt(1 + 1 / n), rel=2e-4)


@pytest.mark.parametrize(("n", "looks"), [(2, 3), (3, 2), (3, 12), (5, 6), (8, 12), (30, 4)])
def test_factor_of_several_predictions_is_the_multivariate_t(n: int, looks: int) -> None:
    """The differences share a mean, so their correlation is 1/(n + 1). scipy integrates this by another method."""
    shared = 1 / (n + 1)
    shape = np.full((looks, looks), shared) + (1 - shared) * np.eye(looks)
    limit = np.full(looks, prediction_factor(n, looks=looks) / math.sqrt(1 + 1 / n))
    held = stats.multivariate_t(shape=shape, df=n - 1, seed=1).cdf(limit, lower_limit=-limit)
    assert held == pytest.approx(0.95, abs=2e-4)


def test_a_prediction_needs_two_values() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        prediction_factor(1)


@pytest.mark.parametrize(
    ("losses", "sd"), [([3.5], None), ([3.5, 3.5], None), ([1.0, 2.0, 3.0], 1.0), ([3.0, 3.2], math.sqrt(0.02))]
)
def test_noise(losses: list[float], sd: float | None) -> None:
    noise = noise_of(losses)
    assert noise.sd == (None if sd is None else pytest.approx(sd))
    assert noise.mean == pytest.approx(sum(losses) / len(losses))
    assert (noise.half_width() is None) == (sd is None)


def test_seeds_to_show_is_the_first_number_that_would() -> None:
    needed = seeds_to_show(0.06, 0.01, looks=12)
    assert needed is not None
    assert 0.01 * prediction_factor(needed, looks=12) < 0.06 <= 0.01 * prediction_factor(needed - 1, looks=12)
    assert seeds_to_show(0.01, 0.01, looks=1) is None


class TestDetectable:
    """The smallest effect that the confirm phase's paired test shows in four of five cases."""

    @pytest.mark.parametrize("seeds", [2, 3, 5, 8, 32])
    @pytest.mark.parametrize(("looks", "chance"), [(3.125, 0.8), (1.0, 0.8), (2.5, 0.5), (12.5, 0.95)])
    def test_its_power_is_that_of_noncentral_t(self, seeds: int, looks: float, chance: float) -> None:
        effect = detectable(0.03, seeds, threshold=0.02, looks=looks, chance=chance)
        noncentrality = (effect - 0.02) / (0.03 * math.sqrt(2 / seeds))
        power = stats.nct.sf(stats.t.isf(0.05 / looks, seeds - 1), seeds - 1, noncentrality)
        assert power == pytest.approx(chance, abs=1e-5)

    @pytest.mark.parametrize("seeds", [3, 5, 8])
    def test_so_many_simulated_studies_show_it(self, seeds: int) -> None:
        """scipy's paired t-test on simulated losses, p multiplied by 2.5 / 0.8, is the oracle: 20,000 studies each."""
        rng = np.random.default_rng(seeds)
        baseline, change = rng.normal(0, 0.03, (2, 20_000, seeds))
        gains = baseline - change + detectable(0.03, seeds, threshold=0.02)
        p = stats.ttest_1samp(gains, 0.02, axis=1, alternative="greater").pvalue
        assert np.mean(2.5 / 0.8 * p <= 0.05) == pytest.approx(0.8, abs=0.01)

    @pytest.mark.parametrize("seeds", [3, 5])
    def test_the_phases_own_test_shows_it_as_often(self, seeds: int) -> None:
        rng = np.random.default_rng(seeds)
        effect = detectable(0.03, seeds, threshold=0.02)
        tested = []
        for _ in range(3000):
            arms = {
                arm: Sample(losses=dict(enumerate(rng.normal(mean, 0.03, seeds))), shape=None)
                for arm, mean in (("baseline", effect), ("change", 0.0))
            }
            gain = contrast({"baseline": 1, "change": -1}, arms, threshold=0.02, looks=P_MULTIPLIER / ALPHA_BEST)
            assert gain is not None
            if gain.method == "paired":  # one in twenty falls into two clusters by chance
                tested.append(shown(gain))
        assert len(tested) > 2700
        assert np.mean(tested) == pytest.approx(0.8, abs=0.025)

    def test_it_scales_with_the_noise_from_the_threshold_on(self) -> None:
        assert detectable(0.0, 5, threshold=0.02) == 0.02
        assert detectable(0.06, 5) == pytest.approx(2 * detectable(0.03, 5))

    def test_a_quarter_of_the_effect_is_enough_on_five_seeds(self) -> None:
        """So the pilot's share and its default effect, five times min_effect, fit the phase's default seeds."""
        for min_effect in (0.002, 0.02, 0.1):
            pilot = Pilot(max_iters=100)
            effect = EFFECT * min_effect
            assert 0.8 * effect < detectable(pilot.largest_sd(min_effect), 5, threshold=min_effect) < effect

    def test_a_test_needs_two_seeds(self) -> None:
        with pytest.raises(ValueError, match="at least 2 seeds, not 1"):
            detectable(0.03, 1)
