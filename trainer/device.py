"""What is here to train on, in which precision, how much memory it has free, and how many FLOP/s it can do at best.

A worker on a CPU is one process with one thread on one core, so a CPU's peak is measured for one
thread. Peaks of cards are a table: nanoGPT divides by an A100's 312 TFLOP/s on every card, which
makes its `mfu` read 5.35 times too low on an RTX 4070. A card that the table lacks has no peak.

torch takes seconds to import, so that only what asks it something imports it.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import gc
import importlib.metadata
import logging
import math
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import psutil

from trainer import cache
from trainer.config import TrainConfig
from trainer.errors import ConfigError

if TYPE_CHECKING:
    import torch

_LOG = logging.getLogger(__name__)

CUDA_CONTEXT = 500 * 2**20
"""bytes of a card that a process's CUDA context takes, at most"""

_CGROUPS = Path("/sys/fs/cgroup")

_DRIVERS = tuple(map(Path, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))
"""one of which Linux has where it has a card: of NVIDIA's driver, of that in WSL, of AMD's"""

# Dense TFLOP/s of 16-bit products with 32-bit accumulation, and GiB of memory, from the vendor's whitepapers and data
# sheets. bfloat16 and float16 are equal where a card has both; T4 and V100 have float16 only. Of cards that come in
# several sizes the smallest, unless the name says which; T4 and A10 keep a part for error correction.
_CARDS = {
    "3060": (25.5, 12),
    "3080": (59.5, 10),
    "3090": (71.2, 24),
    "4060": (30.2, 8),
    "4060 TI": (44.1, 8),
    "4070": (58.3, 12),
    "4070 SUPER": (71.0, 12),
    "4070 TI": (80.2, 12),
    "4080": (97.5, 16),
    "4090": (165.2, 24),
    "5090": (209.5, 32),
    "A10": (125.0, 22),
    "A100": (312.0, 40),
    "A4000": (76.7, 16),
    "H100": (989.0, 80),
    "H100 PCIE": (756.0, 80),
    "L4": (121.0, 24),
    "L40S": (362.0, 48),
    "T4": (65.0, 15),
    "V100": (125.0, 16),
    "V100 PCIE": (112.0, 16),
}
_WORDS_THAT_NAME_NO_CARD = re.compile(r"NVIDIA|GEFORCE|RTX|TESLA|QUADRO|GPU|SXM\d*|HBM\d*E?|\d+GB")


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


@dataclass(frozen=True, kw_only=True)
class Room:
    """Memory of a device, bytes."""

    free: int
    """what could be had now"""
    total: int


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
    known = _known(card)
    if known is None:
        names = ", ".join(_CARDS).replace("TI", "Ti").replace("SUPER", "Super").replace("PCIE", "PCIe")
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


def bytes_of(text: str) -> int:
    """Bytes that "12GiB", "12 GB" or "800MiB" mean; a card's GB is a GiB, as its maker writes. Raises ConfigError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([GM])I?B\s*", text.upper())
    if not found or not float(found[1]):
        raise ConfigError(f"memory={text!r} is not a size such as 12GiB or 800MiB")
    return round(float(found[1]) * 2 ** (30 if found[2] == "G" else 20))


def dense_peak(card: str) -> float | None:
    """Dense FLOP/s of a card's 16-bit matrix products with 32-bit accumulation; None: not known.

    `card` is what CUDA calls it ("NVIDIA GeForce RTX 4070 SUPER") or a short form ("4070 Ti"). Every
    word must be understood: a "4070 Laptop GPU" is another chip than the 4070, and a slice of an
    A100 (MIG) is not an A100, so those have no peak.
    """
    known = _known(card)
    return None if known is None else known[0] * 1e12


def _known(card: str) -> tuple[float, int] | None:
    """TFLOP/s and GiB of a card that the table has."""
    text = re.sub(r"(\d{4})(TI|SUPER|S)\b", r"\1 \2", card.upper())
    words = ["SUPER" if word == "S" else word for word in re.split(r"[^A-Z0-9.]+", text) if word]
    words = [word for word in words if not _WORDS_THAT_NAME_NO_CARD.fullmatch(word)]
    without_bus = [word for word in words if word != "PCIE"]
    return _CARDS.get(" ".join(words)) or _CARDS.get(" ".join(without_bus))


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


def driver_is_here() -> bool:
    """Whether there may be a card. Where there is no driver, torch needn't be asked."""
    return sys.platform != "linux" or any(driver.exists() for driver in _DRIVERS)


def _torch_version() -> str:
    return importlib.metadata.version("torch")


def cpu_cores() -> int:
    """Cores that this process may use: the scheduler's affinity, and the cgroup's CPU quota rounded down."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.floor(min(cores, cgroup_quota(_CGROUPS, _membership()))))


def room(device: str) -> Room:
    """Memory of `device` (of `resolve`): of a card, or of this machine within the limits of this process's cgroups.

    On a card this takes the 300 to 500 MiB of a CUDA context for this process, which are not counted as free.
    """
    if device.startswith("cuda"):
        import torch

        free, total = torch.cuda.mem_get_info(device)
        return Room(free=free, total=total)
    machine = psutil.virtual_memory()
    return within_cgroups(Room(free=machine.available, total=machine.total), _CGROUPS, _membership())


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


def within_cgroups(machine: Room, root: Path, membership: str) -> Room:
    """What the cgroups of a process leave it of the machine's memory; `root` and `membership` as for `cgroup_quota`.

    Pages of files count as used by a group, and those that nobody has looked at lately are free for the asking.
    """
    room = machine
    for group in _groups(root, membership, "memory"):
        limit = _number_in(group / "memory.max", group / "memory.limit_in_bytes")
        if limit is None:
            continue
        used = _number_in(group / "memory.current", group / "memory.usage_in_bytes") or 0
        free = limit - max(0, used - _idle_file_pages(group / "memory.stat"))
        room = Room(free=max(0, min(room.free, free)), total=min(room.total, limit))
    return room


def _number_in(*files: Path) -> int | None:
    """The number that the first of the files that is there holds; None where it says max."""
    text = next((file.read_text().strip() for file in files if file.is_file()), "max")
    return int(text) if text.isdecimal() else None


def _idle_file_pages(stat: Path) -> int:
    if not stat.is_file():
        return 0
    # a v1 group counts the groups below it only under total_
    numbers = dict(line.split() for line in stat.read_text().splitlines())
    return int(numbers.get("total_inactive_file", numbers.get("inactive_file", 0)))


def cgroup_quota(root: Path, membership: str) -> float:
    """CPUs that the cgroups of a process let it use at once; infinity: no limit.

    `root` is where cgroups are mounted and `membership` the text of /proc/self/cgroup. Every parent
    group limits too. In a container `root` is often the process's own group already, whatever the
    path in `membership` says; paths that aren't there are passed over.
    """
    return min((_quota_of(group) for group in _groups(root, membership, "cpu")), default=math.inf)


def _membership() -> str:
    file = Path("/proc/self/cgroup")
    return file.read_text() if file.is_file() else ""


def _groups(root: Path, membership: str, controller: str) -> Iterator[Path]:
    """Folders of the groups that may limit a process, parents included; version 1 has a tree for each controller."""
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / controller if controllers else root
        own = PurePosixPath(path.lstrip("/"))
        yield from (mount / group for group in (own, *own.parents))


def _quota_of(group: Path) -> float:
    """The limit of one group: cpu.max "200000 100000" (v2), or cpu.cfs_quota_us and its period (v1)."""
    files = [group / "cpu.max"], [group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"]
    for parts in files:
        if all(part.is_file() for part in parts):
            quota, period = " ".join(part.read_text() for part in parts).split()
            return int(quota) / int(period) if quota not in ("max", "-1") else math.inf
    return math.inf


def cpu_peak(*, threads: int) -> float:
    """float32 FLOP/s of `threads` of this processor's cores, measured once a machine and torch.

    So many times what one core reaches: that they share caches and heat is left to what is compared with it.
    """
    return threads * _core_peak()


@functools.cache
def _core_peak() -> float:
    key = {"processor": processor(), "torch": _torch_version(), "of": "one core's time"}
    kept = (cache.load("cpu-peak", key) or {}).get("flops")
    if isinstance(kept, float) and 0 < kept < math.inf:
        return kept
    measured = _measured_peak()
    cache.save("cpu-peak", key, {"flops": measured})
    return measured


def _measured_peak(size: int = 1024) -> float:
    """The best of several size x size products on one thread, by its own time: a busy neighbour costs it none."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        left, right = torch.ones(size, size), torch.ones(size, size)
        best = math.inf
        for _ in range(12):
            start = time.thread_time()
            torch.mm(left, right)
            best = min(best, time.thread_time() - start)
    finally:
        torch.set_num_threads(before)
    return 2 * size**3 / best


def processor() -> str:
    """What this machine's processor calls itself."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and (found := re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)):
        return found[1].strip()
    return platform.processor() or platform.machine()


def parameters(config: TrainConfig, vocab_size: int | None = None) -> int:
    """Parameters of the model, position embeddings included (nanoGPT prints them without: minus T*C).

    `vocab_size` is config's own if left out.

    N = V*C + T*C + L*(12*C**2 + 2*C) + C, and with biases 11*C more a block and C more at the end; the
    output layer is the token embedding.
    """
    vocab_size = config.vocab_size if vocab_size is None else vocab_size
    layers, width = config.n_layer, config.n_embd
    biases = 11 * layers * width + width if config.bias else 0
    blocks = layers * (12 * width**2 + 2 * width)
    return vocab_size * width + config.block_size * width + blocks + width + biases


def flops_per_token(config: TrainConfig, vocab_size: int | None = None) -> int:
    """FLOPs of training on one token, forward and backward: 6*N + 12*L*C*T (PaLM, appendix B; nanoGPT's estimate_mfu).

    N leaves the position embeddings out, as nanoGPT's does; attention is counted as if not causal.
    """
    counted = parameters(config, vocab_size) - config.block_size * config.n_embd
    return 6 * counted + 12 * config.n_layer * config.n_embd * config.block_size
