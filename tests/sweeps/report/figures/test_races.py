"""Gaps of the races as the analysis has them: the lines, their intervals, and the words."""

from __future__ import annotations

import itertools

import pytest

from sweeps.analysis.findings import Findings
from sweeps.report.figures.races import races_picture
from sweeps.store.records import Outcome, Results
from tests.helpers import branches, synthetic
from tests.helpers.figures import note_texts, trace_named

ORIGINS = {
    "origin:1337": {0: 7.6, 300: 5.0, 600: 4.5, 900: 4.3},
    "race:origin:1338": {0: 7.6, 300: 5.1, 600: 4.7},
}


def _race(losses: dict[str, dict[int, float]]) -> Results:
    """Return a study with these runs before its trials, by key."""
    proposals = branches.before_trials(branches.study())
    runs = [
        branches.run_of(proposals[key], number, curve, outcome=Outcome.HALTED, val_loss=None)
        for number, (key, curve) in enumerate(losses.items())
    ]
    return synthetic.results(runs, study=branches.study())


def test_a_line_is_the_mean_gap_at_each_evaluation_that_both_sides_share() -> None:
    wide = {f"race:n_embd=768:{seed}": {0: 7.6, 300: 4.8, 600: 4.4, 900: 4.1} for seed in (1337, 1338)}
    (figure,) = races_picture(Findings(_race({**ORIGINS, **wide}))).figures
    line = trace_named(figure, "n_embd 768")
    assert line.x == (300, 600)  # the origin on seed 1338 ends at 600
    assert line.y == pytest.approx(((5.0 + 5.1) / 2 - 4.8, (4.5 + 4.7) / 2 - 4.4))


def test_the_band_is_the_interval_of_the_finding_and_the_end_is_the_verdicts_gap() -> None:
    findings = Findings(branches.forked())
    (figure,) = races_picture(findings).figures
    for race in findings.races:
        label = f"{race.knob} {race.value}"
        line, band = trace_named(figure, label), trace_named(figure, f"{label}, 95 % interval")
        assert race.gap is not None
        assert (line.x[-1], line.y[-1]) == (race.steps, race.gap.mean)
        low, high = figure.layout.yaxis.range
        assert race.gap.low is not None
        assert race.gap.high is not None
        assert low < race.gap.low
        assert race.gap.high < high
        ends = [y for x, y in zip(band.x, band.y, strict=True) if x == race.steps]
        assert ends == [race.gap.high, race.gap.low]
        for low, mean, high in itertools.islice(zip(band.y[::-1], line.y, band.y, strict=False), len(line.y)):
            assert low <= mean <= high


def test_one_seed_has_a_line_without_a_band() -> None:
    one = {"race:n_embd=768:1337": {0: 7.6, 300: 4.8, 600: 4.4}}
    (figure,) = races_picture(Findings(_race({"origin:1337": ORIGINS["origin:1337"], **one}))).figures
    assert [trace.name for trace in figure.data] == ["n_embd 768"]


@pytest.mark.parametrize("keys", [(), ("origin:1337",), ("race:n_embd=768:1337",)])
def test_nothing_to_compare(keys: tuple[str, ...]) -> None:
    picture = races_picture(Findings(_race({key: {0: 7.6, 300: 5.0} for key in keys})))
    assert picture.figures == ()
    assert picture.summary == "No race has been evaluated beside the origin's curve yet."


def test_the_picture_names_each_race_with_its_parameters() -> None:
    picture = races_picture(Findings(branches.forked()))
    (figure,) = picture.figures
    assert trace_named(figure, "n_embd 768").x[-1] == 1200  # it goes on to twice its length
    # nanoGPT: 12 C**2 + 2 C per block, a final norm, and embeddings of 2048 tokens and 256 positions
    sizes = {(n, c): n * (12 * c**2 + 2 * c) + c + (2048 + 256) * c for n, c in ((6, 384), (6, 768), (12, 384))}
    texts = note_texts(figure)
    assert f"n_embd 768<br>{sizes[6, 768] / sizes[6, 384]:.3g}× params" in texts
    assert f"n_layer 12<br>{sizes[12, 384] / sizes[6, 384]:.3g}× params" in texts
    assert "the origin" in texts
    assert [shape.y0 for shape in figure.layout.shapes] == [0]
    assert figure.layout.yaxis.range[0] < -0.055 < 0.22 < figure.layout.yaxis.range[1]
    assert "is 0.210 nats below the origin at iteration 1,200 (+0.105 half-way; 2 seeds)" in picture.summary
    assert "is 0.052 nats above the origin at iteration 600" in picture.summary
