"""The time left: compared with what came in two recorded sweeps, and with sums where every run takes as long."""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.engine.planning.speed import tokens_of
from sweeps.engine.planning.workload import workload
from sweeps.engine.time_left import Coming, Pace, left_of, time_left, to_come
from sweeps.store.records import Outcome, Run
from sweeps.study.study import Study
from tests.helpers import small_sweep
from tests.helpers.recorded_times import WORKERS, Recorded
from tests.helpers.small_sweep import FACTS

PARTS = 20


def planned_of(recorded: Recorded, runs: list[Run]) -> int:
    """Return the runs of the finished study as the agendas count them: all that begin, and all that may confirm."""
    before = sum(run.phase in ("origin", "race") for _, run in recorded.runs)
    study = recorded.study
    adopted = sum(run.phase == "baseline" for _, run in recorded.runs) - study.baseline_seeds
    return before + study.baseline_seeds + study.trials + study.confirm.max_trials + max(0, adopted)


def said_to_come(recorded: Recorded) -> list[float]:
    """Return the time said to be left relative to what came, at every twentieth of the sweep."""
    work = workload(recorded.study, vocab_size=recorded.data.vocab_size)
    ratios = []
    for part in range(1, PARTS):
        moment = recorded.seconds * part / PARTS
        runs = recorded.runs_at(moment)
        said = time_left(
            [run for run in runs if run.unfinished],
            to_come(recorded.study, runs, work, planned=planned_of(recorded, runs)),
            Pace.of(runs, recorded.data),
            study=recorded.study,
            workers=WORKERS,
            spent=moment,
        )
        assert said is not None
        ratios.append(said / (recorded.seconds - moment))
    return ratios


def test_in_a_recorded_sweep_from_a_plateau_it_was_never_a_third_off() -> None:
    """The mean time per run said 0.9 to 3.4 times what came: races are long, and a confirm phase was still to come."""
    ratios = said_to_come(Recorded.read("from_a_plateau"))
    assert all(3 / 4 <= ratio <= 4 / 3 for ratio in ratios), ratios


def test_in_a_recorded_sweep_beside_a_neighbour_that_came_late_it_was_off_by_less_than_the_neighbour() -> None:
    """Nobody can foresee the neighbour, which slowed the last 4 of 9 minutes down threefold."""
    ratios = said_to_come(Recorded.read("from_scratch"))
    assert all(1 / 3 <= ratio <= 1.6 for ratio in ratios), ratios
    assert statistics.median(abs(math.log2(ratio)) for ratio in ratios) < 0.35


# sums where every run takes as long


def seconds_left(runs: list[Run], study: Study, *, planned: int, workers: int = 1, spent: float = 0.0) -> float | None:
    work = workload(study, vocab_size=FACTS.vocab_size)
    unfinished = [run for run in runs if run.unfinished]
    coming = to_come(study, runs, work, planned=planned)
    return time_left(unfinished, coming, Pace.of(runs, FACTS), study=study, workers=workers, spent=spent)


def whole(number: int, seconds: float = 100.0, **changes: Any) -> Run:
    """Return a run of the small study that was evaluated at every step; the final evaluation took its share."""
    config = changes.get("config", small_sweep.baseline())
    per_token = seconds / tokens_of(config, FACTS)
    points = small_sweep.run(number, losses=[3.0] * small_sweep.EVALUATIONS, config=config).points
    timed = (
        dataclasses.replace(point, seconds=per_token * tokens_of(config, FACTS, iters=point.step)) for point in points
    )
    return small_sweep.run(number, **{"seconds": seconds, **changes, "points": tuple(timed)})


def half_done(number: int) -> Run:
    run = whole(number)
    return dataclasses.replace(run, outcome=Outcome.RUNNING, val_loss=None, points=run.points[:11])


SAME_SHAPE = small_sweep.study(
    knobs={"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}, pruner={"type": "none"}
)


@pytest.mark.parametrize(("workers", "expected"), [(1, 700.0), (2, 400.0), (7, 100.0), (9, 100.0)])
def test_every_run_to_come_counts_whole(workers: int, expected: float) -> None:
    baseline = whole(1, phase="baseline", origin="baseline")  # of 2, and 6 trials
    assert seconds_left([baseline], SAME_SHAPE, planned=8, workers=workers) == pytest.approx(expected)


def test_a_run_under_way_counts_for_what_it_has_not_done() -> None:
    done = whole(1, phase="baseline", origin="baseline")
    under_way = dataclasses.replace(half_done(2), phase="baseline", origin="baseline")
    left = 100.0 - under_way.points[-1].seconds
    assert 40 < left < 65  # the final evaluation is part of it
    assert seconds_left([done, under_way], SAME_SHAPE, planned=8) == pytest.approx(600 + left)


def test_a_run_under_way_tells_the_pace_before_any_has_ended() -> None:
    under_way = dataclasses.replace(half_done(1), phase="baseline", origin="baseline")
    assert seconds_left([under_way], SAME_SHAPE, planned=8) == pytest.approx(800 - under_way.points[-1].seconds)
    assert seconds_left([dataclasses.replace(under_way, points=under_way.points[:1])], SAME_SHAPE, planned=8) is None
    assert seconds_left([], SAME_SHAPE, planned=8) is None


def test_the_confirm_phase_has_a_quarter_of_half_runs() -> None:
    study = small_sweep.study(knobs=SAME_SHAPE.model_dump(exclude_none=True)["knobs"], confirm={"max_trials": 8})
    baseline = whole(1, phase="baseline", origin="baseline")
    assert seconds_left([baseline], study, planned=16) == pytest.approx(700 + 8 * 100 * 7 / 8)


def test_trials_that_were_pruned_early_shorten_those_to_come() -> None:
    baselines = [whole(number, phase="baseline", origin="baseline") for number in (1, 2)]
    designed = [whole(number, origin="one-at-a-time") for number in (3, 4)]
    pruned = dataclasses.replace(whole(5), outcome=Outcome.PRUNED, val_loss=None)
    pruned = dataclasses.replace(pruned, points=pruned.points[:11], seconds=pruned.points[10].seconds)
    # 3 more trials, of which a half and a whole are expected in equal parts
    assert seconds_left([*baselines, *designed, pruned], SAME_SHAPE, planned=8) == pytest.approx(3 * 75, rel=0.01)


def test_it_is_no_longer_than_the_hours_that_are_left() -> None:
    study = SAME_SHAPE.model_copy(update={"hours": 0.1})
    baseline = whole(1, phase="baseline", origin="baseline")
    assert seconds_left([baseline], study, planned=8, spent=100.0) == pytest.approx(260.0)
    assert seconds_left([baseline], study, planned=8, spent=1000.0) == 0.0


@given(factor=st.floats(0.1, 10.0))
def test_it_grows_with_the_time_that_runs_took(factor: float) -> None:
    def left(seconds: float) -> float:
        run = whole(1, seconds, phase="baseline", origin="baseline")
        said = seconds_left([run], SAME_SHAPE, planned=8)
        assert said is not None
        return said

    assert left(100.0 * factor) == pytest.approx(factor * left(100.0))


def test_slower_runs_at_last_are_believed_half_way() -> None:
    early = [whole(number) for number in range(1, 17)]
    late = [whole(number, 400.0) for number in range(17, 25)]
    pace = Pace.of([*early, *late], FACTS)
    assert pace is not None
    assert pace.seconds(small_sweep.baseline()) == pytest.approx(100.0 * math.sqrt(4.0))


def test_a_shape_that_has_not_run_takes_its_flops_from_the_nearest_one() -> None:
    narrow = small_sweep.baseline()
    deeper = narrow.replace(n_layer=4)
    wide = narrow.replace(n_embd=256, n_head=16)
    pace = Pace.of([whole(1), whole(2, 1000.0, config=wide)], FACTS)
    assert pace is not None
    assert pace.seconds(narrow) == pytest.approx(100.0)
    assert pace.seconds(wide) == pytest.approx(1000.0)
    assert 100.0 < pace.seconds(deeper) < 400.0  # the embedding's FLOPs don't grow
    assert pace.seconds(wide.replace(n_embd=272, n_head=17)) == pytest.approx(1000.0, rel=0.15)


def test_a_halted_race_that_goes_on_has_as_much_again_to_do() -> None:
    recorded = Recorded.read("from_a_plateau")
    halted = next(run for _, run in recorded.runs if run.phase == "race")
    pace = Pace.of([halted], recorded.data)
    assert pace is not None
    begun = dataclasses.replace(halted, outcome=Outcome.RUNNING, points=halted.points[:19])  # at 180 of 360
    assert left_of(begun, pace, recorded.study) == pytest.approx(halted.seconds / 2, rel=0.05)
    going_on = dataclasses.replace(halted, outcome=Outcome.RUNNING)  # up to 400, the length of the origin's schedule
    assert left_of(going_on, pace, recorded.study) == pytest.approx(halted.seconds / 9, rel=0.05)


def test_a_run_whose_config_is_open_costs_the_mean() -> None:
    narrow, wide = small_sweep.baseline(), small_sweep.baseline().replace(n_embd=256, n_head=16)
    pace = Pace.of([whole(1), whole(2, 300.0, config=wide)], FACTS)
    assert pace is not None
    assert pace.seconds_of(Coming(configs=[narrow, wide], share=0.5)) == pytest.approx(100.0)
