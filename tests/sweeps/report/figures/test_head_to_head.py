"""The best config against the baseline: means and ranges over seeds, the plateau, the horizon."""

from __future__ import annotations

import dataclasses
import statistics

import pytest

from sweeps.analysis.findings import Findings
from sweeps.report.figures.head_to_head import head_to_head_picture
from sweeps.store.records import Results
from tests.helpers import attributions, synthetic
from tests.helpers.figures import note_texts, trace_named


def test_lines_are_means_over_seeds_and_bands_their_range() -> None:
    results = attributions.results()
    whole = results.runs[0].config.max_iters
    best = [
        run for run in results.runs if "best" in run.label and run.config.max_iters == whole and run.phase == "confirm"
    ]
    assert len(best) == 5
    (figure,) = head_to_head_picture(Findings(results)).figures
    for name, runs in (("baseline", results.baseline_runs), ("best config", best)):
        last = [run.points[-1].val_loss for run in runs]
        line, band = trace_named(figure, name), trace_named(figure, f"{name}, range")
        assert line.y[-1] == pytest.approx(statistics.fmean(last))
        ends = [y for x, y in zip(band.x, band.y, strict=True) if x == line.x[-1]]
        assert ends == pytest.approx([max(last), min(last)])


def _stuck(results: Results, seeds: int) -> Results:
    """Return the results with this many of the baseline's seeds on a plateau from the eighth evaluation on."""
    baseline = [run.id for run in results.baseline_runs]
    runs = [
        dataclasses.replace(run, points=synthetic.stuck(run.points, since=8)) if run.id in baseline[:seeds] else run
        for run in results.runs
    ]
    return dataclasses.replace(results, runs=tuple(runs))


@pytest.mark.parametrize(("stuck", "marked"), [(6, True), (4, True), (3, False), (0, False)])
def test_a_plateau_is_marked_where_most_of_the_baselines_seeds_are_on_one(stuck: int, marked: bool) -> None:
    results = attributions.results()
    assert len(results.baseline_runs) == 6
    picture = head_to_head_picture(Findings(_stuck(results, stuck)))
    (figure,) = picture.figures
    assert ("plateau" in note_texts(figure)) is marked
    assert ("Shaded" in picture.reading) is marked


def test_the_horizon_is_marked_and_the_gain_stands_at_the_end() -> None:
    results = attributions.results()
    picture = head_to_head_picture(Findings(results))
    (figure,) = picture.figures
    config = results.runs[0].config
    assert f"horizon, {config.max_iters:,} iterations" in note_texts(figure)
    assert config.max_iters * config.tokens_per_iter in [shape.x0 for shape in figure.layout.shapes]
    # the means of the final losses: 3.825 nats over the baseline's seeds, 3.320 over the best's
    assert "best config<br>−0.505 nats" in note_texts(figure)
    assert (
        picture.summary
        == "The best config ends 0.505 nats lower than the baseline (6 seeds of the baseline, 5 of the best)."
    )


def test_before_the_confirm_phase_the_searchs_best_stands_alone() -> None:
    (figure,) = head_to_head_picture(Findings(synthetic.full())).figures
    assert trace_named(figure, "best so far")
    assert "best so far, range" not in [trace.name for trace in figure.data]


def test_nothing_to_compare() -> None:
    picture = head_to_head_picture(Findings(synthetic.results([synthetic.run(0)])))
    assert picture.figures == ()
    assert picture.summary.startswith("Nothing to compare yet")
