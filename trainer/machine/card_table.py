"""Published memory and peak speeds of graphics cards and accelerators since 2018, by name.

Peaks are dense TFLOP/s of matrix products, at the maker's boost clock:

- 16 bits on tensor or matrix cores with 32-bit accumulation, without sparsity. bfloat16 is as fast as float16 on
  cards that have it, except the MI100.
- TF32 where the card has it, and plain float32.

Sources:

- GeForce: NVIDIA's architecture whitepapers (Turing, GA102, Ada, RTX Blackwell), tables of specifications. Their
  16-bit peak is 4 x cores x boost clock from Ampere on, and 8 x before.
- Laptop parts: NVIDIA's comparison of GeForce laptops, cores at the highest boost clock (30 series) or AI TOPS (40
  series: eighths, 50 series: sixteenths, which are 16 bits). Laptops with less power are slower.
- RTX and Quadro workstation cards, A, L, H, B series: NVIDIA's data sheets. Numbers "with sparsity" are halved.
- Radeon and Instinct: AMD's product specifications, peak matrix performance. An MI250 appears as two devices; the row
  is one of them.

The rows were entered without the data sheets at hand, and checked only against each other (cores x clock). Where a
number matters, `sweep plan --memory --peak` sets it.

A card sold with several memory sizes is planned with the first, unless its name gives the size. GiB as CUDA reports
them: T4, A10 and A10G reserve some for error correction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card. Peaks are dense TFLOP/s."""

    name: str
    memory: tuple[int, ...]
    """GiB, by variant"""
    float16: float
    bfloat16: float | None
    """None: the card doesn't have it, and trains in float16"""
    tf32: float | None
    float32: float

    @property
    def half(self) -> float:
        """Peak in bfloat16, or in float16 where the card has no bfloat16."""
        return self.float16 if self.bfloat16 is None else self.bfloat16

    @property
    def single(self) -> float:
        """Peak of float32 products as the trainer makes them: in TF32 where the card has it."""
        return self.tf32 or self.float32

    @property
    def laptop(self) -> bool:
        """Whether this is a laptop part."""
        return self.name.endswith("Laptop")


Row = tuple[float, int] | tuple[float, int, int]
"""TFLOP/s in 16 bits, and GiB of memory by variant"""

_GEFORCE: dict[str, Row] = {
    "RTX 3050": (18.2, 8),
    "RTX 3050 6GB": (13.5, 6),
    "RTX 3060": (25.5, 12),
    "RTX 3060 Ti": (32.4, 8),
    "RTX 3070": (40.6, 8),
    "RTX 3070 Ti": (43.5, 8),
    "RTX 3080": (59.5, 10),
    "RTX 3080 12GB": (61.3, 12),
    "RTX 3080 Ti": (68.2, 12),
    "RTX 3090": (71.2, 24),
    "RTX 3090 Ti": (80.0, 24),
    "RTX 4060": (30.2, 8),
    "RTX 4060 Ti": (44.1, 8, 16),
    "RTX 4070": (58.3, 12),
    "RTX 4070 Super": (71.0, 12),
    "RTX 4070 Ti": (80.2, 12),
    "RTX 4070 Ti Super": (88.2, 16),
    "RTX 4080": (97.5, 16),
    "RTX 4080 Super": (104.4, 16),
    "RTX 4090": (165.2, 24),
    "RTX 4090 D": (147.1, 24),
    "RTX 5050": (26.3, 8),
    "RTX 5060": (38.4, 8),
    "RTX 5060 Ti": (47.4, 8, 16),
    "RTX 5070": (61.7, 12),
    "RTX 5070 Ti": (87.9, 16),
    "RTX 5080": (112.6, 16),
    "RTX 5090": (209.5, 32),
    "RTX 3050 Laptop": (14.3, 4),
    "RTX 3050 6GB Laptop": (15.3, 6),
    "RTX 3050 Ti Laptop": (17.4, 4),
    "RTX 3060 Laptop": (26.2, 6),
    "RTX 3070 Laptop": (33.2, 8),
    "RTX 3070 Ti Laptop": (35.0, 8),
    "RTX 3080 Laptop": (42.0, 8, 16),
    "RTX 3080 Ti Laptop": (47.2, 16),
    "RTX 4050 Laptop": (24.3, 6),
    "RTX 4060 Laptop": (29.1, 8),
    "RTX 4070 Laptop": (40.1, 8),
    "RTX 4080 Laptop": (67.8, 12),
    "RTX 4090 Laptop": (85.8, 16),
    "RTX 5050 Laptop": (27.5, 8),
    "RTX 5060 Laptop": (35.8, 8),
    "RTX 5070 Laptop": (49.9, 8),
    "RTX 5070 Ti Laptop": (62.0, 12),
    "RTX 5080 Laptop": (83.4, 16),
    "RTX 5090 Laptop": (114.0, 24),
    # data-centre cards with GeForce's rates
    "L20": (119.5, 48),
    "L40": (181.0, 48),
    "A10G": (70.0, 22),
}
_WORKSTATION: dict[str, Row] = {
    "RTX A2000": (31.9, 6, 12),
    "RTX A4000": (76.7, 16),
    "RTX A4500": (94.6, 20),
    "RTX A5000": (111.1, 24),
    "RTX A5500": (136.4, 24),
    "RTX A6000": (154.8, 48),
    "RTX 2000 Ada": (48.0, 16),
    "RTX 4000 SFF Ada": (76.7, 20),
    "RTX 4500 Ada": (158.5, 24),
    "RTX 5000 Ada": (261.1, 32),
    "RTX 6000 Ada": (364.2, 48),
    "RTX Pro 6000": (503.8, 96),
    "RTX Pro 6000 Max-Q": (438.9, 96),
    "RTX Pro 6000 Server": (480.0, 96),
    "A2": (18.1, 16),
    "A10": (125.0, 22),
    "A40": (149.7, 48),
    "L4": (121.0, 24),
    "L40S": (362.0, 48),
}
_TURING: dict[str, Row] = {
    "RTX 2060": (25.8, 6),
    "RTX 2060 12GB": (28.7, 12),
    "RTX 2060 Super": (28.7, 8),
    "RTX 2070": (29.9, 8),
    "RTX 2070 Super": (36.2, 8),
    "RTX 2080": (40.3, 8),
    "RTX 2080 Super": (44.6, 8),
    "RTX 2080 Ti": (53.8, 11),
}
_TURING_AT_FULL_RATE: dict[str, Row] = {
    "Titan RTX": (130.5, 24),
    "Quadro RTX 4000": (57.0, 8),
    "Quadro RTX 5000": (89.2, 16),
    "Quadro RTX 6000": (130.5, 24),
    "Quadro RTX 8000": (130.5, 48),
    "T4": (65.0, 15),
    "V100": (125.0, 16, 32),
    "V100 PCIe": (112.0, 16, 32),
    "V100S": (130.0, 32),
}
_WITHOUT_TENSOR_CORES: dict[str, Row] = {
    "GTX 1650": (6.0, 4),
    "GTX 1650 Super": (8.8, 4),
    "GTX 1660": (10.1, 6),
    "GTX 1660 Super": (10.1, 6),
    "GTX 1660 Ti": (10.9, 6),
}
_RDNA3: dict[str, Row] = {
    "RX 7600": (43.5, 8),
    "RX 7600 XT": (45.1, 16),
    "RX 7700 XT": (70.3, 12),
    "RX 7800 XT": (74.6, 16),
    "RX 7900 GRE": (92.0, 16),
    "RX 7900 XT": (103.2, 20),
    "RX 7900 XTX": (122.8, 24),
    "Radeon Pro W7800": (90.5, 32),
    "Radeon Pro W7900": (122.6, 48),
}
_RDNA4: dict[str, Row] = {"RX 9060 XT": (103.0, 8, 16), "RX 9070": (145.0, 16), "RX 9070 XT": (195.0, 16)}

# of one device: 16 bits, TF32, float32, then GiB
_DATA_CENTRE: dict[str, tuple[float, float | None, float, tuple[int, ...]]] = {
    "A30": (165.0, 82.0, 10.3, (24,)),
    "A100": (312.0, 156.0, 19.5, (40, 80)),
    "A800": (312.0, 156.0, 19.5, (40, 80)),
    "H20": (148.0, 74.0, 44.0, (96,)),
    "H100": (989.0, 494.5, 67.0, (80,)),
    "H100 PCIe": (756.0, 378.0, 51.0, (80,)),
    "H100 NVL": (835.0, 417.5, 60.0, (94,)),
    "H200": (989.0, 494.5, 67.0, (141,)),
    "H200 NVL": (836.0, 418.0, 60.0, (141,)),
    "H800": (989.0, 494.5, 67.0, (80,)),
    "GH200": (990.0, 495.0, 67.0, (96, 144)),
    "B100": (1750.0, 875.0, 60.0, (192,)),
    "B200": (2250.0, 1125.0, 75.0, (180, 192)),
    "GB200": (2500.0, 1250.0, 80.0, (186,)),
    "MI210": (181.0, None, 45.3, (64,)),
    "MI250": (181.0, None, 45.3, (64,)),
    "MI250X": (191.5, None, 47.9, (64,)),
    "MI300A": (980.6, 490.3, 122.6, (128,)),
    "MI300X": (1307.4, 653.7, 163.4, (192,)),
    "MI325X": (1307.4, 653.7, 163.4, (256,)),
    "MI350X": (2306.9, None, 144.2, (288,)),
    "MI355X": (2516.6, None, 157.3, (288,)),
}


def _family(
    rows: Mapping[str, Row], *, float32: float, tf32: float | None = None, bfloat16: bool = True
) -> Iterator[Card]:
    """Yield cards whose other peaks are fixed multiples of the one in 16 bits."""
    for name, (peak, *memory) in rows.items():
        yield Card(
            name=name,
            memory=tuple(memory),
            float16=peak,
            bfloat16=peak if bfloat16 else None,
            tf32=None if tf32 is None else peak * tf32,
            float32=peak * float32,
        )


CARDS: tuple[Card, ...] = (
    *_family(_GEFORCE, tf32=1 / 2, float32=1 / 2),
    *_family(_WORKSTATION, tf32=1 / 2, float32=1 / 4),
    *_family(_TURING, float32=1 / 4, bfloat16=False),
    *_family(_TURING_AT_FULL_RATE, float32=1 / 8, bfloat16=False),
    *_family(_WITHOUT_TENSOR_CORES, float32=1 / 2, bfloat16=False),
    *(
        Card(name=name, memory=memory, float16=half, bfloat16=half, tf32=tf32, float32=float32)
        for name, (half, tf32, float32, memory) in _DATA_CENTRE.items()
    ),
    *_family(_RDNA3, float32=1 / 2),
    *_family(_RDNA4, float32=1 / 4),
    Card(name="MI100", memory=(32,), float16=184.6, bfloat16=92.3, tf32=None, float32=46.1),
)
