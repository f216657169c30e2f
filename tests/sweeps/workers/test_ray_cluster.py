"""A Ray cluster beforehand: which places a study gets, and what is refused before anything starts."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from sweeps.workers.ray_cluster import ClusterError, Node, connected, nodes_of, slots_of

A, B = Node(id="1", host="a", cpus=8, gpus=2), Node(id="2", host="b", cpus=4, gpus=1)
CPU_ONLY = Node(id="3", host="c", cpus=2, gpus=0)


@pytest.mark.parametrize(
    ("nodes", "asked", "devices"),
    [
        ([A, B], {}, ["cuda:a:0", "cuda:b:0", "cuda:a:1"]),
        ([A, B], {"gpus": 2}, ["cuda:a:0", "cuda:b:0"]),  # spread over the nodes
        ([A, CPU_ONLY], {}, ["cuda:a:0", "cuda:a:1"]),  # not on two kinds
        ([CPU_ONLY], {}, ["cpu:c", "cpu:c"]),
        ([A, CPU_ONLY], {"cpus": 5}, ["cpu:a", "cpu:c", "cpu:a", "cpu:c", "cpu:a"]),
    ],
)
def test_a_worker_is_a_card_or_a_core(nodes: list[Node], asked: dict[str, int], devices: list[str]) -> None:
    slots = slots_of(nodes, **{"gpus": None, "cpus": None, **asked})
    assert [slot.device for slot in slots] == devices
    hosts = {node.host: node.id for node in nodes}
    assert [slot.node for slot in slots] == [hosts[device.split(":")[1]] for device in devices]
    assert {slot.threads for slot in slots} == ({4} if slots[0].gpu else {1})


@pytest.mark.parametrize(
    ("nodes", "asked", "said"),
    [
        (
            [A, B],
            {"gpus": 4},
            r"workers\.gpus=4: the Ray cluster has 3 \(a 2 GPUs and 8 CPUs, b 1 GPUs and 4 CPUs\); ask",
        ),
        ([CPU_ONLY], {"gpus": 1}, r"workers\.gpus=1: the Ray cluster has 0 .*; ask for the other kind, or add"),
        ([CPU_ONLY], {"cpus": 3}, r"workers\.cpus=3: the Ray cluster has 2"),
        ([Node(id="4", host="d", cpus=0, gpus=0)], {}, "neither GPUs nor CPUs"),
    ],
)
def test_more_than_there_is_is_refused_with_what_there_is(nodes: list[Node], asked: dict[str, int], said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        slots_of(nodes, **{"gpus": None, "cpus": None, **asked})


def row(number: int, host: str, *, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": f"{number}" * 12, "NodeManagerHostname": host, "Alive": alive, "Resources": resources}


def test_nodes_on_one_host_have_names_of_their_own_and_dead_ones_are_left_out() -> None:
    rows = [row(1, "vm", CPU=4.0, GPU=1.0), row(2, "vm", CPU=2.0), row(3, "b"), row(4, "b", alive=False)]
    assert nodes_of(rows) == [
        Node(id="1" * 12, host="vm-111111", cpus=4, gpus=1),
        Node(id="2" * 12, host="vm-222222", cpus=2, gpus=0),
        Node(id="3" * 12, host="b", cpus=0, gpus=0),
    ]


def test_a_cluster_without_authentication_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ClusterError, match="whoever reaches the cluster runs code on it; on every machine set"):
        connected("auto").__enter__()


def test_without_ray_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install 'plateau-sweep\[ray\]'"):
        connected("auto").__enter__()
