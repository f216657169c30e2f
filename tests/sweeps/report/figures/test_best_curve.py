"""Curves of the best against the baseline's seeds: which runs are drawn, and the parts on a plateau."""

from __future__ import annotations

import dataclasses

from sweeps.analysis.curves import losses_of, schedule_of
from sweeps.analysis.findings import Findings
from sweeps.pruning import plateau
from sweeps.report.figures.best_curve import best_curve_picture, best_seeds, stuck_parts
from sweeps.store.records import Results
from tests.helpers import attributions, synthetic
from tests.helpers.attributions import SEED
from tests.helpers.figures import trace_named


def test_a_plateaus_part_is_the_curves_end_since_the_verdict_has_it() -> None:
    free = synthetic.run(0, "baseline", points=synthetic.points(synthetic.BASELINE, 3.5, noise=0.001))
    stuck = dataclasses.replace(free, id=1, points=synthetic.stuck(free.points, since=8))
    (part,) = stuck_parts([free, stuck])
    assert part.run.id == 1
    verdict = plateau.verdict(losses_of(stuck), schedule_of(stuck.config))
    assert verdict.since is not None
    assert part.tokens == tuple(point.tokens for point in stuck.points[verdict.since :])
    assert part.losses == tuple(point.val_loss for point in stuck.points[verdict.since :])


def _stuck_study() -> Results:
    """Return the study of `attributions` with its baseline on a plateau at every seed."""
    results = attributions.results()
    runs = [
        dataclasses.replace(run, points=synthetic.stuck(run.points, since=8)) if run.origin == "baseline" else run
        for run in results.runs
    ]
    return dataclasses.replace(results, runs=tuple(runs))


def test_the_bests_fresh_seeds_stand_against_the_baselines_with_its_plateau_marked() -> None:
    results = _stuck_study()
    best = results.best
    assert best is not None
    assert [run.seed for run in best_seeds(results, best)] == [SEED + index for index in range(1, 6)]
    picture = best_curve_picture(Findings(results))
    (figure,) = picture.figures
    upper = [trace for trace in figure.data if trace.yaxis != "y2"]
    groups = [trace.legendgroup for trace in upper]
    assert groups.count("baseline") == groups.count("plateau") == 6
    assert groups.count("best") == 6
    assert trace_named(figure, "best, search's seed").line.dash == "dash"
    assert "The best config ends at 3.320 nats over 5 seeds (3.300 to 3.340)" in picture.summary
    assert "the baseline at 3.825 nats over 6 seeds (3.800 to 3.850)" in picture.summary
    assert "6 of the baseline's 6 curves" in picture.summary


def test_without_fresh_seeds_the_winner_stands_alone() -> None:
    figure = best_curve_picture(Findings(synthetic.full())).figures[0]
    assert trace_named(figure, "range of the seeds").fill == "toself"
    best = [trace for trace in figure.data if trace.legendgroup == "best"]
    assert [trace.line.width for trace in best] == [2.5]


def test_the_baseline_as_best_has_no_seeds_of_its_own() -> None:
    results = attributions.results()
    only = tuple(run for run in results.runs if run.id < 10 and run.origin == "baseline")
    best = only[0]
    assert best_seeds(dataclasses.replace(results, runs=only), best) == ()
