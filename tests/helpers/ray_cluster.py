"""A Ray cluster of three nodes on this machine, behind a token, for tests."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sweeps.workers.pool import Work
from sweeps.workers.ray_cluster import Slot
from sweeps.workers.ray_pool import RayPool

NODES = 3
CORES = 32
"""of each node; numbers that Ray counts by, whatever the machine has"""


def need_ray() -> None:
    """Skip the module's tests where Ray is not installed; in CI it must be."""
    if importlib.util.find_spec("ray") is None and not os.environ.get("CI"):
        pytest.skip("Ray is not installed: pip install 'plateau-sweep[ray]'", allow_module_level=True)


@contextlib.contextmanager
def started() -> Iterator[Any]:
    """Yield a ray.cluster_utils.Cluster; its nodes are `head_node` and `worker_nodes`."""
    before = dict(os.environ)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_USAGE_STATS_ENABLED": "0"}
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": CORES, "include_dashboard": False})
    try:
        for _ in range(NODES - 1):
            cluster.add_node(num_cpus=CORES)
        yield cluster
    finally:
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)


def pool_on(
    ray: Any, nodes: Sequence[str], folder: Path, *, devices: Sequence[str] = ("cpu",), work: Work, say: Any = print
) -> RayPool:
    """Return workers on these nodes in turn, with everything in one folder."""
    folders = {"runs": folder, "data": folder, "logs": folder / "logs"}
    return RayPool(ray, slots(devices, nodes), work=work, say=say, **folders)


def slots(devices: Sequence[str], nodes: Sequence[str]) -> list[Slot]:
    """Return a slot per device, on these nodes in turn."""
    return [
        Slot(device=device, node=nodes[number % len(nodes)], gpu=False, threads=1)
        for number, device in enumerate(devices)
    ]
