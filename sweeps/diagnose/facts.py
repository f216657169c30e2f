"""Facts about a run beside its curve: sizes, tokens, perplexity, bits per byte, and the card's true utilisation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sweeps.diagnose import usual
from sweeps.diagnose.measured import Measured
from sweeps.text import perplexity
from trainer.errors import ConfigError
from trainer.machine.cards import card_named
from trainer.model.size import flops_per_token

TERA = 1e12
A100 = 312 * TERA
"""FLOP/s in whose units nanoGPT prints mfu, whatever the card"""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Numbers of a run; None: not known."""

    step: int
    """updates done"""
    max_iters: int | None
    """the run's length"""
    loss: float | None
    """median of the last 4 losses, in the curve's unit"""
    lowest: float | None
    """the lowest loss"""
    lowest_step: int | None
    """its step"""
    perplexity: float | None
    """exp of the loss"""
    bits_per_byte: float | None
    """of validation text"""
    vocab_size: int | None
    """tokens in the vocabulary"""
    parameters: int | None
    """position embeddings included where the shape is known"""
    tokens: int | None
    """tokens seen"""
    tokens_per_parameter: float | None
    """tokens seen per parameter"""
    tokens_per_update: int | None
    """tokens per iteration"""
    usual_tokens_per_update: int | None
    """what is usual for the size"""
    epochs: float | None
    """passes through the training data"""
    learning_rate: float | None
    """of the last update"""
    seconds_per_update: float | None
    """median, without evaluations"""
    flops: float | None
    """FLOP per second"""
    card: str | None
    """as given"""
    mfu: float | None
    """share of the card's own dense peak, 16-bit with 32-bit accumulation"""


def facts_of(m: Measured) -> Facts:
    """Return the facts of a run. Raises ConfigError for a card whose peak isn't known."""
    have = len(m.curve.losses) > 0
    loss = m.level if have else m.given.checkpoint_loss
    per_byte = m.reading.unit == "nats per byte"
    flops = _flops(m)
    card = None if m.given.card is None else card_named(m.given.card)
    if m.given.card is not None and card is None:
        raise ConfigError(
            f"--device {m.given.card}: its peak isn't known, so neither is its utilisation; leave it out, or give a "
            'name such as "RTX 4070" or "A100"'
        )
    peak = None if card is None else TERA * card.half
    return Facts(
        step=m.step,
        max_iters=None if m.config is None else m.config.max_iters,
        loss=loss,
        lowest=m.lowest[1] if have else m.given.checkpoint_loss,
        lowest_step=m.lowest[0] if have else m.given.checkpoint_step,
        perplexity=None if loss is None or per_byte else perplexity(loss),
        bits_per_byte=_bits(loss, per_byte=per_byte, bytes_per_token=m.given.bytes_per_token),
        vocab_size=m.vocab_size,
        parameters=m.parameters,
        tokens=m.tokens,
        tokens_per_parameter=m.tokens / m.parameters if m.tokens is not None and m.parameters else None,
        tokens_per_update=m.tokens_per_update,
        usual_tokens_per_update=usual.tokens_per_update(m.parameters) if m.parameters else None,
        epochs=m.epochs,
        learning_rate=m.rate(),
        seconds_per_update=m.seconds_per_update,
        flops=flops,
        card=m.given.card,
        mfu=None if flops is None or peak is None else flops / peak,
    )


def _bits(loss: float | None, *, per_byte: bool, bytes_per_token: float | None) -> float | None:
    if loss is None or not (per_byte or bytes_per_token):
        return None
    return loss / math.log(2) / (1.0 if per_byte else bytes_per_token or 1.0)


def _flops(m: Measured) -> float | None:
    """Return FLOP per second: from the size and the time per update, else from the printed mfu."""
    seconds, tokens = m.seconds_per_update, m.tokens_per_update
    if m.config is not None and m.vocab_size is not None and seconds and tokens:
        return flops_per_token(m.config, m.vocab_size) * tokens / seconds
    printed = [entry.mfu for entry in m.run.iters if entry.mfu is not None]
    return float(np.max(printed)) * A100 if printed and m.run.trainer == "nanoGPT" else None
