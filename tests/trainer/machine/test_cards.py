"""Cards by name: their memory and dense peaks, and sizes of memory in words."""

from __future__ import annotations

import pytest

from trainer.errors import ConfigError
from trainer.machine.card_table import CARDS, Card
from trainer.machine.cards import bytes_of, card_named, size_in


def card(name: str) -> Card:
    found = card_named(name)
    assert found is not None, name
    return found


@pytest.mark.parametrize(
    ("spellings", "name"),
    [
        (["NVIDIA GeForce RTX 4070", "RTX 4070", "rtx4070", "4070", "geforce rtx 4070", "RTX-4070"], "RTX 4070"),
        (["NVIDIA GeForce RTX 4070 SUPER", "rtx 4070 super", "4070 S", "4070s", "RTX4070SUPER"], "RTX 4070 Super"),
        (["NVIDIA GeForce RTX 4070 Ti", "4070Ti", "rtx 4070ti"], "RTX 4070 Ti"),
        (["NVIDIA GeForce RTX 4070 Ti SUPER", "4070 Ti SUPER", "4070tisuper", "4070 Ti S"], "RTX 4070 Ti Super"),
        (["NVIDIA GeForce RTX 3060 Laptop GPU", "3060 Laptop", "rtx 3060 mobile"], "RTX 3060 Laptop"),
        (["NVIDIA GeForce RTX 4090 D", "4090D"], "RTX 4090 D"),
        (["NVIDIA GeForce RTX 3050 6GB Laptop GPU"], "RTX 3050 6GB Laptop"),
        (["NVIDIA GeForce RTX 3080 12GB", "3080 12 GB"], "RTX 3080 12GB"),
        (["NVIDIA GeForce RTX 3080", "3080 10GB"], "RTX 3080"),
        (["NVIDIA GeForce GTX 1660 Ti", "1660ti"], "GTX 1660 Ti"),
        (["NVIDIA TITAN RTX", "titan rtx"], "Titan RTX"),
        (["Quadro RTX 6000", "NVIDIA Quadro RTX 6000"], "Quadro RTX 6000"),
        (["NVIDIA RTX 6000 Ada Generation", "rtx 6000 ada"], "RTX 6000 Ada"),
        (["NVIDIA RTX A6000", "a6000"], "RTX A6000"),
        (["NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx pro 6000"], "RTX Pro 6000"),
        (["NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition"], "RTX Pro 6000 Max-Q"),
        (["NVIDIA RTX PRO 6000 Blackwell Server Edition"], "RTX Pro 6000 Server"),
        (["Tesla T4", "t4"], "T4"),
        (["Tesla V100-SXM2-16GB", "V100"], "V100"),
        (["Tesla V100-PCIE-16GB"], "V100 PCIe"),
        (["Tesla V100S-PCIE-32GB"], "V100S"),
        (["NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe", "A100 40GB"], "A100"),
        (["NVIDIA A10", "A10 24GB"], "A10"),
        (["NVIDIA A10G"], "A10G"),
        (["NVIDIA L4"], "L4"),
        (["NVIDIA L40S"], "L40S"),
        (["NVIDIA H100 80GB HBM3", "H100 SXM5"], "H100"),
        (["NVIDIA H100 PCIe"], "H100 PCIe"),
        (["NVIDIA H100 NVL"], "H100 NVL"),
        (["NVIDIA H200"], "H200"),
        (["NVIDIA GH200 480GB"], "GH200"),
        (["NVIDIA B200"], "B200"),
        (["AMD Radeon RX 7900 XTX", "rx7900xtx", "7900 XTX"], "RX 7900 XTX"),
        (["AMD Radeon PRO W7900", "W7900"], "Radeon Pro W7900"),
        (["AMD Instinct MI300X", "mi300x", "AMD Instinct MI300X OAM"], "MI300X"),
    ],
)
def test_a_name_in_any_spelling(spellings: list[str], name: str) -> None:
    assert {spelling: card(spelling).name for spelling in spellings} == dict.fromkeys(spellings, name)


@pytest.mark.parametrize(
    "name",
    [
        # slower chips, or slices of a chip, whose names contain a known name
        "NVIDIA GeForce RTX 2070 with Max-Q Design",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA GeForce GTX 1080",
        "GeForce RTX 40700",
        "RTX 6000 something",
        "NVIDIA",
        "",
    ],
)
def test_a_name_with_an_unknown_word_is_unknown(name: str) -> None:
    assert card_named(name) is None


def test_every_card_is_found_by_its_own_name_and_no_two_have_one() -> None:
    assert {entry.name: card(entry.name) for entry in CARDS} == {entry.name: entry for entry in CARDS}
    assert len({entry.name for entry in CARDS}) == len(CARDS)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("RTX 4070", 58.3), ("RTX 4070 Ti", 80.2), ("RTX 5090", 209.5), ("A100", 312), ("H100", 989), ("L4", 121),
        ("H100 PCIe", 756), ("L40S", 362), ("A10", 125), ("RTX A4000", 76.7), ("T4", 65), ("V100", 125),
        ("MI300X", 1307.4), ("MI100", 92.3),
    ],
)  # fmt: skip
def test_dense_peaks_in_the_data_sheets(name: str, tflops: float) -> None:
    assert card(name).half == tflops


# cores and boost clock in GHz; a core makes two float32 operations per clock, outside of tensor cores
CORES = {
    "GTX 1650": (896, 1.665), "GTX 1660 Ti": (1536, 1.77), "RTX 2060": (1920, 1.68), "RTX 2060 Super": (2176, 1.65),
    "RTX 2070 Super": (2560, 1.77), "RTX 2080": (2944, 1.71), "RTX 2080 Ti": (4352, 1.545), "Titan RTX": (4608, 1.77),
    "T4": (2560, 1.59), "RTX 3050": (2560, 1.777), "RTX 3050 6GB": (2304, 1.47), "RTX 3060": (3584, 1.777),
    "RTX 3060 Ti": (4864, 1.665), "RTX 3070": (5888, 1.725), "RTX 3070 Ti": (6144, 1.77), "RTX 3080": (8704, 1.71),
    "RTX 3080 12GB": (8960, 1.71), "RTX 3080 Ti": (10240, 1.665), "RTX 3090": (10496, 1.695),
    "RTX 3090 Ti": (10752, 1.86), "RTX 4060": (3072, 2.46), "RTX 4060 Ti": (4352, 2.535), "RTX 4070": (5888, 2.475),
    "RTX 4070 Super": (7168, 2.475), "RTX 4070 Ti": (7680, 2.61), "RTX 4070 Ti Super": (8448, 2.61),
    "RTX 4080": (9728, 2.505), "RTX 4080 Super": (10240, 2.55), "RTX 4090": (16384, 2.52), "RTX 4090 D": (14592, 2.52),
    "RTX 5050": (2560, 2.572), "RTX 5060": (3840, 2.497), "RTX 5060 Ti": (4608, 2.572), "RTX 5070": (6144, 2.512),
    "RTX 5070 Ti": (8960, 2.452), "RTX 5080": (10752, 2.617), "RTX 5090": (21760, 2.407), "RTX A2000": (3328, 1.2),
    "RTX A4000": (6144, 1.56), "RTX A4500": (7168, 1.65), "RTX A5000": (8192, 1.695), "RTX A6000": (10752, 1.8),
    "A10": (9216, 1.695), "A40": (10752, 1.74), "A100": (6912, 1.41), "RTX 2000 Ada": (2816, 2.13),
    "RTX 4500 Ada": (7680, 2.58), "RTX 5000 Ada": (12800, 2.55), "RTX 6000 Ada": (18176, 2.505), "L4": (7424, 2.04),
    "L40": (18176, 2.49), "L40S": (18176, 2.52), "RTX Pro 6000": (24064, 2.617), "V100": (5120, 1.53),
    "RTX 3060 Laptop": (3840, 1.703), "RTX 3070 Laptop": (5120, 1.62), "RTX 3080 Laptop": (6144, 1.71),
    "RTX 3080 Ti Laptop": (7424, 1.59),
}  # fmt: skip


@pytest.mark.parametrize("name", CORES)
def test_float32_is_two_operations_per_core_and_clock(name: str) -> None:
    cores, clock = CORES[name]
    assert card(name).float32 == pytest.approx(2 * cores * clock / 1000, rel=0.015)


def test_families_have_the_types_that_their_chips_have() -> None:
    without = {entry.name for entry in CARDS if entry.bfloat16 is None}
    turing = {name for name in without if name.startswith(("RTX 20", "GTX 16", "Titan", "Quadro"))}
    assert without - turing == {"T4", "V100", "V100 PCIe", "V100S"}
    assert len(turing) == 8 + 5 + 5
    assert (card("3060 Laptop").laptop, card("3060").laptop) == (True, False)
    assert sum(entry.laptop for entry in CARDS) >= 15
    for entry in CARDS:
        assert entry.float32 <= entry.single <= entry.half <= entry.float16, entry.name
        assert all(2 <= size <= 288 for size in entry.memory)
        assert list(entry.memory) == sorted(entry.memory)


@pytest.mark.parametrize(
    ("name", "size"),
    [("A100 80GB", 80), ("A100-SXM4-40GB", 40), ("4060 Ti 16 GB", 16), ("A100 MIG 1g.5gb", None), ("RTX 4070", None)],
)
def test_a_name_may_give_the_memory(name: str, size: int | None) -> None:
    assert size_in(name) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [("12GiB", 12 << 30), ("12 GB", 12 << 30), ("7.5gb", 15 << 29), ("800MiB", 800 << 20), (" 1 mb ", 1 << 20)],
)
def test_sizes(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "12", "GiB", "-1GiB", "0GiB", "12TiB", "12GiBs"])
def test_texts_that_are_not_sizes(text):
    with pytest.raises(ConfigError, match="is not a size such as 12GiB"):
        bytes_of(text)
