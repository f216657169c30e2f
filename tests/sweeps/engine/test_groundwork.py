"""The groundwork of a study of branches: which runs there are before the first trial, and where each of them halts."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

from sweeps.engine.groundwork import LOOKS_FROM
from sweeps.engine.origin import OriginError
from sweeps.engine.progress import Summary
from sweeps.paths import StudyPaths
from sweeps.store.records import Outcome, Run
from sweeps.study.start import LEAST_EFFECT
from sweeps.study.study import Study
from sweeps.workers.pool import Job, Report
from tests.helpers import small_sweep
from tests.helpers.fake_training import final_loss
from tests.helpers.kills import Killed, die_at
from tests.helpers.small_sweep import results_in
from trainer.config import TrainConfig
from trainer.points import Answer, Point, Result
from trainer.schedule import lr_at

ITERS, RACE = 300, 60
GROUNDWORK = ["origin:1337", "race:origin:1338", "race:n_embd=32:1337", "race:n_embd=32:1338", "going-on"]
STUCK_AT = 4.0
"""loss of a stuck origin"""


def branch_study(**changes: Any) -> Study:
    """Return a study whose origin is trained first: 300 iterations at most, branches of 20, races of 60."""
    settings: dict[str, Any] = {**small_sweep.study().baseline, "dropout": 0.1, "warmup_iters": 3}
    start = {"train": {"max_iters": ITERS}}
    fields = {"baseline": settings, "start": start, "race": {"iters": RACE, "n_embd": [32]}, "trials": 5}
    return small_sweep.study(**{**fields, **changes})


def loss_at(config: TrainConfig, step: int, *, stuck: bool) -> float:
    """Return the loss of a made-up run: a wider one is lower; a stuck one stops falling at two fifths of its length."""
    if config.init_from == "branch":
        return final_loss(config) + 0.5 * math.exp(-step / 10)
    wider = 0.2 * (config.n_embd > 16)
    fallen = min(step, 2 * ITERS // 5) if stuck else step
    return STUCK_AT - wider + 3.0 / math.sqrt(1 + fallen / 5) + 1e-4 * math.sin(7 * step + config.seed)


def working(*, stuck: bool = True, diverges: bool = False, faster_wide: bool = True) -> Any:
    """Return work whose origin is stuck or not. With `faster_wide` off, width makes no difference."""

    def work(job: Job, report: Report) -> Result:
        config, checkpoint = job.config, job.out / "ckpt.pt"
        if config.origin:
            assert job.origin is not None
            assert job.origin.is_file()
        last = json.loads(checkpoint.read_text())["step"] if checkpoint.exists() else -1
        shown = config if faster_wide else config.replace(n_embd=16, n_head=1)
        first = config.max_iters - 20 if config.init_from == "resume" else 0
        points = []
        steps = {first, *range(0, config.max_iters, config.eval_interval), config.max_iters}
        for step in sorted(step for step in steps if step >= first):
            loss = loss_at(shown, step, stuck=stuck)
            points.append(_point(config, step, loss))
            answer = report(points[-1])
            if step < last:
                continue
            if diverges and not config.origin and step > 100:
                return Result(outcome="diverged", step=step, points=tuple(points), reason="the loss exploded")
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.write_text(json.dumps({"step": step}))
            if answer is not Answer.GO:
                outcome = "stopped" if answer is Answer.STOP else "paused"
                return Result(outcome=outcome, step=step, points=tuple(points), seconds=float(step))
        return Result(
            outcome="complete", step=config.max_iters, points=tuple(points), val_loss=points[-1].val_loss, val_se=0.01
        )

    return work


def _point(config: TrainConfig, step: int, loss: float) -> Point:
    return Point(
        step=step,
        tokens=step * config.tokens_per_iter,
        train_loss=loss,
        train_se=0.01,
        val_loss=loss,
        val_se=0.01,
        lr=lr_at(step, config),
        grad_norm=None,
        tokens_per_s=1e4,
        seconds=float(step),
    )


def swept(folder: Path, study: Study | None = None, **options: Any) -> tuple[Summary, dict[str, Run]]:
    """Sweep; return the summary and the runs by key."""
    summary = small_sweep.sweep(folder, study or branch_study(), **{"work": working(), **options})
    return summary, {run.key: run for run in results_in(folder).runs}


@pytest.fixture(scope="module")
def stuck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stuck")
    swept(folder)
    return folder


def test_the_runs_before_the_first_trial(stuck: Path) -> None:
    runs = results_in(stuck).runs
    assert [run.key for run in runs if run.before_trials] == GROUNDWORK
    assert [run.before_trials for run in runs] == sorted((run.before_trials for run in runs), reverse=True)
    trials = [run for run in runs if not run.before_trials]
    assert {run.config.init_from for run in trials} == {"branch"}
    assert len(trials) == 2 + 5


def test_the_origin_halts_at_its_plateau_and_not_before_a_third(stuck: Path) -> None:
    results = results_in(stuck)
    origin, run = results.study.origin, results.runs[0]
    assert origin is not None
    assert (run.outcome, run.reason) == (Outcome.HALTED, "its curve is a plateau")
    assert LOOKS_FROM * ITERS <= origin.step == run.points[-1].step < ITERS
    assert origin.plateau == "plateau"
    assert origin.since is not None
    assert origin.since < origin.step


def test_an_origin_that_falls_trains_to_its_end(tmp_path: Path) -> None:
    _, runs = swept(tmp_path, work=working(stuck=False))
    origin = results_in(tmp_path).study.origin
    assert origin is not None
    assert (runs["origin:1337"].outcome, origin.step) == (Outcome.COMPLETE, ITERS)
    assert origin.plateau != "plateau"


def test_the_control_is_the_origin_with_nothing_changed(stuck: Path) -> None:
    results = results_in(stuck)
    origin, control = results.study.origin, results.reference
    assert origin is not None
    assert control is not None
    own = results.runs[0].config
    assert control.learning_rate == origin.learning_rate == lr_at(origin.step, own)
    assert control.min_lr == own.min_lr
    assert (control.max_iters, control.lr_decay_iters, control.warmup_iters) == (20, 20, 0)
    assert control.origin == origin.sha256
    differing = {name for name, value in control.as_dict().items() if value != own.as_dict()[name]}
    schedule = {"learning_rate", "max_iters", "lr_decay_iters", "warmup_iters"}
    assert differing <= schedule | {"init_from", "origin", "eval_interval", "eval_windows", "final_windows"}


def test_min_effect_is_a_tenth_of_what_going_on_brings(tmp_path: Path) -> None:
    _, runs = swept(tmp_path, work=working(stuck=False))
    study = results_in(tmp_path).study
    points = runs["going-on"].points
    brings = points[0].val_loss - points[-1].val_loss
    assert study.origin is not None
    assert study.origin.going_on == pytest.approx(brings)
    assert study.min_effect == pytest.approx(max(LEAST_EFFECT, brings / 10), rel=0.05)
    assert results_in(tmp_path).study.confirm.min_effect is None


def test_a_promising_race_goes_on_to_twice_as_many_iterations(stuck: Path) -> None:
    results = results_in(stuck)
    ends = {run.key: run.points[-1].step for run in results.runs if run.phase == "race"}
    assert results.study.origin is not None
    longest = min(2 * RACE, results.study.origin.step + 20)
    interval = results.runs[0].config.eval_interval
    assert all(longest <= end < longest + interval for end in ends.values())
    assert small_sweep.attempts_in(stuck)[1:4] == [2, 2, 2]
    assert {run.outcome for run in results.runs if run.phase == "race"} == {Outcome.HALTED}


def test_a_race_without_promise_ends_at_its_length(tmp_path: Path) -> None:
    _, runs = swept(tmp_path, work=working(faster_wide=False))
    ends = {run.points[-1].step for run in runs.values() if run.phase == "race"}
    interval = runs["origin:1337"].config.eval_interval
    assert ends == {math.ceil(RACE / interval) * interval}


def test_a_race_follows_the_origins_schedule(stuck: Path) -> None:
    runs = {run.key: run for run in results_in(stuck).runs}
    own, raced = runs["origin:1337"].config, runs["race:n_embd=32:1337"].config
    assert raced == own.replace(n_embd=32)  # the number of heads stays where the baseline gives no head size
    assert runs["race:origin:1338"].config == own.replace(seed=1338)


def test_a_finished_sweep_has_nothing_left(stuck: Path) -> None:
    before = small_sweep.attempts_in(stuck)
    summary, _ = swept(stuck)
    assert summary.finished
    assert summary.started == 0
    assert small_sweep.attempts_in(stuck) == before


def test_a_race_added_later_runs_then(tmp_path: Path) -> None:
    swept(tmp_path)
    _, runs = swept(tmp_path, branch_study(race={"iters": RACE, "n_embd": [32], "n_layer": [2]}))
    assert runs["race:n_layer=2:1337"].outcome == Outcome.HALTED


@pytest.mark.parametrize("devices", [("cpu",), ("cpu", "cpu")])
def test_a_sweep_killed_again_and_again_has_the_same_runs(
    tmp_path: Path, stuck: Path, devices: tuple[str, ...]
) -> None:
    for session in range(60):
        with contextlib.suppress(Killed):  # a resumed run replays its points, up to 31 of them, before it trains
            summary, _ = swept(tmp_path, devices=devices, at_tick=die_at(40 + session % 13))
            if summary.finished:
                break
    else:
        pytest.fail("it never finishes")

    def facts(folder: Path) -> set[tuple[Any, ...]]:
        runs = results_in(folder).runs
        return {(run.key, run.outcome, run.config, run.val_loss, tuple(p.val_loss for p in run.points)) for run in runs}

    undisturbed, disturbed = results_in(stuck).study.origin, results_in(tmp_path).study.origin
    assert undisturbed is not None
    assert disturbed is not None
    assert disturbed.model_copy(update={"checkpoint": undisturbed.checkpoint}) == undisturbed
    if len(devices) == 1:  # with more, the sampler's trials depend on which others have ended
        assert facts(tmp_path) == facts(stuck)
    else:
        assert {fact for fact in facts(tmp_path) if fact[0] in GROUNDWORK} == {
            fact for fact in facts(stuck) if fact[0] in GROUNDWORK
        }


def test_an_origin_that_diverges_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OriginError, match=r"its run diverged: the loss exploded; change the baseline"):
        swept(tmp_path, work=working(diverges=True))


def test_the_origins_checkpoint_is_copied_whole(stuck: Path) -> None:
    paths = StudyPaths(stuck)
    assert paths.origin.read_bytes() == paths.checkpoint(1).read_bytes()
    assert [path.name for path in paths.origin.parent.iterdir()] == ["ckpt.pt"]


def test_knobs_are_widened_to_the_controls_values(tmp_path: Path) -> None:
    watcher = small_sweep.Watcher()
    knobs = {
        "learning_rate": {"low": 9e-4, "high": 1e-2, "log": True},
        "dropout": {"low": 0.0, "high": 0.4},
    }
    swept(tmp_path, branch_study(knobs=knobs, race=None), observer=watcher)
    study = results_in(tmp_path).study
    assert study.knobs["learning_rate"].contains(study.control["learning_rate"])  # type: ignore[arg-type]
    assert any(note.startswith("knobs.learning_rate: 0.0") and "beyond the control's" in note for note in watcher.notes)
