"""Graphics cards: a table of memory and dense peak by name, and the search for a driver."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from trainer.errors import ConfigError

_DRIVERS = tuple(map(Path, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))
"""device files of NVIDIA's driver, of its version in WSL, and of AMD's driver; a Linux with a card has one of them"""

# Dense TFLOP/s of 16-bit products with 32-bit accumulation, and GiB of memory, from the vendors' whitepapers and data
# sheets. bfloat16 and float16 are equally fast on cards with both; T4 and V100 have float16 only. A card sold with
# several memory sizes has the smallest, unless its name gives the size. T4 and A10 reserve memory for error correction.
CARDS = {
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


def bytes_of(text: str) -> int:
    """Return the bytes in "12GiB", "12 GB" or "800MiB". Raises ConfigError.

    Makers of cards write GB and mean GiB, so both are the same here.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([GM])I?B\s*", text.upper())
    if not match or not float(match[1]):
        raise ConfigError(f"memory={text!r} is not a size such as 12GiB or 800MiB")
    return round(float(match[1]) * 2 ** (30 if match[2] == "G" else 20))


def dense_peak(card: str) -> float | None:
    """Return the dense FLOP/s of a card's 16-bit matrix products with 32-bit accumulation; None: not known.

    `card` is CUDA's name ("NVIDIA GeForce RTX 4070 SUPER") or a short form ("4070 Ti"). A name with any unknown word
    has no peak: a "4070 Laptop GPU" is a different chip, and a slice of an A100 (MIG) is not an A100.
    """
    entry = table_entry(card)
    return None if entry is None else entry[0] * 1e12


def table_entry(card: str) -> tuple[float, int] | None:
    """Return TFLOP/s and GiB of a card; None if the table doesn't have it."""
    text = re.sub(r"(\d{4})(TI|SUPER|S)\b", r"\1 \2", card.upper())
    words = ["SUPER" if word == "S" else word for word in re.split(r"[^A-Z0-9.]+", text) if word]
    words = [word for word in words if not _WORDS_THAT_NAME_NO_CARD.fullmatch(word)]
    without_bus = [word for word in words if word != "PCIE"]
    return CARDS.get(" ".join(words)) or CARDS.get(" ".join(without_bus))


def driver_is_here() -> bool:
    """Whether this machine may have a card. Without a driver, importing torch to ask it is unnecessary."""
    return sys.platform != "linux" or any(driver.exists() for driver in _DRIVERS)
