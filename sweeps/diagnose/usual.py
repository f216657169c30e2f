"""Usual values of settings by the size of the model, each with its source. They are marks, not optima."""

from __future__ import annotations

import math

TOKENS_PER_PARAMETER = 20
"""tokens per parameter at which both bring about as much (Hoffmann et al. 2022)"""
WARM_UP = 0.1
"""share of a run above which a warm-up is long: published recipes have 0.3 % to 5 %"""
WEIGHT_DECAY = 0.1
"""of nanoGPT, GPT-3 and Llama"""
FROM = 8
"""factor by which a setting must differ from the usual to be named alone: the published ones differ by up to 4"""


def learning_rate(parameters: int) -> float:
    """Return the rate that Kaplan et al. 2020 (equation D.1) found best for N parameters, `0.003239 - 0.0001395 ln N`.

    It is 1.6e-3 for 100,000 parameters and 6.4e-4 for GPT-2's 124 million. The least is 2e-4, for a billion and more.
    """
    return max(0.003239 - 0.0001395 * math.log(parameters), 2e-4)


def tokens_per_update(parameters: int) -> int:
    """Return the tokens per update of nanoGPT's own recipes, on a straight line in the logarithms.

    They are 16,384 for the character model of 10.7 million parameters and 491,520 for GPT-2's 124 million. GPT-3 has
    500,000 to 3,200,000, so that the line ends at 500,000; below the character model it stays at 1,024 or more.
    """
    small, large = (10.7e6, 16_384), (124e6, 491_520)
    power = math.log(large[1] / small[1]) / math.log(large[0] / small[0])
    return round(min(max(float(small[1] * (parameters / small[0]) ** power), 1024.0), 500_000.0))
