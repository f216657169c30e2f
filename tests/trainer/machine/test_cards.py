"""Cards by name: their dense peak, and sizes of memory in words."""

from __future__ import annotations

import pytest

from trainer.errors import ConfigError
from trainer.machine.cards import bytes_of, dense_peak


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA GeForce RTX 4070", 58.3),
        ("NVIDIA GeForce RTX 4070 SUPER", 71.0),
        ("NVIDIA GeForce RTX 4070 Ti", 80.2),
        ("RTX 4070", 58.3),
        ("rtx 4070 super", 71.0),
        ("4070 S", 71.0),
        ("4070Ti", 80.2),
        ("RTX 4060Ti", 44.1),
        ("NVIDIA GeForce RTX 5090", 209.5),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA A10", 125),
        ("NVIDIA RTX A4000", 76.7),
        ("Tesla T4", 65),
        ("Tesla V100-SXM2-16GB", 125),
        ("Tesla V100-PCIE-16GB", 112),
        # different chips, or slices of a chip, whose names contain a known name
        ("NVIDIA GeForce RTX 4070 Ti SUPER", None),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 3060 Ti", None),
        ("NVIDIA A10G", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA L40", None),
        ("NVIDIA GeForce GTX 1080", None),
        ("NVIDIA", None),
        ("", None),
    ],
)
def test_dense_peak(name, tflops):
    assert dense_peak(name) == (None if tflops is None else pytest.approx(tflops * 1e12))


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
