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
import math
import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from trainer.errors import ConfigError
from trainer.machine.card_table import Card
from trainer.machine.cards import bytes_of, card_named, driver_is_here, size_in
from trainer.machine.cgroups import CGROUPS, DeviceMemory, own_membership, within_cgroups
from trainer.machine.cpu import cpu_cores, cpu_peak, processor

if TYPE_CHECKING:
    import torch


_LOG = logging.getLogger(__name__)

TERA = 1e12
BFLOAT16_FROM = 8
"""least compute capability with bfloat16; AMD's cards report 9 and more"""
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
    """dense FLOP/s of one card in 16 bits, or of one core; None: not in the table of cards"""
    memory: int | None
    """bytes of one card, or of this machine or container; None: not known"""
    free: int | None
    """bytes available to workers now; None: not known"""
    float32_peak: float | None = None
    """dense FLOP/s of one card in float32; None: not known, or a core, whose peak is that of float32"""
    bfloat16: bool = True
    """whether a card has bfloat16; without it, it trains in float16 instead"""
    note: str = ""
    """what to know of it: that this machine has a card that is not used, or that laptops differ; empty: nothing"""

    def peak_in(self, dtype: str) -> float | None:
        """Return the dense FLOP/s of training in `dtype`; None: not known."""
        return self.float32_peak if self.kind == "cuda" and dtype == "float32" else self.peak

    def used(self, dtype: str) -> str:
        """Return the dtype that the device trains in where `dtype` was asked for."""
        return "float16" if dtype == "bfloat16" and not self.bfloat16 else dtype


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
            note="" if device.startswith("cpu") else note_on_cpu(),
        )
    name = card_name(torch_device)
    card = card_named(name)
    return Device(
        kind="cuda",
        name=name,
        count=cuda_devices(),
        peak=None if card is None else card.half * TERA,
        memory=memory.total,
        free=memory.free,
        float32_peak=None if card is None else card.single * TERA,
        bfloat16=has_bfloat16(torch_device),
        note=_note_on(card),
    )


_APPLE = re.compile(r"\s*(apple\s*)?m[1-9]\b", re.IGNORECASE)


def named(name: str, *, memory: int | None = None) -> Device:
    """Return a card that is not in this machine, by its name ("rtx4070", "A100 80GB"), with other `memory`, bytes.

    Raises ConfigError if the name is unknown, or no card of this name has the memory that it gives.
    """
    card = card_named(name)
    if card is None and _APPLE.match(name):
        raise ConfigError(
            f"device={name!r}: Apple's GPUs are not used; workers on a Mac train on the CPU's cores, so plan there "
            "without --device"
        )
    if card is None:
        raise ConfigError(
            f"device={name!r}: not in the table of cards; give its memory and its dense peak in TFLOP/s (16 bits, "
            f'without sparsity) as well: --device "{name}" --memory 12GiB --peak 58'
        )
    size = size_in(name)
    if memory is None and size is not None and size not in card.memory:
        sizes = " or ".join(map(str, card.memory))
        raise ConfigError(f"device={name!r}: {card.name} has {sizes} GiB; write {size} GiB as --memory {size}GiB")
    device = Device(
        kind="cuda",
        name=name,
        count=1,
        peak=card.half * TERA,
        memory=None,
        free=None,
        float32_peak=card.single * TERA,
        bfloat16=card.bfloat16 is not None,
        note=_note_on(card),
    )
    return with_memory(device, memory or (size or card.memory[0]) * 2**30)


def _note_on(card: Card | None) -> str:
    if card is None or not card.laptop:
        return ""
    return f"{card.name}: its peak is that of laptops with the most power; others are slower"


def with_memory(device: Device, memory: int) -> Device:
    """Return `device` with `memory` bytes that no other process uses."""
    context = CUDA_CONTEXT if device.kind == "cuda" else 0
    return dataclasses.replace(device, memory=memory, free=max(0, memory - context))


def card_of(name: str | None, memory: str | None, peak: float | None = None) -> Device:
    """Return a card that is not in this machine, by its name, its memory ("12GiB"), its peak (TFLOP/s) or all of them.

    Memory and peak replace those of the table. A card that isn't in the table needs its memory; without its peak there
    is no estimate of time. Raises ConfigError.
    """
    wrong, size = [], None
    if peak is not None and not 0 < peak < math.inf:
        wrong.append(f"peak={peak:g} is not a card's dense peak; give TFLOP/s above 0, such as --peak 58")
    if memory is not None:
        try:
            size = bytes_of(memory)
        except ConfigError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigError("; ".join(wrong))
    if name and (size is None or card_named(name) is not None):
        card = named(name, memory=size)
    elif size is None:
        raise ConfigError(f"--peak {peak:g} alone is no card: give its memory as well, --memory 12GiB")
    else:
        unknown = Device(kind="cuda", name=name or f"a card of {memory}", count=1, peak=None, memory=None, free=None)
        card = with_memory(unknown, size)
    return card if peak is None else dataclasses.replace(card, peak=peak * TERA, float32_peak=None, note="")


def unused_here(*, platform: str, driver: bool, torch: str) -> str:
    """Return what a machine on which torch finds no card has that is not used, and why; "" if it has nothing.

    `platform` is sys.platform, `driver` whether a Linux has a card's driver, and `torch` its version.
    """
    if platform == "darwin":
        return "Apple's GPU is not used (torch calls it MPS): workers train on the CPU's cores"
    if platform == "win32":
        return "torch finds no NVIDIA card, and AMD cards work on Linux only (ROCm): workers train on the CPU's cores"
    if platform == "linux" and driver:
        return (
            f"there is a card's driver, but torch {torch} finds no card: workers train on the CPU's cores; install "
            "torch for CUDA (NVIDIA) or ROCm (AMD)"
        )
    return ""


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
    used = "float32" if major < 7 else "float16" if major < BFLOAT16_FROM else dtype
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


def has_bfloat16(device: str) -> bool:
    """Whether the card computes in bfloat16 itself (see `precision`)."""
    import torch

    major, _ = torch.cuda.get_device_capability(device)
    return major >= BFLOAT16_FROM


def note_on_cpu() -> str:
    """Return what this machine has that is not used when workers train on its CPU; "" if it has nothing."""
    return unused_here(
        platform=sys.platform,
        driver=driver_is_here(),
        torch=importlib.metadata.version("torch"),
    )


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
