"""A session: the estimated time that is stored with a new study, and the threads that prepare its data."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from sweeps.engine import session
from sweeps.paths import StudyPaths
from tests.helpers import fake_training, small_sweep
from tests.helpers.inline_pool import InlinePool
from trainer.machine.device import Device, named

CPU = InlinePool(["cpu"], work=fake_training.train)


def test_the_plans_times_are_stored_with_a_new_study(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = named("RTX 4070")
    monkeypatch.setattr(session, "describe", lambda _: Device(**{**vars(slow), "kind": "cpu", "peak": 1e7}))
    facts = session.estimate(small_sweep.study(workers={"devices": ["cpu"]}), data=small_sweep.FACTS, pool=CPU)
    assert list(facts) == ["estimated at the start"]
    # per run, 640 trained tokens, and 21 x 2 x 2 + 62 evaluated windows of 16 tokens at a third of the cost,
    # at 0.72 / (1 + (39 / 16)^1.5) of 1e7 FLOP/s
    n = 257 * 16 + 12 * 16**2 + 2 * 16 + 16
    flops = (6 * n + 12 * 16 * 16) * (640 + (84 + 62) * 16 / 3)
    assert (
        f", {flops / (0.72 / (1 + (39 / 16) ** 1.5) * 1e7):.0f} s per run of the baseline"
        in facts["estimated at the start"]
    )


def test_a_plan_that_a_pilot_may_lengthen_is_stored_with_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = named("RTX 4070")
    monkeypatch.setattr(session, "describe", lambda _: Device(**{**vars(slow), "kind": "cpu", "peak": 1e7}))
    study = small_sweep.study(pilot={"max_iters": 160}, baseline_seeds=3, workers={"devices": ["cpu"]})
    facts = session.estimate(study, data=small_sweep.FACTS, pool=CPU)
    assert facts["estimated at the start"].endswith(" per run of the baseline, at 20 iterations")


def test_data_is_prepared_in_one_thread_per_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def prepare(*_: object, **options: Any) -> None:
        threads.append(options["threads"])

    monkeypatch.setattr(session, "prepare", prepare)
    monkeypatch.setattr(session, "cpu_cores", lambda: 3)
    session.prepare_data(small_sweep.study(), StudyPaths(tmp_path), progress=lambda _: None)
    assert threads == [3]


def test_a_card_is_recognised_by_its_name_in_the_system() -> None:
    card, unknown = (
        InlinePool(["cuda:0", "cuda:1"], work=fake_training.train, kinds=dict.fromkeys(["cuda:0", "cuda:1"], name))
        for name in ("NVIDIA GeForce RTX 4070", "an unknown card")
    )
    assert session.estimate(small_sweep.study(), data=small_sweep.FACTS, pool=card)
    assert session.estimate(small_sweep.study(), data=small_sweep.FACTS, pool=unknown) == {}


def test_cores_of_other_machines_have_no_estimate() -> None:
    pool = InlinePool(["cpu:node-a"], work=fake_training.train, kinds={"cpu:node-a": "EPYC"})
    assert session.estimate(small_sweep.study(), data=small_sweep.FACTS, pool=pool) == {}


@pytest.mark.parametrize(
    ("asked", "here", "noted"),
    [("auto", ("cpu", "cpu"), True), (["cpu", "cpu"], ("cpu", "cpu"), False), ("auto", ("cuda:0",), False)],
)
def test_a_card_that_is_not_used_is_noted_unless_the_cpu_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str | list[str], here: tuple[str, ...], noted: bool
) -> None:
    monkeypatch.setattr(session, "devices_here", lambda _: here)
    monkeypatch.setattr(session, "note_on_cpu", lambda: "Apple's GPU is not used")
    monkeypatch.setattr(session, "ProcessPool", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(session, "run_in", lambda *_, **__: None)
    watcher = small_sweep.Watcher()
    study = small_sweep.study(workers={"devices": asked})
    nothing: Any = None
    session.run(study, StudyPaths(tmp_path), nothing, small_sweep.dataset(), observer=watcher)
    assert watcher.notes == (["Apple's GPU is not used"] if noted else [])
