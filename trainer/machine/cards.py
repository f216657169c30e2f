"""Graphics cards by name, in any spelling, and the search for a driver."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

from trainer.errors import ConfigError
from trainer.machine.card_table import CARDS, Card

_DRIVERS = tuple(map(Path, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))
"""device files of NVIDIA's driver, of its version in WSL, and of AMD's driver; a Linux with a card has one of them"""

_SIZE = re.compile(r"(?<![A-Z0-9.])(\d+) ?GI?B\b")
_NAMES_NO_CARD = re.compile(
    r"NVIDIA|GEFORCE|RTX|GTX|TESLA|QUADRO|AMD|RADEON|INSTINCT|GPU|GRAPHICS|GENERATION|BLACKWELL|WORKSTATION|EDITION"
    r"|SXM\d*|OAM|HBM\d*E?|RX(?=\d)|PRO(?=W\d)"
)


def bytes_of(text: str) -> int:
    """Return the bytes in "12GiB", "12 GB" or "800MiB". Raises ConfigError.

    Makers of cards write GB and mean GiB, so both are the same here.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([GM])I?B\s*", text.upper())
    if not match or not float(match[1]):
        raise ConfigError(f"memory={text!r} is not a size such as 12GiB or 800MiB")
    return round(float(match[1]) * 2 ** (30 if match[2] == "G" else 20))


def card_named(name: str) -> Card | None:
    """Return the card of this name; None if the table doesn't have it.

    `name` is the driver's ("NVIDIA GeForce RTX 4070 SUPER") or any short form ("rtx4070", "4070 Ti SUPER", "3060
    Laptop"). A name with an unknown word is unknown: a "2070 with Max-Q Design" is slower than a 2070, and a slice of
    an A100 (MIG) is not an A100.
    """
    size, key = size_in(name), _key(name)
    cards = _by_key()
    return cards.get(f"{key}{size}GB") or cards.get(key) or cards.get(key.replace("PCIE", ""))


def size_in(name: str) -> int | None:
    """Return the GiB that a card's name gives ("A100 80GB"); None if it gives none."""
    match = _SIZE.search(name.upper())
    return int(match[1]) if match else None


def _key(name: str) -> str:
    """Return a card's name without its maker, its memory and all that people spell differently."""
    text = re.sub(r"[^A-Z0-9.]", "", _SIZE.sub("", name.upper()))
    text = re.sub("MOBILE|NOTEBOOK", "LAPTOP", _NAMES_NO_CARD.sub("", text))
    return re.sub(r"^(\d{4}(?:TI)?)S$", r"\1SUPER", text)


@functools.cache
def _by_key() -> dict[str, Card]:
    keys = [(card, size_in(card.name)) for card in CARDS]
    return {_key(card.name) + (f"{size}GB" if size else ""): card for card, size in keys}


def driver_is_here() -> bool:
    """Whether this machine may have a card. Without a driver, importing torch to ask it is unnecessary."""
    return sys.platform != "linux" or any(driver.exists() for driver in _DRIVERS)
