"""Devices: the CPU or the cards of this machine, their precision, memory and peak FLOP/s.

A worker on a CPU is one process with one thread, so a CPU's peak is measured for one thread. The peaks of cards are a
table: nanoGPT divides by an A100's 312 TFLOP/s on every card, so its `mfu` is 5.35 times too low on an RTX 4070. A
card that is missing from the table has no peak.

torch takes seconds to import, so only the functions that need it import it.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import importlib.metadata
import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from trainer.errors import ConfigError
from trainer.machine.cards import CARDS, bytes_of, dense_peak, driver_is_here, table_entry
from trainer.machine.cgroups import CGROUPS, DeviceMemory, own_membership, within_cgroups
from trainer.machine.cpu import cpu_cores, cpu_peak, processor

if TYPE_CHECKING:
    import torch


_LOG = logging.getLogger(__name__)

CUDA_CONTEXT = 500 * 2**20
"""upper bound on a CUDA context's memory, bytes per process"""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A kind of device that workers train on."""

    kind: str
    """cuda or cpu"""
    name: str
    """name of the card or of the processor"""
    count: int
    """cards of this kind, or cores that this process may use"""
    peak: float | None
    """dense FLOP/s of one card or one core; None: not in the table of cards"""
    memory: int | None
    """bytes of one card, or of this machine or container; None: not known"""
    free: int | None
    """bytes available to workers now; None: not known"""


def resolve(device: str) -> str:
    """Return the torch device that `device` ("auto", "cpu", "cuda", "cuda:1") means on this machine.

    "auto" means "cuda" on a machine with a card, else "cpu". Raises ConfigError for a missing card.
    """
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return "cpu"
    count = cuda_devices()
    if kind == "auto":
        return "cuda" if count else "cpu"
    if not count:
        raise ConfigError(
            f"device={device}: torch {importlib.metadata.version('torch')} finds no CUDA device here; "
            "use device=cpu or auto, or install a CUDA build of torch and check nvidia-smi"
        )
    if index and int(index) >= count:
        devices = "is 1 CUDA device" if count == 1 else f"are {count} CUDA devices"
        raise ConfigError(f"device={device}: there {devices} here; the last one is cuda:{count - 1}")
    return device


def describe(device: str) -> Device:
    """Describe the device that `device` ("auto", "cpu", "cuda", "cuda:1") means here. Raises ConfigError.

    For a CPU this measures the peak, once per machine (about half a second). For a card it starts CUDA in this process.
    """
    torch_device = resolve(device)
    memory = memory_of(torch_device)
    if torch_device == "cpu":
        return Device(
            kind="cpu",
            name=processor(),
            count=cpu_cores(),
            peak=cpu_peak(threads=1),
            memory=memory.total,
            free=memory.free,
        )
    name = card_name(torch_device)
    return Device(
        kind="cuda",
        name=name,
        count=cuda_devices(),
        peak=dense_peak(name),
        memory=memory.total,
        free=memory.free,
    )


def named(card: str) -> Device:
    """Return a card that is not in this machine, by its name ("RTX 4070", "A100 80GB").

    Raises ConfigError if the name is unknown.
    """
    entry = table_entry(card)
    if entry is None:
        names = ", ".join(CARDS).replace("TI", "Ti").replace("SUPER", "Super").replace("PCIE", "PCIe")
        raise ConfigError(f"device={card!r}: its dense peak isn't known; known cards: {names}")
    tflops, gib = entry
    size = re.search(r"(\d+) ?GB", card.upper())
    device = Device(kind="cuda", name=card, count=1, peak=tflops * 1e12, memory=None, free=None)
    return with_memory(device, (int(size[1]) if size else gib) * 2**30)


def with_memory(device: Device, memory: int) -> Device:
    """Return `device` with `memory` bytes that no other process uses."""
    context = CUDA_CONTEXT if device.kind == "cuda" else 0
    return dataclasses.replace(device, memory=memory, free=max(0, memory - context))


def card_of(name: str | None, memory: str | None) -> Device:
    """Return a card that is not in this machine, by its name, its memory ("12GiB") or both. Raises ConfigError."""
    unknown = Device(kind="cuda", name=f"a card of {memory}", count=1, peak=None, memory=None, free=None)
    card = named(name) if name else unknown
    return with_memory(card, bytes_of(memory)) if memory else card


def precision(device: str, dtype: str) -> torch.dtype | None:
    """Return the dtype for autocast on a resolved `device` where `dtype` was asked for; None: float32 throughout.

    bfloat16 needs compute capability 8.0 (torch's is_bf16_supported() counts emulation). Capability 7.x computes in
    float16 instead, older cards and CPUs in float32. float16 needs a GradScaler for the loss. A fallback on a card is
    logged as a warning.
    """
    if not device.startswith("cuda") or dtype == "float32":
        return None
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    used = "float32" if major < 7 else "float16" if major < 8 else dtype
    if used != dtype:
        _LOG.warning(
            "%s has compute capability %d.%d, too low for %s: training in %s",
            torch.cuda.get_device_name(device),
            major,
            minor,
            dtype,
            used,
        )
    return {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}[used]


def cuda_devices() -> int:
    """Return the number of CUDA devices that torch can use here."""
    if not driver_is_here():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def memory_of(device: str) -> DeviceMemory:
    """Return the memory of a resolved `device`: a card's, or this machine's within the limits of the cgroups.

    On a card this starts a CUDA context of 300 to 500 MiB in this process, which does not count as free.
    """
    if device.startswith("cuda"):
        import torch

        free, total = torch.cuda.mem_get_info(device)
        return DeviceMemory(free=free, total=total)
    machine = psutil.virtual_memory()
    return within_cgroups(DeviceMemory(free=machine.available, total=machine.total), CGROUPS, own_membership())


def release() -> None:
    """Return this process's freed memory to the system, so that `memory_of` counts it as free."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch leaves it untyped
        gc.collect()
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None  # glibc only
    if trim is not None:
        trim(0)


def card_name(device: str) -> str:
    """Return CUDA's name of the card."""
    import torch

    return torch.cuda.get_device_name(device)
