"""What a session keeps with a new study: what its plan says that it will take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.engine import provenance, session
from sweeps.paths import StudyPaths
from sweeps.store.records import DataFacts
from tests.helpers import small_sweep
from trainer.machine.device import Device, named

DATA = DataFacts.of(small_sweep.dataset())


def test_a_study_is_kept_with_its_plans_times(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = named("RTX 4070")
    monkeypatch.setattr(session, "describe", lambda _: Device(**{**vars(slow), "kind": "cpu", "peak": 1e7}))
    found = session.estimate(small_sweep.study(workers={"devices": ["cpu"]}), data=DATA, device="cpu")
    assert list(found) == ["estimated at the start"]
    # a run: 640 tokens and 21 x 2 x 2 + 62 windows of 16 a third as dear, at .75 x 16 / 56 of 1e7 FLOP/s
    n = 257 * 16 + 12 * 16**2 + 2 * 16 + 16
    flops = (6 * n + 12 * 16 * 16) * (640 + (84 + 62) * 16 / 3)
    assert f", {flops / (0.75 * 16 / 56 * 1e7):.0f} s per run of the baseline" in found["estimated at the start"]


def test_data_is_prepared_by_as_many_threads_as_there_are_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def prepare(*_: object, **options: Any) -> None:
        threads.append(options["threads"])

    monkeypatch.setattr(session, "prepare", prepare)
    monkeypatch.setattr(session, "cpu_cores", lambda: 3)
    session.prepare_data(small_sweep.study(), StudyPaths(tmp_path), progress=lambda _: None)
    assert threads == [3]


def test_a_card_is_known_by_the_name_that_the_system_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "device_name", lambda _: "NVIDIA GeForce RTX 4070")
    monkeypatch.setattr(session, "cuda_devices", lambda: 2)
    assert session.estimate(small_sweep.study(), data=DATA, device="cuda:0")
    monkeypatch.setattr(provenance, "device_name", lambda _: "a card of next year's")
    assert session.estimate(small_sweep.study(), data=DATA, device="cuda:0") == {}
