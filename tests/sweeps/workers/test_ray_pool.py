"""Workers on a Ray cluster: the contract of every pool, on one node and on three, and a node that is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweeps.analysis.arms import PHASE
from sweeps.engine.session import run_in
from sweeps.paths import StudyPaths
from sweeps.store.records import Run
from sweeps.store.store import Store
from sweeps.workers.pool import Died, Finished, Pool, Work
from sweeps.workers.ray_cluster import ClusterError, connected, nodes_of
from sweeps.workers.ray_pool import RayPool, wrong_about
from sweeps.workers.ray_worker import About, copy_of, versions
from tests.helpers import fake_training, ray_cluster, small_sweep
from tests.helpers.kills import Killed
from tests.helpers.small_sweep import Watcher
from tests.sweeps.workers.test_process_pool import GO, Make, PoolContract, job, steps, talk
from trainer.points import Point

ray_cluster.need_ray()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster.started() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ray(cluster: Any) -> Iterator[Any]:
    with connected(cluster.address) as ray:
        yield ray


@pytest.fixture(scope="module")
def kept(ray: Any) -> Iterator[dict[Any, RayPool]]:
    """Return pools for the next test to use, because starting workers takes seconds."""
    pools: dict[Any, RayPool] = {}
    yield pools
    for pool in pools.values():
        pool.close()


def test_a_folder_that_a_machine_does_not_have_is_refused_before_the_start(ray: Any, tmp_path: Path) -> None:
    (node, *_) = nodes_of(ray.nodes())
    gone = tmp_path / "gone"
    with pytest.raises(ClusterError, match=f"cpu:a: doesn't share .*No such file or directory: {gone}"):
        RayPool(
            ray,
            ray_cluster.slots(["cpu:a"], [node.id]),
            runs=tmp_path / "runs",
            data=gone,
            logs=tmp_path,
            say=print,
            work=fake_training.train,
        )
    assert list((tmp_path / "runs").iterdir()) == []


def test_an_address_where_nothing_answers_is_refused_at_once(ray: Any) -> None:
    with pytest.raises(ClusterError, match=r"workers\.ray=127\.0\.0\.1:1: no Ray cluster answers.*Connection refused"):
        connected("127.0.0.1:1").__enter__()
    assert ray.is_initialized()


HERE = {"host": "a", "kind": "EPYC", "authentication": "token", "versions": versions(), "read": "abc", "trouble": ""}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"authentication": ""}, ["without a token; on every machine set RAY_AUTH_MODE=token"]),
        ({"versions": {**versions(), "torch": "1.0"}}, [f"torch 1.0, here {versions()['torch']}; install the same"]),
        ({"read": "of another disk"}, ["what it wrote is not here"]),
        ({"host": "b"}, ["what it wrote is not here"]),
        ({"read": "", "trouble": "Permission denied: /x", "authentication": "disabled"}, ["a token", "denied: /x"]),
    ],
)
def test_all_that_is_wrong_with_a_machine_is_said(tmp_path: Path, changes: dict[str, Any], said: list[str]) -> None:
    probe = tmp_path / ".probe"
    for path in (probe, copy_of(probe, host="a")):
        path.write_text("abc")
    found = list(wrong_about("cpu:a", About(**{**HERE, **changes}), probe=probe, shared=[tmp_path]))
    assert len(found) == len(said)
    assert all(part in text for part, text in zip(said, found, strict=True))


class TestRayPool(PoolContract):
    nodes = 1

    @pytest.fixture
    def make(self, ray: Any, kept: dict[Any, RayPool], tmp_path: Path) -> Iterator[Make]:
        used: dict[Any, RayPool] = {}

        def build(devices: Sequence[str], work: Work) -> Pool:
            nodes = [node.id for node in nodes_of(ray.nodes())][: self.nodes]
            key = (self.nodes, *devices, work)
            used[key] = kept.pop(key, None) or ray_cluster.pool_on(ray, nodes, tmp_path, devices=devices, work=work)
            return used[key]

        yield build
        for key, pool in used.items():
            if pool.devices and len(pool.idle()) == len(pool.devices):
                kept[key] = pool
            else:
                pool.close()


class TestRayPoolOfThreeNodes(TestRayPool):
    nodes = 3

    def test_a_lost_node_loses_no_run(self, make: Make, cluster: Any, tmp_path: Path) -> None:
        """Its run is reported as died, and goes on elsewhere from its checkpoint; the others hear nothing of it."""
        pool = make(["cpu:a", "cpu:b", "cpu:c"], fake_training.train)
        for number, device in enumerate(pool.devices):
            pool.start(job(tmp_path, run=number, device=device))
        said = []
        while len(said) < 3:
            said += pool.wait(60.0)
        assert steps(said) == [0, 0, 0]
        lost = next(iter(cluster.worker_nodes))
        on_it = psutil.Process(lost.all_processes["raylet"][0].process.pid).children(recursive=True)
        cluster.remove_node(lost, allow_graceful=False)
        assert not psutil.wait_procs(on_it, timeout=60)[1]  # workers outlive their node for a moment
        for number in range(3):
            pool.answer(number, GO)
        messages = talk(pool)
        (died,) = [message for message in messages if isinstance(message, Died)]
        assert {message.run for message in messages if isinstance(message, Finished)} == {0, 1, 2} - {died.run}
        left = pool.idle()  # which waits for Ray's word that the node is gone
        assert (len(left), pool.devices) == (2, tuple(left))
        pool.start(job(tmp_path, run=died.run, attempt=2, device=left[0]))
        again = talk(pool)
        assert {(message.run, message.attempt) for message in again} == {(died.run, 2)}
        assert isinstance(again[-1], Finished)


def test_a_confirm_phase_that_is_killed_and_resumed_repeats_no_seed_and_loses_none(ray: Any, tmp_path: Path) -> None:
    """Its runs are those of a sweep in this process that nobody disturbed."""
    baseline = {**small_sweep.study().baseline, "learning_rate": 2e-4, "min_lr": 2e-5}
    study = small_sweep.study(baseline=baseline, trials=4, confirm={"seeds": 2, "max_trials": 6})
    small_sweep.sweep(tmp_path / "undisturbed", study)
    folder = tmp_path / "killed"

    class Deadly(Watcher):
        """Kills the driver in the middle of the third run of the confirm phase."""

        def point(self, run: Run, point: Point) -> None:
            begun = self.confirming.setdefault(run.id, run) if run.phase == PHASE else run
            if len(self.confirming) == 3 and point.step > 5:
                raise Killed(begun)

        confirming: dict[int, Run] = {}  # noqa: RUF012  # one instance

    def session(observer: Watcher) -> None:
        pool = ray_cluster.pool_on(ray, [nodes_of(ray.nodes())[0].id], folder, work=fake_training.train)
        with Store(small_sweep.url_of(folder)) as store:
            try:
                run_in(pool, study, StudyPaths(folder), store, small_sweep.dataset(), observer=observer)
            finally:
                pool.close()

    with pytest.raises(Killed):
        session(Deadly())
    session(Watcher())
    resumed, undisturbed = (small_sweep.results_in(each) for each in (folder, tmp_path / "undisturbed"))
    assert small_sweep.reproducible_part(resumed) == small_sweep.reproducible_part(undisturbed)
    assert sum(run.phase == PHASE for run in resumed.runs) == 6
    assert {len(run.kinds) for run in resumed.runs} == {1}
