"""Differences of candidates from the baseline's seeds, against values by hand."""

from __future__ import annotations

import dataclasses

import pytest

from sweeps.analysis.noise import prediction_factor
from sweeps.report.figures.candidates import against_baseline
from tests.helpers import synthetic
from tests.helpers.figures import flat_run


def test_difference_from_seeds_is_their_mean_minus_the_run_with_the_prediction_interval() -> None:
    seeds = [flat_run(0, 3.49), flat_run(1, 3.5), flat_run(2, 3.51)]
    difference = against_baseline(flat_run(3, 3.4, "candidate"), seeds)
    assert difference is not None
    assert difference.nats == pytest.approx([0.1] * 31)
    assert difference.half_widths == pytest.approx([0.01 * prediction_factor(3)] * 31)
    to_one_seed = against_baseline(flat_run(3, 3.4, "candidate"), seeds[:1])
    assert to_one_seed is not None
    assert to_one_seed.half_widths == ()
    assert against_baseline(flat_run(3, 3.4, "candidate"), []) is None


def test_difference_interpolates_by_tokens_where_the_grids_differ() -> None:
    seeds = [dataclasses.replace(flat_run(0, 3.5), points=synthetic.points(synthetic.BASELINE, 3.5, noise=0.0))]
    run = flat_run(1, 3.0, "candidate")
    between = tuple(dataclasses.replace(point, tokens=point.tokens + 40960) for point in run.points)
    difference = against_baseline(dataclasses.replace(run, points=between), seeds)
    assert difference is not None
    assert (
        len(difference.tokens) == len(run.points) - 1
    )  # nothing is extrapolated beyond the baseline's last evaluation
    points = seeds[0].points
    assert difference.nats[3] == pytest.approx((points[3].val_loss + points[4].val_loss) / 2 - 3.0)
