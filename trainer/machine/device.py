"""What is here to train on, in which precision, how much memory it has free, and how many FLOP/s it can do at best.

A worker on a CPU is one process with one thread on one core, so a CPU's peak is measured for one
thread. Peaks of cards are a table: nanoGPT divides by an A100's 312 TFLOP/s on every card, which
makes its `mfu` read 5.35 times too low on an RTX 4070. A card that the table lacks has no peak.

torch takes seconds to import, so that only what asks it something imports it.
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
from trainer.machine.cgroups import CGROUPS, Room, own_membership, within_cgroups
from trainer.machine.cpu import cpu_cores, cpu_peak, processor

if TYPE_CHECKING:
    import torch


_LOG = logging.getLogger(__name__)

CUDA_CONTEXT = 500 * 2**20
"""bytes of a card that a process's CUDA context takes, at most"""


@dataclass(frozen=True, kw_only=True)
class Device:
    """What one worker trains on, and how many of them there are."""

    kind: str
    """cuda or cpu"""
    name: str
    """the card's name, or the processor's"""
    count: int
    """cards of this kind, or cores that this process may use"""
    peak: float | None
    """dense FLOP/s of one card, or of one core; None: a card that the table lacks"""
    memory: int | None
    """bytes of one card, or what this machine (or container) has; None: not known"""
    free: int | None
    """bytes of these that workers could have now; None: not known"""


def resolve(device: str) -> str:
    """The torch device that `device` ("auto", "cpu", "cuda", "cuda:1") means on this machine.

    "auto" is "cuda" where there is a card, else "cpu". Raises ConfigError for a card that isn't here.
    """
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return "cpu"
    here = cuda_devices()
    if kind == "auto":
        return "cuda" if here else "cpu"
    if not here:
        raise ConfigError(
            f"device={device}: torch {_torch_version()} finds no CUDA device here; "
            "use device=cpu or auto, or install a CUDA build of torch and check nvidia-smi"
        )
    if index and int(index) >= here:
        last = f"cuda:{here - 1}"
        raise ConfigError(f"device={device}: there {_are(here)} here; the last one is {last}")
    return device


def _are(count: int) -> str:
    return "is 1 CUDA device" if count == 1 else f"are {count} CUDA devices"


def describe(device: str) -> Device:
    """The device that `device` ("auto", "cpu", "cuda", "cuda:1") means here. Raises ConfigError.

    On a CPU this measures the peak, once a machine (about half a second); on a card it starts CUDA in this process.
    """
    found = resolve(device)
    here = room(found)
    if found == "cpu":
        return Device(
            kind="cpu",
            name=processor(),
            count=cpu_cores(),
            peak=cpu_peak(threads=1),
            memory=here.total,
            free=here.free,
        )
    import torch

    properties = torch.cuda.get_device_properties(found)
    return Device(
        kind="cuda",
        name=properties.name,
        count=cuda_devices(),
        peak=dense_peak(properties.name),
        memory=here.total,
        free=here.free,
    )


def named(card: str) -> Device:
    """A card that isn't here, by its name ("RTX 4070", "A100 80GB"). Raises ConfigError if it isn't known."""
    known = table_entry(card)
    if known is None:
        names = ", ".join(CARDS).replace("TI", "Ti").replace("SUPER", "Super").replace("PCIE", "PCIe")
        raise ConfigError(f"device={card!r}: its dense peak isn't known; known cards: {names}")
    tflops, gib = known
    said = re.search(r"(\d+) ?GB", card.upper())
    device = Device(kind="cuda", name=card, count=1, peak=tflops * 1e12, memory=None, free=None)
    return with_memory(device, (int(said[1]) if said else gib) * 2**30)


def with_memory(device: Device, memory: int) -> Device:
    """`device` with `memory` bytes, of which nobody else uses any."""
    own = CUDA_CONTEXT if device.kind == "cuda" else 0
    return dataclasses.replace(device, memory=memory, free=max(0, memory - own))


def card_of(name: str | None, memory: str | None) -> Device:
    """A card that isn't here, by its name, its memory or both. Raises ConfigError."""
    unknown = Device(kind="cuda", name=f"a card of {memory}", count=1, peak=None, memory=None, free=None)
    card = named(name) if name else unknown
    return with_memory(card, bytes_of(memory)) if memory else card


def precision(device: str, dtype: str) -> torch.dtype | None:
    """The dtype to autocast to on `device` (of `resolve`) when `dtype` was asked for; None: float32 throughout.

    bfloat16 needs compute capability 8.0 (torch's is_bf16_supported() counts emulation); 7.x computes
    in float16 instead, older cards and CPUs in float32. With float16 the loss needs a GradScaler.
    Falling back on a card is logged as a warning.
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
    """CUDA devices that torch can use here."""
    if not driver_is_here():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _torch_version() -> str:
    return importlib.metadata.version("torch")


def room(device: str) -> Room:
    """Memory of `device` (of `resolve`): of a card, or of this machine within the limits of this process's cgroups.

    On a card this takes the 300 to 500 MiB of a CUDA context for this process, which are not counted as free.
    """
    if device.startswith("cuda"):
        import torch

        free, total = torch.cuda.mem_get_info(device)
        return Room(free=free, total=total)
    machine = psutil.virtual_memory()
    return within_cgroups(Room(free=machine.available, total=machine.total), CGROUPS, own_membership())


def release() -> None:
    """Give back to the system what this process has freed and kept, so that `room` counts it as free."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch leaves it untyped
        gc.collect()
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None  # glibc's own
    if trim is not None:
        trim(0)


def card_name(device: str) -> str:
    """What CUDA calls the card."""
    import torch

    return torch.cuda.get_device_name(device)
