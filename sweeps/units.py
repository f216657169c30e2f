"""Losses and tokens in the units that people think in."""

from __future__ import annotations

import math

from sweeps.results import DataFacts, Results
from trainer.config import TrainConfig

MANY_EPOCHS = 4.0
"""repetitions up to which repeated tokens are about as good as fresh ones (Muennighoff et al. 2023, 2305.16264)"""


def epochs(config: TrainConfig, data: DataFacts) -> float:
    """Times that a whole run goes over the training tokens that it has."""
    return config.max_iters * config.tokens_per_iter / (config.data_fraction * data.train_tokens)


def perplexity(loss: float) -> float:
    """exp of a loss in nats: the number of tokens that it is as uncertain as a fair choice of."""
    return math.exp(loss) if loss < 700 else math.inf


def bits_per_byte(loss: float, results: Results) -> float | None:
    """A loss in nats a token as bits a byte of text, comparable across tokenizers; None: bytes unknown."""
    size = results.data.bytes_per_token
    return None if size is None else loss / math.log(2) / size


def in_other_units(loss: float, reference: float, results: Results) -> str:
    """A loss and what it is held against, in nats, as perplexities and bits a byte."""
    text = f"perplexity {perplexity(loss):.4g} instead of {perplexity(reference):.4g}"
    bits, reference_bits = bits_per_byte(loss, results), bits_per_byte(reference, results)
    if bits is None or reference_bits is None:
        return text
    return f"{text}, {bits:.3f} bits a byte instead of {reference_bits:.3f}"
