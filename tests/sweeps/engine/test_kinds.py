"""Kinds of device: the runs of a seed stay on one, and where they can't, nothing pairs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.analysis.findings import Findings
from sweeps.engine.agenda import Agenda, Sampled
from sweeps.engine.kinds import Place, kind_of
from sweeps.store.records import Outcome, Run
from sweeps.study.proposals import Proposal
from sweeps.study.study import Study
from sweeps.verdict import confirmed, effects
from tests.helpers import small_sweep
from tests.helpers.small_sweep import Watcher, origin_counts, results_in, run, sweep

BOTH = frozenset("AB")


def of_kind(*kinds: str, number: int = 1, seed: int = 1, **changes: Any) -> Run:
    return run(number, [3.0], kinds=kinds, seed=seed, origin="confirm", **changes)


@pytest.mark.parametrize(
    ("runs", "here", "kind"),
    [
        ([], BOTH, None),
        ([of_kind("A")], BOTH, "A"),
        ([of_kind("A"), of_kind("B", number=2)], BOTH, "A"),
        ([of_kind("C"), of_kind("B", number=2)], BOTH, "B"),  # the first's kind is gone
        ([of_kind("C")], BOTH, None),
        ([of_kind("A", seed=2)], BOTH, None),
        ([of_kind("A", outcome=Outcome.FAILED)], BOTH, None),
        ([of_kind("A", outcome=Outcome.RUNNING)], BOTH, "A"),
        ([of_kind("A", "B")], BOTH, "B"),
        ([run(1, [3.0], kinds=("A",), seed=1, origin="sampler")], BOTH, None),  # no other run is compared with it
        ([of_kind()], BOTH, None),
    ],
)
def test_a_seed_belongs_on_the_kind_of_its_first_run_that_is_still_there(
    runs: list[Run], here: frozenset[str], kind: str | None
) -> None:
    assert kind_of(1, runs, here=here) == kind
    for name in here:
        assert Place(kind=name, here=here).takes(1, runs) is (kind in (name, None))


@pytest.mark.parametrize(
    ("flying", "takes"),
    [(of_kind("A"), False), (of_kind("B"), True), (of_kind("C"), True), (of_kind("A", "B"), True)],
)
def test_a_run_goes_on_on_its_own_kind_while_there_is_one(flying: Run, takes: bool) -> None:
    assert Place(kind="B", here=BOTH).takes_again(flying, [of_kind("A", number=2)]) is takes


def confirming(**changes: Any) -> Study:
    """Return a study whose confirm phase takes several seeds: its baseline has too low a learning rate."""
    baseline = {**small_sweep.study().baseline, "learning_rate": 2e-4, "min_lr": 2e-5}
    return small_sweep.study(**{"baseline": baseline, "trials": 8, "confirm": {"seeds": 3, "max_trials": 9}, **changes})


TWO = {"devices": ("cuda:0", "cuda:1"), "kinds": {"cuda:0": "A", "cuda:1": "B"}}


def test_on_two_kinds_every_seed_stays_on_one_and_both_are_used(tmp_path: Path) -> None:
    watcher = Watcher()
    assert sweep(tmp_path, confirming(), observer=watcher, **TWO).finished
    results = results_in(tmp_path)
    seeds: dict[int, set[str]] = {}
    for each in results.runs:
        if each.origin != "sampler":
            seeds.setdefault(each.seed, set()).add(each.kind)
    assert {len(kinds) for kinds in seeds.values()} == {1}
    assert set.union(*seeds.values()) == {"A", "B"}
    assert "B" in {run.kind for run in results.runs if run.origin == "sampler"} - seeds[results.study.seed]
    assert origin_counts(results)["one-at-a-time"] == 3  # the sampler leaves room for those that wait for their kind
    attribution = Findings(results).attribution
    assert attribution is not None
    assert attribution.effect is not None
    assert attribution.effect.n > 1
    assert not attribution.effect.kinds_differ
    assert [note for note in watcher.notes if "kinds" in note] == [
        "workers are of 2 kinds (A, B): the runs of a seed stay on one kind, because a seed ends elsewhere on another; "
        "the sampler's trials run on any"
    ]


class Killed(BaseException): ...


def test_where_a_kind_is_gone_the_comparison_is_unpaired_and_says_so(tmp_path: Path) -> None:
    def kill(tick: int) -> None:
        begun = (
            [run for run in results_in(tmp_path).runs if run.phase == "confirm"] if tick > 200 and tick % 3 == 0 else []
        )
        if len(begun) == 4 and len(begun[-1].points) > 2:
            raise Killed

    with pytest.raises(Killed):
        sweep(tmp_path, confirming(), at_tick=kill, kinds={"cpu": "A"})
    watcher = Watcher()
    assert sweep(tmp_path, confirming(), observer=watcher, kinds={"cpu": "B"}).finished
    results = results_in(tmp_path)
    attribution = Findings(results).attribution
    assert attribution is not None
    assert attribution.effect is not None
    assert (attribution.effect.kinds_differ, attribution.effect.method) == (True, "unpaired")
    assert "unpaired because kinds of device differ" in effects.gain(attribution.effect)
    assert any("is paired with no run" in note for note in watcher.notes)
    assert any("runs on different kinds are not paired" in note for note in watcher.notes)
    assert any("on different kinds of device are unpaired" in text for text in confirmed.reading(attribution))
    moved = [run for run in results.runs if len(run.kinds) > 1]
    assert [run.kinds for run in moved] == [("A", "B")]
    assert all(moved[0].kind != other.kind for other in results.runs if other.id != moved[0].id)


@pytest.mark.parametrize(("trials", "elsewhere"), [(3, None), (4, Sampled.TRIAL)])
def test_the_sampler_leaves_room_for_trials_that_wait_for_their_kind(trials: int, elsewhere: Sampled | None) -> None:
    """Three single-knob trials wait for A, where the baseline ran on their seed."""
    agenda = Agenda(small_sweep.study(baseline_seeds=1, trials=trials), small_sweep.FACTS)
    first = agenda.next([], queued=False)
    assert isinstance(first, Proposal)
    of_it = {"key": first.key, "config": first.config, "params": first.params}
    begun = run(1, [3.0], kinds=("A",), origin="baseline", phase="baseline", **of_it)
    assert agenda.next([begun], queued=False, place=Place(kind="B", here=BOTH)) is elsewhere
    waiting = agenda.next([begun], queued=False, place=Place(kind="A", here=BOTH))
    assert isinstance(waiting, Proposal)
    assert waiting.origin == "one-at-a-time"
