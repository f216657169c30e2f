"""Losses and tokens in the units that people think in."""

from __future__ import annotations

import math

from sweeps.results import Results
from trainer.config import TrainConfig

MANY_EPOCHS = 4.0
"""repetitions up to which repeated tokens are about as good as fresh ones (Muennighoff et al. 2023, 2305.16264)"""


def epochs(config: TrainConfig, results: Results) -> float:
    """Times that a whole run goes over the training tokens."""
    return config.max_iters * config.tokens_per_iter / results.data.train_tokens


def perplexity(loss: float) -> float:
    """exp of a loss in nats: the number of tokens that it is as uncertain as a fair choice of."""
    return math.exp(loss) if loss < 700 else math.inf


def bits_per_byte(loss: float, results: Results) -> float | None:
    """A loss in nats a token as bits a byte of text, comparable across tokenizers; None: bytes unknown."""
    size = results.data.bytes_per_token
    return None if size is None else loss / math.log(2) / size
