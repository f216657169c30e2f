"""JSON of the start, the noise, the courses of branches and the races: their keys and their numbers."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from sweeps.analysis.evidence import Evidence
from sweeps.analysis.findings import Findings
from sweeps.analysis.sensitivity import paired_sd
from sweeps.store.records import Results
from sweeps.study.start import CheckpointStart
from sweeps.verdict.as_json import found, summarize
from tests.helpers import attributions, branching, synthetic

RACES = {
    "origin": lambda step: 5 - step / 400,
    "n_embd=768": lambda step: 5 - step / 320,
    "dropout=0.2": lambda step: 5.1 - step / 400,
}
TILTS = [branching.TILTS[seed] for seed in (1338, 1339, 1340)]


def json_of(results: Results) -> dict[str, Any]:
    """Return the study after a round trip through JSON."""
    summary = summarize(Findings(results), store=Path("study.db"), report=Path("report.html"))
    return json.loads(json.dumps(summary, allow_nan=False))  # type: ignore[no-any-return]


def test_a_start_from_a_trained_origin() -> None:
    assert json_of(branching.results())["start"] == {
        "kind": "train",
        "step": 600,
        "val_loss": branching.START,
        "plateau": "plateau",
        "since": 400,
        "going_on": 0.015,
    }


def test_other_starts() -> None:
    unknown = dict.fromkeys(("step", "val_loss", "plateau", "since", "going_on"))
    assert json_of(attributions.swept())["start"] == {"kind": "scratch", **unknown}
    own = branching.study().model_copy(update={"start": CheckpointStart(checkpoint="out/ckpt.pt"), "origin": None})
    assert found(Findings(synthetic.results([], study=own)))["start"] == {"kind": "checkpoint", **unknown}


def test_a_knob_has_what_its_curves_add() -> None:
    dropout, decay = json_of(branching.results())["verdict"]["knobs"]
    assert (dropout["name"], dropout["protocol"]) == ("dropout", "branch")
    lead = branching.WITHOUT_DROPOUT - branching.CONTROL + np.mean(TILTS)
    assert dropout["trend"] == pytest.approx(lead)
    assert dropout["times_as_fast"] == pytest.approx(1 + lead / branching.CONTROL)
    assert dropout["at_equal_time"] == pytest.approx(2 * lead)
    assert decay["times_as_fast"] == pytest.approx(1 + np.mean(TILTS) / branching.CONTROL)


def test_what_keeps_a_branch_from_being_shown_speaks_of_the_control() -> None:
    results = branching.results(fall=branching.CONTROL - 0.001)
    verdict = json_of(results)["verdict"]
    assert verdict["why"] == "no trial of the search ended lower than the control"


def test_races_are_listed_beside_the_knobs() -> None:
    width, dropout = json_of(branching.results(races=RACES))["races"]
    low, high = stats.ttest_ind([4.5, 4.51], [4.375, 4.385], equal_var=False).confidence_interval(0.95)
    assert width == {
        "change": {"n_embd": 768},
        "step": 200,
        "gap": pytest.approx(0.125),
        "ci": pytest.approx([low, high]),
        "growing": True,
        "params": pytest.approx(3.8454, abs=1e-4),
        "seconds": 1.0,
        "at_equal_time": pytest.approx(0.125),
        "n": 2,
        "diverged": 0,
    }
    assert dropout["change"] == {"dropout": 0.2}
    assert dropout["growing"] is None
    assert json_of(attributions.swept())["races"] == []


def test_a_race_of_one_seed_has_no_interval_and_one_that_has_not_begun_no_gap() -> None:
    runs = [run for run in branching.race_runs(branching.study(), RACES) if run.seed == 1337]
    races = found(Findings(synthetic.results(runs, study=branching.study())))["races"]
    assert [(race["gap"], race["ci"], race["n"]) for race in races] == [
        (pytest.approx(0.125), None, 1),
        (pytest.approx(-0.1), None, 1),
    ]
    begun = [dataclasses.replace(run, points=run.points[:1]) for run in runs]
    for race in found(Findings(synthetic.results(begun, study=branching.study())))["races"]:
        assert race["gap"] is race["step"] is race["ci"] is race["growing"] is race["at_equal_time"] is None


def noncentral(degrees: int) -> float:
    """Return the noncentrality that exceeds the critical value of the best's test in 80 % of cases, by scipy.stats."""
    critical = stats.t.ppf(1 - 0.05 / 3.125, degrees)
    return float(optimize.brentq(lambda d: stats.nct.sf(critical, degrees, d) - 0.8, 0.1, 60))


def test_the_noise_of_branches_is_that_of_paired_differences() -> None:
    noise = json_of(branching.results())["noise"]
    # either knob alone: 200 iterations along lines that the seeds tilt
    sd = 2 * np.std(TILTS, ddof=1)
    assert noise == {
        "sd": pytest.approx(sd),
        "seeds": 4,
        "horizon": 200,
        # three pairs, at the best's level of 0.05 / 3.125
        "detects": pytest.approx(0.002 + noncentral(2) * sd / math.sqrt(3), rel=1e-3),
    }


def test_before_a_knob_has_two_seeds_pairing_is_taken_to_buy_nothing() -> None:
    results = branching.results()
    runs = [run for run in results.runs if run.phase == "baseline"]
    runs = [dataclasses.replace(run, val_loss=3.88 + 0.001 * index) for index, run in enumerate(runs)]
    assert paired_sd(Evidence(dataclasses.replace(results, runs=tuple(runs)))) == pytest.approx(math.sqrt(2) * 0.001)
    one = Findings(dataclasses.replace(results, runs=tuple(runs[:1])))
    assert found(one)["noise"] == {"sd": None, "seeds": 1, "horizon": 200, "detects": None}


def test_the_noise_from_scratch_is_that_of_the_baselines_losses() -> None:
    results = attributions.results()
    noise = json_of(results)["noise"]
    assert noise["sd"] == pytest.approx(np.std([3.80 + 0.01 * index for index in range(6)], ddof=1))
    assert (noise["seeds"], noise["horizon"]) == (6, 600)
    assert found(Findings(synthetic.results([])))["noise"] == {
        "sd": None,
        "seeds": 0,
        "horizon": None,
        "detects": None,
    }
