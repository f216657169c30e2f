"""A Ray cluster that exists already: its nodes, and the workers that a study asks of it.

Ray runs whatever a client sends, for everyone who reaches its port. So a cluster without Ray's token authentication is
refused.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.errors import UserError

_START = "`RAY_AUTH_MODE=token ray start --head --disable-usage-stats` starts one on this machine"
AUTHENTICATE = (
    "on every machine set RAY_AUTH_MODE=token before `ray start` and before `sweep run`, and give all of them the same "
    "token: `ray get-auth-token --generate` writes it to ~/.ray/auth_token"
)
"""the remedy for a cluster without authentication"""


class ClusterError(UserError):
    """A Ray cluster that can't be used, or that has lost all workers."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine of the cluster."""

    id: str
    host: str
    cpus: int
    gpus: int


@dataclass(frozen=True, kw_only=True)
class Slot:
    """The place of one worker: a card or a core of a node."""

    device: str
    """cuda:HOST:NUMBER or cpu:HOST"""
    node: str
    gpu: bool
    threads: int
    """of torch"""


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Yield the module ray, connected to the cluster at `address` ("auto": the one that runs here). ClusterError."""
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode.lower() != "token":
        raise ClusterError(
            f"workers.ray: RAY_AUTH_MODE={mode}, so whoever reaches the cluster runs code on it; {AUTHENTICATE}"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ClusterError("workers.ray: Ray is not installed here; pip install 'plateau-sweep[ray]'") from None
    try:
        _reach(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, namespace="plateau-sweep")
    except (ray.exceptions.AuthenticationError, RuntimeError) as error:
        raise ClusterError(f"workers.ray={address}: {_first_line(error)}; {AUTHENTICATE}") from error
    except (OSError, OverflowError, ValueError, ray.exceptions.RayError) as error:
        raise ClusterError(
            f"workers.ray={address}: no Ray cluster answers, or it has another token ({_first_line(error)}); {_START}"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise OSError where nothing listens: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def nodes_of(rows: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Return the living nodes of `ray.nodes()`, each under a name of its own."""
    rows = [row for row in rows if row["Alive"]]
    hosts = [str(row["NodeManagerHostname"]) for row in rows]
    return [
        Node(
            id=row["NodeID"],
            host=host if hosts.count(host) == 1 else f"{host}-{row['NodeID'][:6]}",
            cpus=int(row["Resources"].get("CPU", 0)),
            gpus=int(row["Resources"].get("GPU", 0)),
        )
        for row, host in zip(rows, hosts, strict=True)
    ]


def slots_of(nodes: Sequence[Node], *, gpus: int | None, cpus: int | None) -> tuple[Slot, ...]:
    """Return the workers' places: as many cards or cores as asked for, else every card, without one every core.

    They are spread over the nodes. Raises ClusterError for more than there are.
    """
    cards, cores = sum(node.gpus for node in nodes), sum(node.cpus for node in nodes)
    there = ", ".join(f"{node.host} {node.gpus} GPUs and {node.cpus} CPUs" for node in nodes)
    for name, asked, has in (("gpus", gpus, cards), ("cpus", cpus, cores)):
        if asked is not None and asked > has:
            remedy = f"ask for at most {has}" if has else "ask for the other kind"
            raise ClusterError(f"workers.{name}={asked}: the Ray cluster has {has} ({there}); {remedy}, or add nodes")
    if not cards and not cores:
        raise ClusterError(f"workers.ray: the cluster has neither GPUs nor CPUs for work ({there}); add nodes")
    gpu = cpus is None and cards > 0
    every = sorted(
        ((index, node) for node in nodes for index in range(node.gpus if gpu else node.cpus)), key=lambda slot: slot[0]
    )
    return tuple(
        Slot(
            device=f"cuda:{node.host}:{index}" if gpu else f"cpu:{node.host}",
            node=node.id,
            gpu=gpu,
            threads=max(1, node.cpus // node.gpus) if gpu else 1,
        )
        for index, node in every[: gpus if gpu else cpus]
    )
