"""Pictures of a study: which are drawn, in which groups, and the words of each, with few runs as with many."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sweeps.analysis.findings import Findings
from sweeps.report.album import Album, album_of, confirmed_pictures, pruning_pictures
from sweeps.report.figures.ablation_path import path_picture
from sweeps.report.figures.curves import loss_curves
from sweeps.report.figures.forest import forest_picture
from sweeps.report.figures.seeds import seeds_picture
from sweeps.report.figures.stopped import judged_curves, stopped_picture
from sweeps.report.figures.style import Picture
from sweeps.store.records import Outcome, Results
from tests.helpers import attributions, branches, synthetic
from tests.helpers.figures import confirmed_results, flat_run

FULL = synthetic.full()
PLATEAU = synthetic.study()
MEDIAN = synthetic.study(pruner={"type": "median"})
NONE = synthetic.study(pruner={"type": "none"})


def test_every_picture_of_a_whole_study_is_drawn_and_said() -> None:
    pictures = album_of(Findings(FULL)).pictures
    assert len({picture.key for picture in pictures}) == len(pictures) == 14
    for picture in pictures:
        assert picture.figures, picture.key
        assert picture.summary.endswith(".")
        assert picture.reading
        assert set(picture.key) <= set("abcdefghijklmnopqrstuvwxyz-")
        for figure in picture.figures:
            assert figure.layout.xaxis.title.text or picture.key == "parallel"
    slices = {picture.key: picture for picture in pictures}["slices"]
    assert len(slices.figures) == len(synthetic.KNOBS)


@pytest.mark.parametrize(
    "results",
    [
        synthetic.results([]),
        synthetic.results([synthetic.run(0, "baseline", outcome="running", val_loss=None, points=())]),
        synthetic.results([synthetic.run(0, "baseline")]),
        synthetic.results([synthetic.run(0, outcome="pruned", val_loss=None)]),
        synthetic.family([3.5, 3.6], [3.4, 3.7]),
        synthetic.results(
            [synthetic.run(0, "candidate"), synthetic.run(1, "one-at-a-time", knob="dropout", val_loss=None)]
        ),
        synthetic.results([flat_run(0, 3.5), flat_run(1, 3.5, "candidate")]),
    ],
    ids=["empty", "running", "one seed", "one pruned", "no curves", "no baseline", "all alike"],
)
def test_few_runs_get_a_sentence_instead_of_an_empty_chart(results: Results) -> None:
    for picture in album_of(Findings(results)).pictures:
        assert picture.summary.endswith(".")
        assert all(any(trace.x is not None for trace in figure.data) for figure in picture.figures)
    keys = {picture.key for picture in album_of(Findings(results)).pictures if picture.figures}
    assert "importances" not in keys
    if not any(run.points for run in results.runs):
        assert not keys & {"loss-curves", "best-curve", "candidates"}


def _groups(album: Album) -> dict[str, list[str]]:
    return {group.title: [picture.key for picture in group.pictures] for group in album.groups}


def test_a_study_of_branches_begins_with_its_fork_and_has_its_origin_and_its_races_among_the_curves() -> None:
    album = album_of(Findings(branches.forked()))
    assert album.lead.key == "fork"
    assert all(picture.figures for picture in album.pictures[:6])
    groups = _groups(album)
    assert groups["Each knob on fresh seeds"] == ["confirmed-effects", "ablation-path", "every-seed"]
    assert groups["Loss curves"] == ["origin", "races", "loss-curves", "stopped-curves", "perplexity"]
    without = _groups(album_of(Findings(branches.forked(races=False))))
    assert "races" not in without["Loss curves"]


def test_a_study_from_scratch_begins_with_both_configs_curves() -> None:
    album = album_of(Findings(attributions.swept()))
    assert album.lead.key == "head-to-head"
    assert _groups(album)["Loss curves"][0] == "best-curve"
    assert "Each knob on fresh seeds" not in _groups(album_of(Findings(FULL)))
    unpruned = dataclasses.replace(FULL, study=NONE)
    assert "What stopping early saved and cost" not in _groups(album_of(Findings(unpruned)))


def test_runs_before_the_trials_are_in_no_picture_of_trials() -> None:
    results = branches.forked()
    assert any(run.before_trials for run in results.runs)
    assert not any(curve.run.before_trials for curve in loss_curves(results))
    assert not any(curve.curve.run.before_trials for curve in judged_curves(results))


@pytest.mark.parametrize("runs", [0, 1, 2, 6, 7, 8, 12, 20, 22])
def test_a_study_of_branches_has_its_pictures_while_it_runs(runs: int) -> None:
    """Cut off in the origin, going on, the races, the control, the search and the confirm phase."""
    whole = branches.forked()
    begun = whole.runs[:runs]
    if begun:
        points = begun[-1].points[:4]
        last = dataclasses.replace(begun[-1], outcome=Outcome.RUNNING, val_loss=None, points=points)
        begun = (*begun[:-1], last)
    results = dataclasses.replace(whole, runs=begun, study=branches.study() if runs < 2 else whole.study)
    for picture in album_of(Findings(results)).pictures:
        assert picture.summary.endswith(".")
        assert all(figure.to_json() for figure in picture.figures)


@pytest.mark.parametrize("case", attributions.CASES)
def test_every_verdict_gets_a_sentence_and_what_can_be_drawn(case: str) -> None:
    attribution = attributions.CASES[case]()
    for picture in (forest_picture(attribution), path_picture(attribution), seeds_picture((), attribution)):
        assert picture.summary.endswith("."), picture.summary
        assert bool(picture.reading) == bool(picture.figures)
        for figure in picture.figures:
            assert figure.layout.xaxis.title.text
            assert figure.layout.title.text is None
            assert figure.to_json()
    assert forest_picture(attribution).figures or case == "unchanged"


def test_pictures_begin_with_the_confirm_phase() -> None:
    assert confirmed_pictures(Findings(synthetic.full())) == ()
    pictures = confirmed_pictures(Findings(confirmed_results()))
    assert [picture.key for picture in pictures] == ["confirmed-effects", "ablation-path", "every-seed"]
    assert all(isinstance(picture, Picture) and picture.summary.endswith(".") for picture in pictures)
    assert pictures[-1].figures


@pytest.mark.parametrize(
    ("study", "keys"),
    [(PLATEAU, ["pruning-cost", "calibration"]), (MEDIAN, ["pruning-cost"]), (NONE, [])],
    ids=["plateau", "median", "none"],
)
def test_pictures_by_pruner(study: Any, keys: list[str]) -> None:
    results = dataclasses.replace(FULL, study=study)
    assert [picture.key for picture in pruning_pictures(Findings(results))] == keys
    assert stopped_picture(results).figures


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_one_run(count: int) -> None:
    results: Results = synthetic.results([synthetic.run(index) for index in range(count)])
    for picture in (stopped_picture(results), *pruning_pictures(Findings(results))):
        assert picture.summary.endswith(".")
        assert bool(picture.figures) == (count == 1 and picture.key == "stopped-curves")
