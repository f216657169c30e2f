"""Workers on a Ray cluster: the contract of every pool, on one node and on three, and a node that is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sweeps.workers.pool import Died, Finished, Pool, Work
from sweeps.workers.ray_cluster import connected, nodes_of
from sweeps.workers.ray_pool import RayPool
from tests.helpers import fake_training, ray_cluster
from tests.sweeps.workers.test_process_pool import GO, Make, PoolContract, job, steps, talk

ray_cluster.need_ray()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster.started() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ray(cluster: Any) -> Iterator[Any]:
    with connected(cluster.address) as ray:
        yield ray


class TestRayPool(PoolContract):
    nodes = 1

    @pytest.fixture
    def make(self, ray: Any, tmp_path: Path) -> Iterator[Make]:
        pools: list[RayPool] = []

        def build(devices: Sequence[str], work: Work) -> Pool:
            nodes = [node.id for node in nodes_of(ray.nodes())][: self.nodes]
            slots = ray_cluster.slots(devices, nodes)
            folders = {"runs": tmp_path, "data": tmp_path, "logs": tmp_path / "logs"}
            pools.append(RayPool(ray, slots, work=work, **folders))
            return pools[-1]

        yield build
        for pool in pools:
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
        lost = next(node for node in cluster.worker_nodes)
        cluster.remove_node(lost, allow_graceful=False)
        for number in range(3):
            pool.answer(number, GO)
        messages = talk_until_idle(pool)
        (died,) = [message for message in messages if isinstance(message, Died)]
        assert {message.run for message in messages if isinstance(message, Finished)} == {0, 1, 2} - {died.run}
        assert len(pool.devices) == 2
        left = pool.idle()
        assert len(left) == 2
        pool.start(job(tmp_path, run=died.run, attempt=2, device=left[0]))
        again = talk(pool)
        assert {(message.run, message.attempt) for message in again} == {(died.run, 2)}
        assert isinstance(again[-1], Finished)


def talk_until_idle(pool: Pool) -> list[Any]:
    return talk(pool)
