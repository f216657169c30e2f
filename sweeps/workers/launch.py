"""The start of a worker's process: its environment and its preloaded modules.

CPU workers are forked from one process that has imported torch for all of them. So a worker, or its replacement after a
crash, starts at once. A card's workers are spawned, because CUDA doesn't survive a fork and an import may start it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

from sweeps import signals
from trainer.machine import cpu
from trainer.machine.cards import driver_is_here
from trainer.machine.cpu import cpu_cores
from trainer.machine.device import cuda_devices

PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""seconds before another try to start a process, where the fork server was killed: it takes a moment until it is gone,
and nothing tells when"""
_PRELOADED = ("trainer.run.loop", "sweeps.workers.worker")
"""modules imported before CPU workers are forked"""


def warm_up() -> None:
    """Begin to import the modules of CPU workers in the background, if there is certainly no card.

    The imports take seconds. Asking torch whether there is a card would take as long.
    """
    if not driver_is_here():
        _begin_imports()


def start(device: str, *, threads: int, target: Callable[..., None], args: tuple[Any, ...], name: str) -> BaseProcess:
    """Start a worker's process on `device`, which calls `target(*args, environment)` with signals blocked.

    `target` handles and unblocks them. `environment` replaces the one that a forked process inherited from the fork
    server.
    """
    forked = device == "cpu" and _begin_imports()
    changes = environment(device, threads=threads, inherited=os.environ)
    context: Any = multiprocessing.get_context("forkserver" if forked else "spawn")
    pauses = iter(PAUSES)
    while True:
        process: BaseProcess = context.Process(
            target=target, args=(*args, {**os.environ, **changes}), name=name, daemon=True
        )
        try:
            with _environment(changes), _signals_blocked(), _without_main():
                process.start()
        except (EOFError, ConnectionError):  # the fork server was killed meanwhile; a later try starts another
            pause = next(pauses, None)
            if not forked or pause is None:
                raise
            time.sleep(pause)
        else:
            return process


def _begin_imports() -> bool:
    """Start the fork server of the CPU workers, if it isn't running. Returns False if this system can't have one."""
    if sys.platform != "linux":
        return False
    from multiprocessing import forkserver, resource_tracker  # not on every system

    with _signals_blocked():
        resource_tracker.ensure_running()  # not below: when it starts, it unblocks Ctrl-C and SIGTERM
    multiprocessing.set_forkserver_preload(list(_PRELOADED))
    try:
        with _environment(environment("cpu", threads=1, inherited=os.environ)), _signals_blocked():
            forkserver.ensure_running()
    except OSError:  # its socket can't be made, for example where TMPDIR is too long for a socket's path
        return False
    return True


def environment(device: str, *, threads: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return a worker's changes to the inherited environment. glibc, OpenMP and CUDA read them at the start."""
    number = str(threads)
    changes = {"OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number, "OPENBLAS_NUM_THREADS": number}
    kind, _, index = device.partition(":")
    if kind == "cpu":
        # torch must not even look for a GPU
        return {**changes, "CUDA_VISIBLE_DEVICES": "", **cpu.missing_settings(inherited)}
    # the worker sees one GPU, as cuda:0, so that a trial's config is the same on every device
    visible = [name for name in inherited.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    position = int(index or 0)
    # cards are numbered as nvidia-smi numbers them, which tells their names; CUDA's own order has the fastest first
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return {**changes, **order, "CUDA_VISIBLE_DEVICES": visible[position] if position < len(visible) else str(position)}


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Change os.environ for the processes that start meanwhile."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals in the processes that start meanwhile, until they handle them: a terminal sends them to all."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.OF_WORKERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the program's main module from the processes that start meanwhile.

    multiprocessing would import it again in each of them. A worker needs nothing of it, and a script that calls
    `sweeps.run` without `if __name__ == "__main__"` would begin another sweep there.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def devices_here(choice: str | Sequence[str]) -> tuple[str, ...]:
    """Name the workers' devices on this machine."""
    return devices_for(choice, cuda_devices=cuda_devices(), cpu_cores=cpu_cores())


def devices_for(choice: str | Sequence[str], *, cuda_devices: int, cpu_cores: int) -> tuple[str, ...]:
    """Name the workers' devices. `auto` means every CUDA device; without one, a worker per CPU core."""
    if choice != "auto":
        return (choice,) if isinstance(choice, str) else tuple(choice)
    if cuda_devices:
        return tuple(f"cuda:{index}" for index in range(cuda_devices))
    return ("cpu",) * max(1, cpu_cores)
