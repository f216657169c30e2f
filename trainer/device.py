"""What is here to train on, in which precision, and how many FLOP/s it can do at best.

A worker on a CPU is one process with one thread on one core, so a CPU's peak is measured for one
thread. Peaks of cards are a table: nanoGPT divides by an A100's 312 TFLOP/s on every card, which
makes its `mfu` read 5.35 times too low on an RTX 4070. A card that the table lacks has no peak.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil
import torch

from trainer.config import TrainConfig
from trainer.errors import ConfigError

_LOG = logging.getLogger(__name__)

# Dense TFLOP/s of 16-bit products with 32-bit accumulation, from the vendor's whitepapers and
# data sheets. bfloat16 and float16 are equal where a card has both; T4 and V100 have float16 only.
_PEAK_TFLOPS = {
    "3060": 25.5,
    "3080": 59.5,
    "3090": 71.2,
    "4060": 30.2,
    "4060 TI": 44.1,
    "4070": 58.3,
    "4070 SUPER": 71.0,
    "4070 TI": 80.2,
    "4080": 97.5,
    "4090": 165.2,
    "5090": 209.5,
    "A10": 125.0,
    "A100": 312.0,
    "A4000": 76.7,
    "H100": 989.0,
    "H100 PCIE": 756.0,
    "L4": 121.0,
    "L40S": 362.0,
    "T4": 65.0,
    "V100": 125.0,
    "V100 PCIE": 112.0,
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
    """bytes of one card, or of the machine; None: not known"""


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
            f"device={device}: torch {torch.__version__} finds no CUDA device here; "
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

    On a CPU this measures the peak at the first call in a process (about half a second).
    """
    found = resolve(device)
    if found == "cpu":
        return Device(
            kind="cpu",
            name=_processor(),
            count=cpu_cores(),
            peak=cpu_peak(threads=1),
            memory=psutil.virtual_memory().total,
        )
    properties = torch.cuda.get_device_properties(found)
    return Device(
        kind="cuda",
        name=properties.name,
        count=cuda_devices(),
        peak=dense_peak(properties.name),
        memory=properties.total_memory,
    )


def named(card: str) -> Device:
    """A card that isn't here, by its name ("RTX 4070"). Raises ConfigError if its peak isn't known."""
    peak = dense_peak(card)
    if peak is None:
        known = ", ".join(_PEAK_TFLOPS).replace("TI", "Ti").replace("SUPER", "Super").replace("PCIE", "PCIe")
        raise ConfigError(f"device={card!r}: its dense peak isn't known; known cards: {known}")
    return Device(kind="cuda", name=card, count=1, peak=peak, memory=None)


def dense_peak(card: str) -> float | None:
    """Dense FLOP/s of a card's 16-bit matrix products with 32-bit accumulation; None: not known.

    `card` is what CUDA calls it ("NVIDIA GeForce RTX 4070 SUPER") or a short form ("4070 Ti"). Every
    word must be understood: a "4070 Laptop GPU" is another chip than the 4070, and a slice of an
    A100 (MIG) is not an A100, so those have no peak.
    """
    text = re.sub(r"(\d{4})(TI|SUPER|S)\b", r"\1 \2", card.upper())
    words = ["SUPER" if word == "S" else word for word in re.split(r"[^A-Z0-9.]+", text) if word]
    words = [word for word in words if not _WORDS_THAT_NAME_NO_CARD.fullmatch(word)]
    without_bus = [word for word in words if word != "PCIE"]
    tflops = _PEAK_TFLOPS.get(" ".join(words)) or _PEAK_TFLOPS.get(" ".join(without_bus))
    return tflops * 1e12 if tflops else None


def precision(device: str, dtype: str) -> torch.dtype | None:
    """The dtype to autocast to on `device` (of `resolve`) when `dtype` was asked for; None: float32 throughout.

    bfloat16 needs compute capability 8.0 (torch's is_bf16_supported() counts emulation); 7.x computes
    in float16 instead, older cards and CPUs in float32. With float16 the loss needs a GradScaler.
    Falling back on a card is logged as a warning.
    """
    if not device.startswith("cuda") or dtype == "float32":
        return None
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
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def cpu_cores() -> int:
    """Cores that this process may use: the scheduler's affinity, and the cgroup's CPU quota rounded down."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    membership = Path("/proc/self/cgroup")
    quota = cgroup_quota(Path("/sys/fs/cgroup"), membership.read_text() if membership.is_file() else "")
    return max(1, math.floor(min(cores, quota)))


def cgroup_quota(root: Path, membership: str) -> float:
    """CPUs that the cgroups of a process let it use at once; infinity: no limit.

    `root` is where cgroups are mounted and `membership` the text of /proc/self/cgroup. Every parent
    group limits too. In a container `root` is often the process's own group already, whatever the
    path in `membership` says; paths that aren't there are passed over.
    """
    tightest = math.inf
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "cpu" if controllers else root
        own = PurePosixPath(path.lstrip("/"))
        for group in (own, *own.parents):
            tightest = min(tightest, _quota_of(mount / group))
    return tightest


def _quota_of(group: Path) -> float:
    """The limit of one group: cpu.max "200000 100000" (v2), or cpu.cfs_quota_us and its period (v1)."""
    files = [group / "cpu.max"], [group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"]
    for parts in files:
        if all(part.is_file() for part in parts):
            quota, period = " ".join(part.read_text() for part in parts).split()
            return int(quota) / int(period) if quota not in ("max", "-1") else math.inf
    return math.inf


def cpu_peak(*, threads: int | None = None) -> float:
    """float32 FLOP/s of this processor with `threads` threads (default: torch's), measured once a process."""
    return _measured_peak(threads or torch.get_num_threads())


@functools.cache
def _measured_peak(threads: int, size: int = 1024) -> float:
    """The best of several size x size products: the best one is the one that no neighbour disturbed."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        left, right = torch.ones(size, size), torch.ones(size, size)
        best = math.inf
        for _ in range(6):
            start = time.perf_counter()
            torch.mm(left, right)
            best = min(best, time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return 2 * size**3 / best


def _processor() -> str:
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
