"""Slope chart of the seeds: its pairs, and the line of each."""

from __future__ import annotations

import dataclasses
import statistics

import pytest

from sweeps.analysis.findings import Findings
from sweeps.report.figures.seeds import SeedPair, seed_pairs, seeds_picture
from tests.helpers import attributions
from tests.helpers.attributions import SEED
from tests.helpers.figures import confirmed_results, trace_named


def _pairs(*losses: tuple[float | None, float | None], half: bool = False) -> tuple[SeedPair, ...]:
    return tuple(
        SeedPair(seed=SEED + 1 + i, half=half, baseline=baseline, best=best)
        for i, (baseline, best) in enumerate(losses)
    )


def test_pairs_are_of_fresh_seeds_the_half_horizon_first() -> None:
    results = confirmed_results()
    findings = Findings(results)
    attribution = findings.attribution
    assert attribution is not None
    assert [
        (pair.half, pair.seed, pair.baseline, pair.best) for pair in seed_pairs(findings.evidence, attribution)
    ] == [
        (True, SEED + 1, 4.0, None),
        (True, SEED + 2, 4.1, 3.7),
        (False, SEED, 3.80, None),  # the search's seed, on which the best was chosen
        (False, SEED + 1, 3.81, 3.31),
        (False, SEED + 2, 3.82, 3.33),
    ]


def test_a_seed_on_two_kinds_of_device_is_no_pair() -> None:
    results = confirmed_results()
    last = max(run.id for run in results.runs if run.seed == SEED + 2 and run.val_loss == 3.33)
    runs = [dataclasses.replace(run, kinds=("B" if run.id == last else "A",)) for run in results.runs]
    findings = Findings(dataclasses.replace(results, runs=tuple(runs)))
    assert findings.attribution is not None
    whole = [pair for pair in seed_pairs(findings.evidence, findings.attribution) if not pair.half]
    assert [(pair.seed, pair.baseline, pair.best) for pair in whole[1:]] == [
        (SEED + 1, 3.81, 3.31),
        (SEED + 2, 3.82, None),
        (SEED + 2, None, 3.33),
    ]


def test_a_seed_is_a_line_and_says_whether_it_broke_through() -> None:
    whole = _pairs((3.80, 3.40), (3.82, 3.81), (3.85, 3.30), (3.79, None))
    half = _pairs((4.0, 3.7), half=True)
    attribution = attributions.attribution()
    picture = seeds_picture((*half, *whole), attribution)
    (figure,) = picture.figures
    through, stuck = trace_named(figure, "more than 0.02 lower"), trace_named(figure, "less than that")
    assert list(through.y) == [4.0, 3.7, None, 3.80, 3.40, None, 3.85, 3.30, None]
    assert list(stuck.y) == [3.82, 3.81, None]
    assert stuck.x[:2] == through.x[3:5]
    assert stuck.marker.symbol != through.marker.symbol
    assert list(trace_named(figure, "unpaired").y) == [3.79]
    (mean,) = (trace for trace in figure.data if "mean of" in (trace.hovertemplate or ""))
    assert list(mean.y) == pytest.approx([statistics.fmean((3.80, 3.82, 3.85)), statistics.fmean((3.40, 3.81, 3.30))])
    assert "on 2 of 3 seeds (+0.010 to +0.550) and at half of it on 1 of 1 seed (+0.300)" in picture.summary
    assert list(figure.layout.xaxis.ticktext) == ["baseline", "best", "baseline", "best"]
    low, high = figure.layout.yaxis.range
    assert low < 3.30
    assert high > 4.0


def test_runs_that_diverged_are_said() -> None:
    picture = seeds_picture(_pairs((3.8, 3.4)), attributions.diverged())
    assert "2 runs of the best diverged" in picture.summary
    assert len(picture.figures[0].layout.xaxis.ticktext) == 2
